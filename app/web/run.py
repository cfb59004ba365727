"""A run: why is it not here? Can I trust it? Its history, the first rows of its file, its other revisions."""

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import groupby
from typing import Any, Literal

from sqlalchemy import text
from starlette.responses import Response

from app.api import run_file
from app.api.schemas.common import In
from app.db.rows import fetch, fetch_first
from app.errors import FileIsGone, Gone, StoreAway
from app.runs import listing
from app.runs.listing import ShownRun
from app.runs.waiting import waiting_for
from app.tables import amounts
from app.tables.checks.inputs import ENDING, STARTING
from app.tables.checks.listing import ShownCheck, verdicts_of
from app.tables.facts import TOTAL_LINE
from app.tables.listing import ShownSum
from app.vocabulary import RunState
from app.web.calendar import dates_of, state_of
from app.web.forms import checked
from app.web.preview import Preview, preview_of, zone_of
from app.web.visit import Visit, get
from app.web.why import needs_change, seen_state, why_not_here
from app.web.words import days as in_words
from app.web.words import sentence

PREVIEW_BYTES = 256 * 1024
REVISIONS_SHOWN = 20
# Lines that a total must not add up: those of a balance, and the total of a summary.
_NO_PARTS = frozenset({STARTING, ENDING, TOTAL_LINE})


class FileIn(In):
    """The formats of a download."""

    format: Literal["csv", "xlsx", "parquet"]


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One attempt to have the run made, for the timeline."""

    number: int
    stripe_run_id: str | None
    requested_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Revision:
    """Another run of the same window."""

    id: uuid.UUID
    revision: int
    state: str
    stored_at: datetime | None
    size: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class LoadLine:
    """The state of the file's rows in the tables."""

    id: int
    state: str
    table_name: str
    rows: int | None
    set_aside: list[str] | None
    error: dict[str, Any] | None
    loaded_at: datetime | None


@dataclass(frozen=True, slots=True)
class Currency:
    """What a file adds up to in one currency: each category, and their total except for a balance."""

    lines: list[ShownSum]
    total: ShownSum | None


@dataclass(frozen=True, slots=True)
class DiffLine:
    """How a file differs from the revision before."""

    against_revision: int
    added: int
    removed: int
    changed: int


async def show(visit: Visit) -> Response:
    """One run."""
    res, run_id = visit.res, visit.request.path_params["run_id"]
    async with res.sessions.begin() as session:
        run = await listing.get_run(session, run_id)
        history = await listing.history(session, run_id)
        waiting = (await waiting_for(session, [run_id], res.claim_terms)).get(run_id)
        about = {"run_id": run_id, "rule_id": run.rule_id, "window_key": run.window_key}
        attempts = await fetch(session, AttemptLine, _ATTEMPTS, {"run_id": run_id})
        revisions = []
        if run.rule_id is not None:
            more = {"account": run.connected_account, "limit": REVISIONS_SHOWN}
            revisions = await fetch(session, Revision, _REVISIONS, about | more)
        load = await fetch_first(session, LoadLine, _LOAD, {"run_id": run_id})
        sums = [] if load is None else await fetch(session, ShownSum, _SUMS, {"load_id": load.id})
        diff = None if load is None else await fetch_first(session, DiffLine, _DIFF, {"load_id": load.id})
        verdicts = await verdicts_of(session, run_id)
        rule_name = await _rule_name(session, run)
        reach = (await session.execute(_REACH, {"account": run.account, "type": run.report_type})).scalar()
    shown_state = seen_state(run.state, None if waiting is None else waiting.reason)
    return visit.show(
        "run.html",
        run=run,
        rule_name=rule_name,
        dates=dates_of_run(run),
        shown_state=shown_state,
        needs_change=run.state == RunState.FAILED and needs_change(run.rule_id, run.error),
        state=state_of(shown_state),
        why=why_not_here(run, waiting, reach),
        history=history,
        attempts=attempts,
        revisions=revisions,
        load=load,
        sums=_by_currency(sums),
        diff=diff,
        verdicts=worst_of_each(verdicts),
        zone_of=partial(zone_of, zone=str(run.parameters.get("timezone") or "UTC")),
        preview=await _preview(visit, run),
        newest=max((one.revision for one in revisions if one.state == "stored"), default=run.revision),
    )


def _by_currency(sums: Sequence[ShownSum]) -> list[Currency]:
    found = []
    for currency, group in groupby(sums, key=lambda one: one.currency):
        lines = list(group)
        total = ShownSum(
            "total", currency, sum(one.rows for one in lines),
            *(_total(getattr(one, amount) for one in lines) for amount in ("gross", "fee", "net")),
        )  # fmt: skip
        is_total = not _NO_PARTS.isdisjoint(one.category for one in lines)
        found.append(Currency(lines, None if is_total else total))
    return found


def worst_of_each(verdicts: Sequence[ShownCheck]) -> list[tuple[ShownCheck, int]]:
    """The worst verdict of each check, and how many it has."""
    by_name = groupby(sorted(verdicts, key=lambda one: (one.name, _WORST.index(one.verdict))), lambda one: one.name)
    return [(found[0], len(found)) for _, group in by_name if (found := list(group))]


def _total(parts: Iterable[Decimal | None]) -> Decimal | None:
    """None where one of them is not known."""
    known = list(parts)
    return amounts.total(known) if None not in known else None


async def download(visit: Visit) -> Response:
    """The file itself or in another format, by the functions of the API's routes."""
    form = checked(FileIn, {"format": visit.query["format"] or "csv"}).format
    return await run_file.answer_with_file(visit.res, visit.request.path_params["run_id"], visit.request, form)


def dates_of_run(run: ShownRun) -> str:
    """A run's window in local dates of its zone."""
    start, end = run.interval_start, run.interval_end
    if end is None:
        return "one payout" if start is None else in_words(*dates_of(start, start, run.timezone or "UTC"))
    return in_words(*dates_of(start or end, end, run.timezone or "UTC"))


async def _rule_name(session: Any, run: ShownRun) -> str | None:
    if run.rule_id is None:
        return None
    name: str | None = (await session.execute(_RULE_NAME, {"id": run.rule_id})).scalar()
    return name


async def _preview(visit: Visit, run: ShownRun) -> Preview | str | None:
    """The first rows, a sentence where they cannot be shown, or None without a file."""
    file = run.file
    if file is None or file.removed_at is not None:
        return None
    if file.media_type != "text/csv":
        return "The file is not a CSV: download it to look inside."
    if not file.size:
        return "The file is empty."
    stop = min(PREVIEW_BYTES, file.size)
    try:
        pieces = visit.res.files.read(file.id, file.location, start=0, stop=stop)
        return preview_of(await _joined(pieces), is_whole=stop == file.size)
    except StoreAway:
        return "The file store does not answer, so the file cannot be shown now."
    except (Gone, FileIsGone) as error:  # its bytes are missing; the rest of the page can still be shown
        return sentence(f"It cannot be shown: {error}")


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


_ATTEMPTS = text("""
select number, stripe_run_id, requested_at, ended_at, outcome, error from attempts where run_id = :run_id
order by number desc limit 50
""")
_REVISIONS = text("""
select runs.id, runs.revision, runs.state, files.stored_at, files.size, files.sha256
from runs left join files on files.run_id = runs.id and files.stored_at is not null
where runs.rule_id = :rule_id and runs.window_key = :window_key and runs.id <> :run_id
  and runs.connected_account is not distinct from cast(:account as text)
order by runs.revision desc limit :limit
""")
_LOAD = text("select id, state, table_name, rows, set_aside, error, loaded_at from loads where run_id = :run_id")
_SUMS = text("""
select category, currency, rows, gross, fee, net from load_sums where load_id = :load_id
order by currency, category limit 200
""")
_WORST = ("differs", "not_comparable", "agrees")
_DIFF = text("select against_revision, added, removed, changed from diffs where load_id = :load_id")
_RULE_NAME = text("select name from rules where id = :id")
_REACH = text("select data_available_end from report_types where account = :account and id = :type")
ROUTES = (get("/runs/{run_id:uuid}", show), get("/runs/{run_id:uuid}/file", download))
