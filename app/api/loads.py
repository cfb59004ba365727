"""Loads: the state of each file's rows; the facts about a file, its rows, and how it differs from an earlier
revision."""

import json
import uuid
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import make_cursor, page_of, read_number_cursor, read_text_cursor
from app.api.http.tokens import Caller
from app.api.named_rule import rule_id_of
from app.api.runs import shown_in_full
from app.api.schemas.common import Page
from app.api.schemas.runs import RunDetailOut
from app.api.schemas.tables import (
    DiffIn,
    DiffOut,
    DiffRowOut,
    FactsOut,
    LoadDetailOut,
    LoadListIn,
    LoadMatchingIn,
    LoadsAskedOut,
    RowOut,
    RowsIn,
    SumOut,
)
from app.errors import Forbidden
from app.tables import listing, manual
from app.tables.listing import LoadFilters
from app.vocabulary import Role

router = APIRouter(prefix="/v1", tags=["tables"])


@router.get("/loads")
async def list_loads(session: Session, asked: Annotated[LoadListIn, Query()]) -> Page[LoadDetailOut]:
    """All loads that match, newest first."""
    before = None if asked.cursor is None else read_number_cursor("loads", asked.cursor)
    filters = replace(asked.filters(), rule_id=await rule_id_of(session, asked))
    found = await listing.list_loads(session, filters, before=before, limit=asked.limit + 1)
    return page_of("loads", [LoadDetailOut.model_validate(one) for one in found], asked.limit, lambda load: [load.id])


@router.post("/loads", status_code=202)
async def load_matching(res: Res, caller: CalledBy, asked: LoadMatchingIn) -> LoadsAskedOut:
    """Load every stored file that matches and is not loaded yet or failed to load, even if older than the tables;
    not those of rules that are `off`."""
    async with res.sessions.begin() as session:
        filters = LoadFilters(asked.state, asked.table, await rule_id_of(session, asked), asked.account)
    loads = await manual.load_matching(res, filters, again=asked.again, by=caller.name)
    return LoadsAskedOut(loads=loads)


@router.post("/runs/{run_id:uuid}/load", status_code=202)
async def load_run(res: Res, caller: CalledBy, run_id: uuid.UUID) -> RunDetailOut:
    """Load this run's file, even if it is already loaded."""
    async with res.sessions.begin() as session:
        await manual.load_run(session, run_id, by=caller.name)
        return await shown_in_full(session, run_id, res.claim_terms)


@router.get("/runs/{run_id:uuid}/facts")
async def show_facts(session: Session, run_id: uuid.UUID) -> FactsOut:
    """The facts about the run's file: its rows, header and sums."""
    return await facts_of(session, run_id)


async def facts_of(session: AsyncSession, run_id: uuid.UUID) -> FactsOut:
    """The facts of a loaded file. Raises NotFound, Conflict, Gone."""
    load = await listing.get_load(session, run_id, loaded=True)
    sums = [SumOut.model_validate(one) for one in await listing.sums_of(session, load)]
    unique = None if load.key_repeats is None else load.key_repeats == 0
    return FactsOut(
        rows=load.rows or 0,
        header=load.header or [],
        header_sha256=load.header_sha256 or "",
        set_aside=load.set_aside or [],
        first_created=load.first_created,
        last_created=load.last_created,
        key_unique=unique,
        net_breaks=load.net_breaks,
        sums=sums,
    )


@router.get("/runs/{run_id:uuid}/rows")
async def list_rows(
    session: Session, caller: CalledBy, run_id: uuid.UUID, asked: Annotated[RowsIn, Query()]
) -> Page[RowOut]:
    """The rows of the run's file in order; by default without personal columns."""
    _check_personal(caller, asked.personal)
    load = await listing.get_load(session, run_id, loaded=True)
    after = 0 if asked.cursor is None else read_number_cursor("rows", asked.cursor)
    found = await listing.rows_of(session, load, after=after, limit=asked.limit + 1, personal=asked.personal)
    return page_of("rows", [RowOut.model_validate(row) for row in found], asked.limit, lambda row: [row.row])


@router.get("/runs/{run_id:uuid}/diff")
async def show_diff(
    session: Session, caller: CalledBy, run_id: uuid.UUID, asked: Annotated[DiffIn, Query()]
) -> DiffOut:
    """How the run's file differs from an earlier revision of its window."""
    _check_personal(caller, asked.personal)
    load = await listing.get_load(session, run_id, loaded=True)
    pair = await listing.pair_of(session, load, asked.against)
    summed = await listing.compare(session, load, pair)
    answer = DiffOut.model_validate(summed)
    if asked.rows is None:
        return answer
    after = "" if asked.cursor is None else read_text_cursor("diff", asked.cursor)
    rows = await listing.diff_rows(
        session, load, pair, asked.rows, after=after, limit=asked.limit + 1, personal=asked.personal
    )
    more = rows[: asked.limit]
    cursor = make_cursor("diff", json.dumps(more[-1].key)) if len(rows) > asked.limit else None
    return answer.model_copy(update={"data": [_row(one) for one in more], "next_cursor": cursor})


def _row(row: listing.DiffRow) -> DiffRowOut:
    return DiffRowOut(row=row.row, before=row.old, after=row.new)


def _check_personal(caller: Caller, personal: bool) -> None:
    if personal and caller.role is not Role.ADMIN:
        raise Forbidden("personal columns need a token with role admin")
