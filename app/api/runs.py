"""Runs: listed, shown, and asked for again by hand."""

import uuid
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import Res, Session
from app.api.paging import make_cursor, read_id_cursor
from app.api.run_schemas import MoveOut, RunDetailOut, RunListIn, RunOut
from app.api.schemas import Page
from app.resources import Resources
from app.runs import listing
from app.runs.waiting import waiting_for

router = APIRouter(prefix="/v1/runs", tags=["runs"])


@router.get("")
async def list_runs(res: Res, session: Session, asked: Annotated[RunListIn, Query()]) -> Page[RunOut]:
    """All runs that match, newest first."""
    before = None if asked.cursor is None else read_id_cursor("runs", asked.cursor)
    found = await listing.list_runs(session, asked.filters(), before=before, limit=asked.limit + 1)
    shown = await _shown(res, session, found[: asked.limit])
    return Page(data=shown, next_cursor=make_cursor("runs", str(shown[-1].id)) if len(found) > len(shown) else None)


@router.get("/{run_id}")
async def show_run(res: Res, session: Session, run_id: uuid.UUID) -> RunDetailOut:
    """One run, with its history."""
    return await shown_in_full(res, session, run_id)


async def shown_in_full(res: Resources, session: AsyncSession, run_id: uuid.UUID) -> RunDetailOut:
    """A run with its history. Raises NotFound."""
    (run,) = await _shown(res, session, [await listing.get_run(session, run_id)])
    moves = [MoveOut.model_validate(dict(move)) for move in await listing.history(session, run_id)]
    return RunDetailOut(**dict(run), history=moves)


async def _shown(res: Resources, session: AsyncSession, found: Sequence[RowMapping]) -> list[RunOut]:
    waiting = await waiting_for(res, session, [run["id"] for run in found])
    derived = [{"file": listing.file_of(run), "waiting": waiting.get(run["id"])} for run in found]
    return [RunOut.model_validate(dict(run) | more) for run, more in zip(found, derived, strict=True)]
