"""What a rule, saved or not, would run now, what comes next, and why that waits. Nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Rule
from app.planning.planner import Availability, all_windows, due_at, due_windows
from app.planning.windows import LAST_DAY, Window, day_start
from app.rules.coverage import availability_of, read_type, why_not_yet
from app.rules.store import schedule_of
from app.runs.waiting import Waiting
from app.vocabulary import Cadence

# Shown of what would run now; all of it is counted.
MOST_SHOWN = 100
_FAR = day_start(LAST_DAY, UTC)


@dataclass(frozen=True, slots=True)
class Coming:
    """A window that would run now (no `waiting`), or comes next; `end` is None while it is not known."""

    connected_account: str | None
    start: datetime
    end: datetime | None
    partial: bool
    waiting: Waiting | None = None


@dataclass(slots=True)
class Preview:
    """What would run now, oldest first and MOST_SHOWN of `now_total` at most; and each account's next window."""

    now_total: int = 0
    now: list[Coming] = field(default_factory=list)
    next: list[Coming] = field(default_factory=list)


async def preview(session: AsyncSession, rule: Rule, *, saved: bool) -> Preview:
    """What this rule would do if it is enabled; a saved one goes on from where it is."""
    type_ = await read_type(session, rule.account, rule.report_type)
    progress = await _progress(session, rule) if saved else {}
    answer = Preview()
    accounts: list[str | None] = [*sorted(rule.connected_accounts)] or [None]
    for account in accounts:
        due = _due(rule, availability_of(type_), progress.get(account))
        answer.now_total += len(due)
        shown = due[: MOST_SHOWN - len(answer.now)]
        answer.now += [Coming(account, window.start, window.end, window.partial) for window in shown]
        until = due[-1].end if due else progress.get(account)
        following = _next(rule, type_, until)
        answer.next += [] if following is None else [replace(following, connected_account=account)]
    return answer


def _due(rule: Rule, available: Availability | None, planned_until: datetime | None) -> list[Window]:
    return [] if available is None else due_windows(schedule_of(rule), available, planned_until=planned_until)


def _next(rule: Rule, type_: Any, until: datetime | None) -> Coming | None:
    """The first window after `until`, the end of what is or would be made."""
    schedule = schedule_of(rule)
    if schedule.cadence is Cadence.EVERY_UPDATE:
        start = until or day_start(rule.starts_on, ZoneInfo(rule.timezone))
        waiting = why_not_yet(start + schedule.settle + timedelta(seconds=1), type_)
        return Coming(None, start, None, partial=False, waiting=waiting)
    owed = all_windows(schedule, availability_of(type_), until=_FAR, since=until)
    window = next((window for window in owed if until is None or window.start >= until), None)
    if window is None:
        return None
    return Coming(None, window.start, window.end, window.partial, why_not_yet(due_at(window, schedule), type_))


async def _progress(session: AsyncSession, rule: Rule) -> Mapping[str | None, datetime | None]:
    found = await session.execute(_PROGRESS, {"rule_id": rule.id})
    return {row.connected_account: row.planned_until for row in found}


_PROGRESS = text("select connected_account, planned_until from rule_progress where rule_id = :rule_id")
