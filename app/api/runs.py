"""Runs: list, show, create, retry, cancel."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.accounts import reconciliations
from app.api import checks
from app.api.http.dependencies import CalledBy, Res, Session, Terms
from app.api.http.paging import bad_cursor, page_of, read_cursor, read_id_cursor, read_time
from app.api.named_rule import rule_id_of
from app.api.schemas.common import Page
from app.api.schemas.runs import MoveOut, RemoveIn, RetriedOut, RetryIn, RunDetailOut, RunIn, RunListIn, RunOut
from app.planning.dates import LocalDates, local_dates
from app.resources import ClaimTerms, Resources
from app.runs import ad_hoc, listing, manual
from app.runs.ad_hoc import AdHoc
from app.runs.listing import Position, ShownRun
from app.runs.waiting import waiting_for
from app.tables.checks.listing import verdicts_of
from app.tables.listing import loads_of
from app.upkeep import retention
from app.vocabulary import RunOrder, RunState

router = APIRouter(prefix="/v1/runs", tags=["runs"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Up to 255 printable characters. Requests with the same key are carried out once.",
    ),
]


@router.get("")
async def list_runs(session: Session, asked: Annotated[RunListIn, Query()], terms: Terms) -> Page[RunOut]:
    """All runs that match, in the requested order."""
    filters = replace(asked.filters(), rule_id=await rule_id_of(session, asked))
    after = None if asked.cursor is None else _place(asked.order, asked.cursor)
    found = await listing.list_runs(session, filters, limit=asked.limit + 1, order=asked.order, after=after)
    rows = {row.id: row for row in found}
    page = await shown(session, found, terms)
    return page_of(f"runs{asked.order}", page, asked.limit, lambda run: _key(asked.order, rows[run.id]))


def _key(order: RunOrder, run: ShownRun) -> list[str]:
    match order:
        case RunOrder.PLANNED:
            return [str(run.id)]
        case RunOrder.WINDOW:
            return ["" if run.day is None else str(run.day), str(run.id)]
        case RunOrder.STORED:
            return ["" if run.stored_at is None else run.stored_at.isoformat(), str(run.id)]


def _place(order: RunOrder, cursor: str) -> Position:
    kind = f"runs{order}"
    try:
        match order:
            case RunOrder.PLANNED:
                return Position(read_id_cursor(kind, cursor))
            case RunOrder.WINDOW:
                day, run_id = read_cursor(kind, cursor, parts=2)
                return Position(uuid.UUID(run_id), day=date.fromisoformat(day) if day else None)
            case RunOrder.STORED:
                moment, run_id = read_cursor(kind, cursor, parts=2)
                return Position(uuid.UUID(run_id), stored_at=read_time(moment))
    except ValueError as error:
        raise bad_cursor() from error


@router.get("/{run_id:uuid}")
async def show_run(session: Session, run_id: uuid.UUID, terms: Terms) -> RunDetailOut:
    """One run, with its history and the verdicts about its file."""
    return await shown_in_full(session, run_id, terms)


@router.post("", status_code=201)
async def create_run(res: Res, caller: CalledBy, new: RunIn, response: Response, key: IdempotencyKey = None) -> RunOut:
    """Create a run without a rule. With an `Idempotency-Key` a repeated request gets the first run."""
    asked = AdHoc(**{name: getattr(new, name) for name in RunIn.model_fields})
    ad_hoc.check(asked, list(res.settings.accounts))
    request_key = None if key is None else f"{_unslashed(caller.name)}/{key}"
    async with res.sessions.begin() as session:
        run_id, is_new = await ad_hoc.plan(
            session, asked, attempts=res.settings.max_run_attempts, by=caller.name, request_key=request_key
        )
        if await _is_unknown(session, asked):
            await reconciliations.make_due(session, asked.account)
        (answer,) = await shown(session, [await listing.get_run(session, run_id)], res.claim_terms)
    response.headers["Location"] = f"/v1/runs/{run_id}"
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return answer


def _unslashed(name: str) -> str:
    """A token's name without slashes, and different for each name: what follows the first slash is the key."""
    return name.replace("%", "%25").replace("/", "%2F")


@router.post("/retry", status_code=202)
async def retry_runs(
    res: Res, caller: CalledBy, asked: Annotated[RetryIn, Query()], body: RetryIn | None = None
) -> RetriedOut:
    """Retry every failed run that matches the filters, given in the query or the body; or the runs in `ids`."""
    wanted = (body or asked).model_copy(update=asked.model_dump(exclude_none=True))
    if wanted.ids is not None:
        return RetriedOut(retried=await _retry_these(res, wanted.ids, by=caller.name))
    async with res.sessions.begin() as session:
        filters = replace(wanted.filters(), rule_id=await rule_id_of(session, wanted))
    filters = replace(filters, state=filters.state or RunState.FAILED)
    return RetriedOut(retried=await manual.retry_matching(res, filters, by=caller.name))


@router.post("/{run_id:uuid}/retry", status_code=202)
async def retry_run(res: Res, caller: CalledBy, run_id: uuid.UUID) -> RunDetailOut:
    """Retry a failed or cancelled run, with as many attempts as a new one."""
    async with res.sessions.begin() as session:
        await manual.retry(session, run_id, attempts=res.settings.max_run_attempts, by=caller.name)
        return await shown_in_full(session, run_id, res.claim_terms)


@router.post("/{run_id:uuid}/cancel")
async def cancel_run(res: Res, caller: CalledBy, run_id: uuid.UUID) -> RunDetailOut:
    """Cancel a run that is not stored yet: its file will not be downloaded."""
    async with res.sessions.begin() as session:
        await manual.cancel(session, run_id, by=caller.name)
        return await shown_in_full(session, run_id, res.claim_terms)


@router.post("/{run_id:uuid}/file/remove", status_code=202)
async def remove_file(res: Res, caller: CalledBy, run_id: uuid.UUID, asked: RemoveIn) -> RunDetailOut:
    """Erase a run's file, its rows and its objects for good: 410 from now on. The run and the facts about it stay. To
    have Stripe make the report again, as the next revision, use a backfill with `rerun`."""
    async with res.sessions.begin() as session:
        await retention.remove_manually(session, run_id, reason=asked.reason, by=caller.name)
        return await shown_in_full(session, run_id, res.claim_terms)


async def _is_unknown(session: AsyncSession, asked: AdHoc) -> bool:
    known = await report_types.read(session, asked.account, asked.report_type)
    return known is None or known.availability is None


async def _retry_these(res: Resources, run_ids: Sequence[uuid.UUID], *, by: str) -> int:
    """All of them or none. Raises NotFound, Conflict."""
    async with res.sessions.begin() as session:
        for run_id in dict.fromkeys(run_ids):
            await manual.retry(session, run_id, attempts=res.settings.max_run_attempts, by=by)
    return len(set(run_ids))


async def shown_in_full(session: AsyncSession, run_id: uuid.UUID, terms: ClaimTerms) -> RunDetailOut:
    """A run with its history and the verdicts about its file. Raises NotFound."""
    (run,) = await shown(session, [await listing.get_run(session, run_id)], terms)
    moves = [MoveOut.model_validate(move) for move in await listing.history(session, run_id)]
    verdicts = [checks.shown(verdict) for verdict in await verdicts_of(session, run_id)]
    return RunDetailOut(**dict(run), history=moves, checks=verdicts)


async def shown(session: AsyncSession, found: Sequence[ShownRun], terms: ClaimTerms) -> list[RunOut]:
    """Rows of `listing` as answers, with what they wait for."""
    waiting = await waiting_for(session, [run.id for run in found], terms)
    loads = await loads_of(session, [run.id for run in found])
    return [
        RunOut.model_validate(
            {name: getattr(run, name) for name in ShownRun.__slots__}
            | {"load": loads.get(run.id), "waiting": waiting.get(run.id), "window": window_of(run)}
        )
        for run in found
    ]


def window_of(run: ShownRun) -> LocalDates | None:
    """The window of a run in local dates; None if its report type takes no interval."""
    if run.interval_start is None or run.interval_end is None:
        return None
    return local_dates(run.interval_start, run.interval_end, run.timezone or "UTC")
