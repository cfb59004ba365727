"""Make what a rule has not made for some past days: missing windows, what failed, and on request all of it anew."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.models import Rule
from app.errors import BadInput, Conflict, FieldError
from app.planning.planner import Availability, all_windows, due_at
from app.planning.windows import Window, day_start
from app.queue.wakeups import wake
from app.rules import schedule
from app.rules.store import schedule_of
from app.runs import manual
from app.settings import Settings
from app.vocabulary import Cadence, Lane, RunState

# In one request and one transaction; more is asked for in pieces.
MOST_RUNS = 50_000


@dataclass(frozen=True, slots=True)
class Backfill:
    """The local dates [first, until); with `rerun` also what is stored is made anew, as a new revision."""

    first: date
    until: date
    rerun: bool


@dataclass(slots=True)
class BackfillReport:
    """How many runs were planned because they were missing, were retried, and were planned as a new revision."""

    planned: int = 0
    retried: int = 0
    rerun: int = 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done for one connected account, by what is there of each window."""

    missing: list[Window] = field(default_factory=list)
    failed: list[uuid.UUID] = field(default_factory=list)
    stored: list[tuple[Window, int]] = field(default_factory=list)  # with the revision that there is


async def backfill(
    session: AsyncSession, rule: Rule, asked: Backfill, *, settings: Settings, by: str
) -> BackfillReport:
    """Plan what is asked for, as far as it is due. Raises Conflict while the report type has no data, BadInput."""
    values = {"account": rule.account, "report_type": rule.report_type, "rule_id": rule.id}
    type_ = (await session.execute(_TYPE, values)).one_or_none()
    if type_ is None or type_.data_available_end is None:
        raise Conflict(f"Stripe has told of no data of {rule.report_type} yet: nothing can be made of it")
    availability = Availability(type_.data_available_start, type_.data_available_end)
    # Locked, as planning locks them, so that the two never make one window in two ways.
    progresses = (await session.execute(_PROGRESS, values)).all()
    report = BackfillReport()
    for progress in progresses:
        windows, latest = await _windows(session, rule, asked, availability, progress)
        if len(windows) * len(progresses) > MOST_RUNS:
            raise BadInput(FieldError("/from", f"asks for more than {MOST_RUNS} runs at once; ask in pieces"))
        work = _sort_out(windows, latest)
        await _carry_out(session, work, progress, type_, settings=settings, by=by, rerun=asked.rerun, report=report)
    after = {"from": asked.first, "to": asked.until, "rerun": asked.rerun, "made": asdict(report)}
    await audit.note(session, actor=by, action="rule.backfilled", subject=rule.id, after=after)
    await wake(session, Lane.REQUESTS)
    return report


async def _carry_out(
    session: AsyncSession,
    work: _Work,
    progress: Any,
    type_: Any,
    *,
    settings: Settings,
    by: str,
    rerun: bool,
    report: BackfillReport,
) -> None:
    missing = [schedule.run_values(progress, window, type_, settings) for window in work.missing]
    again = [
        schedule.run_values(progress, window, type_, settings, revision=revision + 1)
        for window, revision in (work.stored if rerun else [])
    ]
    report.planned += await schedule.insert_runs(session, missing, reason=f"backfilled by {by}")
    report.rerun += await schedule.insert_runs(session, again, reason=f"made anew by {by}")
    for run_id in work.failed:
        attempts = settings.max_run_attempts
        report.retried += await manual.retry_if_possible(session, run_id, attempts=attempts, by=by)


def _sort_out(windows: Iterable[Window], latest: Mapping[str, Any]) -> _Work:
    work = _Work()
    for window in windows:
        run = latest.get(window.key)
        if run is None:
            work.missing.append(window)
        elif run.state in manual.RETRIED:
            work.failed.append(run.id)
        elif run.state == RunState.STORED:
            work.stored.append((window, run.revision))
    return work


async def _windows(
    session: AsyncSession, rule: Rule, asked: Backfill, availability: Availability, progress: Any
) -> tuple[Sequence[Window], Mapping[str, Any]]:
    """The due windows of these days, and the latest run of each that has one, by the window's key."""
    zone = ZoneInfo(rule.timezone)
    start, end = day_start(asked.first, zone), day_start(asked.until, zone)
    by_instant = rule.cadence == Cadence.EVERY_UPDATE
    low, high = (instant_key(start), instant_key(end)) if by_instant else (str(asked.first), str(asked.until))
    values = {"rule_id": rule.id, "connected_account": progress.connected_account, "low": low, "high": high}
    latest = {run.window_key: run for run in await session.execute(_LATEST, values)}
    if by_instant:
        known = [Window(run.window_key, run.interval_start, run.interval_end, run.partial) for run in latest.values()]
        beginning = (await session.execute(_FIRST_START, values)).scalar_one() or day_start(rule.starts_on, zone)
        return [*_before(start, min(end, beginning, availability.end), availability), *known], latest
    return _calendar_windows(rule, asked, availability, until=end), latest


def _calendar_windows(rule: Rule, asked: Backfill, availability: Availability, *, until: datetime) -> list[Window]:
    # Days before the rule's own start may be asked for as well.
    plan = replace(schedule_of(rule), starts_on=asked.first)
    owed = all_windows(plan, availability, until=until)
    due = (window for window in owed if due_at(window, plan) <= availability.end)
    return list(islice(due, MOST_RUNS + 1))


def _before(start: datetime, end: datetime, availability: Availability) -> list[Window]:
    """The one window that lies before all that an every_update rule has made."""
    first = max(start, availability.start)
    return [Window(instant_key(first), first, end, partial=first > start)] if first < end else []


def instant_key(moment: datetime) -> str:
    """The key of an every_update window: its start, in UTC. Keys sort like what they stand for."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


_TYPE = text("""
select data_available_start, data_available_end, start_offset_seconds from report_types
where account = :account and id = :report_type
""")
_PROGRESS = text("""
select p.id, p.connected_account, rules.id as rule_id, rules.account, rules.report_type, rules.timezone,
    rules.parameters
from rules join rule_progress as p on p.rule_id = rules.id
where rules.id = :rule_id order by p.id for update of p
""")
_LATEST = text("""
select distinct on (window_key) id, window_key, state, revision, interval_start, interval_end, partial from runs
where rule_id = :rule_id and connected_account is not distinct from :connected_account
  and window_key collate "C" >= :low and window_key collate "C" < :high
order by window_key, revision desc
""")
_FIRST_START = text("""
select min(interval_start) from runs
where rule_id = :rule_id and connected_account is not distinct from :connected_account
""")
