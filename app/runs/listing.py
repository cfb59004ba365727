"""Runs for display, with their file and the Stripe run of their current attempt. Read-only."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Date, DateTime, Select, case, exists, func, literal_column, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db.models import Attempt, File, Rule, Run, RunMove
from app.db.rows import fetch
from app.errors import NotFound
from app.planning.report_types import is_latest
from app.vocabulary import RunOrder, RunState


@dataclass(frozen=True, slots=True)
class RunFilters:
    """Selects runs with these values; None matches every value."""

    state: RunState | None = None
    rule_id: uuid.UUID | None = None
    report_type: str | None = None
    account: str | None = None
    connected_account: str | None = None
    # The days of the windows, [first, until): see planning/dates.
    first: date | None = None
    until: date | None = None
    stored_after: datetime | None = None  # exclusive
    latest: bool = False  # only the newest stored revision of each window

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """The query, for these runs only."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) is not None}
        equal = given.keys() & set(Run.__table__.columns.keys()) - {"report_type"}
        query = query.where(*(getattr(Run, name) == given[name] for name in sorted(equal)))
        if self.report_type is not None:
            query = query.where(_is_of_type(self.report_type))
        if self.first is not None or self.until is not None:
            query = query.where(Run.rule_id.is_not(None))
        if self.first is not None:
            query = query.where(window_day() >= self.first)
        if self.until is not None:
            query = query.where(window_day() < self.until)
        if self.stored_after is not None:
            query = query.where(Run.state == RunState.STORED, Run.stored_at > self.stored_after)
        return query.where(Run.state == RunState.STORED, ~_has_newer()) if self.latest else query


# When the oldest of our uncommitted writing transactions began. What it stores has a later time: a poller that has been
# shown nothing that late misses nothing when it asks for what came after.
_BEGAN: ColumnElement[datetime] = literal_column(
    """coalesce((
        select min(xact_start) from pg_stat_activity
        where datname = current_database() and application_name = 'tallyhook' and backend_xid is not null
    ), 'infinity')""",
    DateTime(timezone=True),
)


def _is_of_type(report_type: str) -> ColumnElement[bool]:
    """Runs of this type; for one that leaves its version open, the runs of the rules that name it."""
    if not is_latest(report_type):
        return Run.report_type == report_type
    return Run.rule_id.in_(select(Rule.id).where(Rule.report_type == report_type))


def window_day() -> ColumnElement[date]:
    """The local day of a run's window; for runs of rules the database has an index on it."""
    return func.window_day(Run.window_key, Run.interval_start, Run.interval_end, Run.timezone, type_=Date)


def _has_newer() -> ColumnElement[bool]:
    """Whether the window has a newer stored revision; a run without a rule is always the latest."""
    newer = aliased(Run)
    same = (
        newer.rule_id == Run.rule_id,
        newer.window_key == Run.window_key,
        newer.connected_account.is_not_distinct_from(Run.connected_account),
    )
    return exists().where(*same, newer.state == RunState.STORED, newer.revision > Run.revision)


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a page: the id of its last run, and the value that the list is ordered by."""

    run_id: uuid.UUID
    day: date | None = None
    stored_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A complete file, even if it was removed since; `location` is its address in an object store."""

    id: uuid.UUID
    stripe_file_id: str
    filename: str
    media_type: str
    size: int  # bytes
    sha256: str
    line_count: int | None
    stored_at: datetime
    removed_at: datetime | None
    removed_reason: str | None
    location: str | None


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run, its file if it has one, and the Stripe run of its current attempt; `day` is what its window counts as."""

    id: uuid.UUID
    rule_id: uuid.UUID | None
    account: str
    report_type: str
    connected_account: str | None
    window_key: str | None
    state: str
    attempt: int
    revision: int
    partial: bool
    recheck: bool
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    parameters: dict[str, Any]
    error: dict[str, Any] | None
    last_trouble: str | None  # the error of the last try, while the run waits
    planned_at: datetime
    requested_at: datetime | None
    ready_at: datetime | None
    stored_at: datetime | None
    day: date | None
    stripe_run_id: str | None
    file: ShownFile | None


@dataclass(frozen=True, slots=True)
class ShownMove:
    """A change of a run's state."""

    at: datetime
    from_state: str | None
    to_state: str
    attempt: int | None
    reason: str


_FILE = [field.name for field in fields(ShownFile)]
_OF_RUN = [field.name for field in fields(ShownRun) if field.name not in ("day", "stripe_run_id", "file")]
_SHOWN = (
    select(
        *(getattr(Run, name) for name in _OF_RUN),
        case((Run.rule_id.is_not(None), window_day())).label("day"),
        Attempt.stripe_run_id,
        *(getattr(File, name).label(f"file_{name}") for name in _FILE),
    )
    .outerjoin(Attempt, (Attempt.run_id == Run.id) & (Attempt.number == Run.attempt))
    .outerjoin(File, (File.run_id == Run.id) & File.stored_at.is_not(None))
)


async def list_runs(
    session: AsyncSession,
    filters: RunFilters,
    *,
    limit: int,
    order: RunOrder = RunOrder.PLANNED,
    after: Position | None = None,
) -> list[ShownRun]:
    """Up to `limit` matching runs in this order, starting after `after`."""
    query = filters.narrow(_SHOWN)
    if order is RunOrder.STORED or filters.stored_after is not None:
        query = query.where(Run.stored_at < _BEGAN)
    match order:
        case RunOrder.PLANNED:
            query = query if after is None else query.where(Run.id < after.run_id)
            return await _read(session, query.order_by(Run.id.desc()).limit(limit))
        case RunOrder.STORED:
            query = query.where(Run.state == RunState.STORED)
            if after is not None:
                query = query.where(tuple_(Run.stored_at, Run.id) > tuple_(after.stored_at, after.run_id))
            return await _read(session, query.order_by(Run.stored_at, Run.id).limit(limit))
        case RunOrder.WINDOW:
            return await _by_window(session, query, after, limit)


async def _by_window(session: AsyncSession, query: Select[Any], after: Position | None, limit: int) -> list[ShownRun]:
    """Runs of rules by their day, from the index; then runs without one, newest first."""
    day, found = window_day(), []
    if after is None or after.day is not None:
        of_rules = query.where(Run.rule_id.is_not(None), day.is_not(None)).order_by(day.desc(), Run.id.desc())
        if after is not None:
            of_rules = of_rules.where(tuple_(day, Run.id) < tuple_(after.day, after.run_id))
        found = list(await _read(session, of_rules.limit(limit)))
    if len(found) < limit:
        others = query.where(or_(Run.rule_id.is_(None), day.is_(None))).order_by(Run.id.desc())
        if after is not None and after.day is None:
            others = others.where(Run.id < after.run_id)
        found += await _read(session, others.limit(limit - len(found)))
    return found


async def _read(session: AsyncSession, query: Select[Any]) -> list[ShownRun]:
    return [_shown(row) for row in (await session.execute(query)).mappings()]


def _shown(row: Mapping[str, Any]) -> ShownRun:
    file = None if row["file_id"] is None else ShownFile(**{name: row[f"file_{name}"] for name in _FILE})
    return ShownRun(file=file, **{name: row[name] for name in (*_OF_RUN, "day", "stripe_run_id")})


async def get_run(session: AsyncSession, run_id: uuid.UUID) -> ShownRun:
    """One run. Raises NotFound."""
    found = await _read(session, _SHOWN.where(Run.id == run_id))
    if not found:
        raise NotFound(f"there is no run {run_id}: GET /v1/runs lists them")
    return found[0]


async def history(session: AsyncSession, run_id: uuid.UUID) -> list[ShownMove]:
    """Every move of a run, oldest first."""
    columns = [getattr(RunMove, field.name) for field in fields(ShownMove)]
    return await fetch(session, ShownMove, select(*columns).where(RunMove.run_id == run_id).order_by(RunMove.id))
