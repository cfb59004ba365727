"""Availability moved forward, or a rule is new: write down the windows that became due as planned runs."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import uuid7
from app.observability import log_lines
from app.planning.planner import Availability, Schedule, all_windows, due_at, due_windows
from app.planning.report_types import run_parameters
from app.planning.windows import Window
from app.queue.wakeups import wake
from app.rules.store import schedule_of
from app.settings import Settings
from app.stripe_api.objects import ReportTypeInfo
from app.vocabulary import Cadence, Lane, RunState

log = structlog.get_logger()

_FAR = datetime(9000, 1, 1, tzinfo=UTC)

INSERT_BATCH = 5000


@dataclass(frozen=True, slots=True)
class _Plan:
    """A rule for one connected account, and the windows that are new for it."""

    progress: Any
    windows: list[Window]
    planned_until: datetime | None
    next_due_at: datetime | None


async def availability_told(
    session: AsyncSession, account: str, told: Sequence[ReportTypeInfo], *, settings: Settings
) -> int:
    """Stripe told these report types' availability: keep what is further than before, plan what became due.

    Events come in any order, so the end only ever moves forward. Returns the number of new runs.
    """
    planned = 0
    for info in sorted(told, key=lambda info: info.id):
        if info.available_start >= info.available_end:
            log.info("report_type.without_data", account=account, report_type=info.id)
            continue
        await session.execute(_KEEP_AVAILABILITY, _availability_values(account, info))
        planned += await plan_report_type(session, account, info.id, settings=settings)
    await wake(session, Lane.REQUESTS)  # runs may have waited for just this advance
    return planned


async def plan_report_type(
    session: AsyncSession, account: str, report_type: str, *, settings: Settings, rule_id: uuid.UUID | None = None
) -> int:
    """Plan what is due for every enabled rule of this report type, or for one; returns the number of new runs.

    Whoever has changed a rule plans that one alone: it holds that rule's progress, and must wait for no other's.
    """
    values = {"account": account, "report_type": report_type, "rule_id": rule_id}
    type_ = (await session.execute(_AVAILABILITY, values)).first()
    if type_ is None or type_.data_available_end is None:
        return 0
    availability = Availability(type_.data_available_start, type_.data_available_end)
    waiting = (await session.execute(_RULES_DUE, {**values, "available_end": availability.end})).all()
    plans = [plan for progress in waiting if (plan := _plan(progress, availability)) is not None]
    runs = [run_values(plan.progress, window, type_, settings) for plan in plans for window in plan.windows]
    made = await insert_runs(session, runs, reason="the window is due")
    if plans:
        await _note_progress(session, plans)
    if made:
        await wake(session, Lane.REQUESTS)
        caused_by = log_lines.cause_of(account, report_type)["caused_by"]
        log.info("runs.planned", account=account, report_type=report_type, runs=made, caused_by=caused_by)
    return made


def _plan(progress: Any, availability: Availability) -> _Plan | None:
    """The plan; None for a rule that cannot be planned, its zone no longer known say: it must not stop the others."""
    try:
        schedule = schedule_of(progress)
        windows = due_windows(schedule, availability, planned_until=progress.planned_until)
        until = windows[-1].end if windows else progress.planned_until
        return _Plan(progress, windows, until, _next_due(schedule, availability, until))
    except Exception:
        log.exception("rule.cannot_be_planned", rule_id=str(progress.rule_id))
        return None


async def insert_runs(session: AsyncSession, runs: Sequence[dict[str, Any]], *, reason: str) -> int:
    """Write down planned runs, except those whose identity there is already; returns how many were new."""
    made = 0
    for start in range(0, len(runs), INSERT_BATCH):
        batch = [
            run | log_lines.cause_of(run["account"], run["report_type"]) for run in runs[start : start + INSERT_BATCH]
        ]
        values = orjson.dumps(batch).decode()
        made += (await session.execute(_INSERT_RUNS, {"runs": values, "reason": reason})).scalar_one()
    return made


def run_values(progress: Any, window: Window, type_: Any, settings: Settings, *, revision: int = 1) -> dict[str, Any]:
    """A planned run of a rule for one connected account (a row with both); its parameters are frozen here."""
    # The later first second is a bound of the type's data; shifting any other window would lose its first second.
    shifted = type_.start_offset_seconds if window.start == type_.data_available_start else 0
    parameters = run_parameters(
        progress.report_type,
        progress.parameters,
        start=window.start,
        end=window.end,
        connected_account=progress.connected_account,
        start_offset_seconds=shifted,
    )
    return {
        "id": uuid7(),
        "account": progress.account,
        "rule_id": progress.rule_id,
        "report_type": progress.report_type,
        "connected_account": progress.connected_account,
        "window_key": window.key,
        "revision": revision,
        "partial": window.partial,
        "interval_start": window.start,
        "interval_end": window.end,
        "timezone": progress.timezone,
        "parameters": parameters,
        "state": RunState.PLANNED.value,
        "attempts_granted": settings.max_run_attempts,
    }


async def _note_progress(session: AsyncSession, plans: Sequence[_Plan]) -> None:
    values = {
        "ids": [plan.progress.id for plan in plans],
        "untils": [plan.planned_until for plan in plans],
        "next_dues": [plan.next_due_at for plan in plans],
    }
    await session.execute(_NOTE_PROGRESS, values)


def _next_due(schedule: Schedule, availability: Availability, until: datetime | None) -> datetime | None:
    if schedule.cadence is Cadence.EVERY_UPDATE:
        return None if until is None else until + schedule.settle
    further = all_windows(schedule, availability, until=_FAR, since=until)
    following = next(further, None)
    return None if following is None else due_at(following, schedule)


def _availability_values(account: str, info: ReportTypeInfo) -> dict[str, Any]:
    return {
        "account": account,
        "id": info.id,
        "name": info.name,
        "version": info.version,
        "livemode": info.livemode,
        "start": info.available_start,
        "end": info.available_end,
        "columns": info.default_columns,
        "updated": info.updated_at,
    }


_KEEP_AVAILABILITY = text("""
insert into report_types as t (account, id, name, version, livemode, data_available_start, data_available_end,
    default_columns, stripe_updated_at)
values (:account, :id, :name, :version, :livemode, :start, :end, cast(:columns as text[]), :updated)
on conflict (account, id) do update set
    name = coalesce(excluded.name, t.name), version = coalesce(excluded.version, t.version),
    livemode = coalesce(excluded.livemode, t.livemode),
    data_available_start = case when t.data_available_end > excluded.data_available_end
        then t.data_available_start else excluded.data_available_start end,
    data_available_end = greatest(t.data_available_end, excluded.data_available_end),
    default_columns = coalesce(excluded.default_columns, t.default_columns),
    stripe_updated_at = greatest(t.stripe_updated_at, excluded.stripe_updated_at),
    missing_since = null, missing_reason = null, next_probe_at = null, refreshed_at = now()
""")
_AVAILABILITY = text("""
select data_available_start, data_available_end, start_offset_seconds from report_types
where account = :account and id = :report_type
""")
# Locked, so that two processes never make two windows that begin alike and end differently.
_RULES_DUE = text("""
select p.id, p.connected_account, p.planned_until, p.next_due_at, rules.id as rule_id, rules.account,
    rules.report_type, rules.cadence, rules.timezone, rules.starts_on, rules.settle_hours, rules.parameters
from rules join rule_progress as p on p.rule_id = rules.id
where rules.account = :account and rules.report_type = :report_type and rules.enabled and rules.deleted_at is null
  and (p.next_due_at is null or p.next_due_at <= :available_end)
  and rules.id = coalesce(cast(:rule_id as uuid), rules.id)
order by p.id for update of p
""")
_NOTE_PROGRESS = text("""
update rule_progress set planned_until = plan.planned_until, next_due_at = plan.next_due_at
from unnest(cast(:ids as bigint[]), cast(:untils as timestamptz[]), cast(:next_dues as timestamptz[]))
    as plan(id, planned_until, next_due_at)
where rule_progress.id = plan.id
""")
# As JSON: one statement, whatever the number of runs, that neither the driver nor SQLAlchemy has to put together.
_INSERT_RUNS = text("""
with made as (
    insert into runs (id, account, rule_id, report_type, connected_account, window_key, revision, partial,
        interval_start, interval_end, timezone, parameters, state, attempts_granted,
        caused_by, traceparent)
    select * from jsonb_to_recordset(cast(:runs as jsonb)) as run(id uuid, account text, rule_id uuid,
        report_type text, connected_account text, window_key text, revision int, partial bool,
        interval_start timestamptz, interval_end timestamptz, timezone text, parameters jsonb, state text,
        attempts_granted int, caused_by text, traceparent text)
    on conflict do nothing returning id, account, state
), moved as (
    insert into run_moves (run_id, account, to_state, attempt, reason) select id, account, state, 1, :reason from made
)
select count(*) from made
""")
