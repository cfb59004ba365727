"""What a rule has of each window that it owes, newest first: stored, under way, failed, waiting, missing."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Rule
from app.planning.planner import Availability, all_windows, due_at
from app.planning.windows import LONGEST_UNIT_DAYS, Window, day_start
from app.resources import Resources
from app.rules.store import schedule_of
from app.runs.waiting import Waiting, waiting_for
from app.vocabulary import Cadence, RunState, WaitReason

Place = tuple[datetime, str]  # the start of a window, and a connected account ("" for the account itself)


class Cover(StrEnum):
    """What there is of a window."""

    STORED = "stored"
    IN_PROGRESS = "in_progress"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WAITING = "waiting"  # the reason says for what
    MISSING = "missing"  # due, and no run was made


@dataclass(frozen=True, slots=True)
class Covered:
    """One window for one connected account, and the run that counts for it; `end` is None while it is not known."""

    connected_account: str | None
    start: datetime
    end: datetime | None
    partial: bool
    cover: Cover
    run_id: uuid.UUID | None = None
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which windows: those that begin on the local dates [first, until) and before `now`, after a place in the list."""

    now: datetime
    first: date | None = None
    until: date | None = None
    after: Place | None = None
    limit: int = 50


async def coverage(
    res: Resources, session: AsyncSession, rule: Rule, asked: Asked
) -> tuple[list[Covered], Place | None]:
    """A page of windows, newest first, then by connected account; and the place to go on after, if there is more."""
    type_ = await read_type(session, rule.account, rule.report_type)
    accounts = sorted(rule.connected_accounts) or [""]
    if rule.cadence == Cadence.EVERY_UPDATE:
        places = await _made_windows(session, rule, asked)
    else:
        windows = _calendar_windows(rule, asked, availability_of(type_))
        places = [(window, account) for window in windows for account in accounts]
    places = list(islice(_after(asked.after, places), asked.limit + 1))
    shown = places[: asked.limit]
    runs = await _runs(session, rule, {window.key for window, _ in shown})
    waiting = await waiting_for(res, session, [run.id for run in runs.values()])
    covered = [_covered(rule, place, runs.get((place[1], place[0].key)), waiting, type_) for place in shown]
    found = [one for one in covered if one is not None]
    if rule.cadence == Cadence.EVERY_UPDATE and asked.after is None and asked.until is None:
        found = [*await _next_update(session, rule, type_), *found]
    return found, (shown[-1][0].start, shown[-1][1]) if len(places) > len(shown) else None


async def read_type(session: AsyncSession, account: str, report_type: str) -> Any:
    """What is known of a report type: a row of `_TYPE`, or None."""
    return (await session.execute(_TYPE, {"account": account, "report_type": report_type})).one_or_none()


def availability_of(type_: Any) -> Availability | None:
    """The range that a report type (a row of `_TYPE`) has data for, as far as Stripe told."""
    if type_ is None or type_.data_available_end is None:
        return None
    return Availability(type_.data_available_start, type_.data_available_end)


def why_not_yet(window_due: datetime, type_: Any) -> Waiting | None:
    """What stands before a window of which no run was made yet; None when it is due."""
    available = availability_of(type_)
    if available is None or type_.missing_since is not None:
        return Waiting(WaitReason.REPORT_TYPE_MISSING, None if type_ is None else type_.next_probe_at)
    return None if window_due <= available.end else Waiting(WaitReason.AVAILABILITY, window_due)


def _calendar_windows(rule: Rule, asked: Asked, availability: Availability | None) -> list[Window]:
    """Enough windows for a page, newest first: however long the history, only its end is cut into windows."""
    schedule = replace(schedule_of(rule), starts_on=asked.first or rule.starts_on)
    bounds = [asked.now]
    if asked.until is not None:
        bounds.append(day_start(asked.until, ZoneInfo(rule.timezone)))
    if asked.after is not None:
        bounds.append(asked.after[0] + timedelta(seconds=1))
    until = min(bounds)
    since = until - timedelta(days=LONGEST_UNIT_DAYS[schedule.cadence] * (asked.limit + 2))
    return list(all_windows(schedule, availability, until=until, since=since))[::-1]


async def _made_windows(session: AsyncSession, rule: Rule, asked: Asked) -> list[tuple[Window, str]]:
    """The windows of an every_update rule are those that were made."""
    zone = ZoneInfo(rule.timezone)
    values = {
        "rule_id": rule.id,
        "first": None if asked.first is None else day_start(asked.first, zone),
        "until": None if asked.until is None else day_start(asked.until, zone),
        "after": None if asked.after is None else asked.after[0],
        "limit": asked.limit + 1 + len(rule.connected_accounts),
    }
    found = await session.execute(_MADE, values)
    return [(Window(row.window_key, row.interval_start, row.interval_end, row.partial), row.account) for row in found]


async def _next_update(session: AsyncSession, rule: Rule, type_: Any) -> list[Covered]:
    """The window that begins where the last one ended; its end is wherever data reaches when it next advances."""
    found = []
    for progress in await session.execute(_PROGRESS, {"rule_id": rule.id}):
        start = progress.planned_until or day_start(rule.starts_on, ZoneInfo(rule.timezone))
        waiting = why_not_yet(start + timedelta(hours=rule.settle_hours, seconds=1), type_)
        cover = Cover.MISSING if waiting is None else Cover.WAITING
        found.append(Covered(progress.connected_account, start, None, partial=False, cover=cover, waiting=waiting))
    return found


def _after(after: Place | None, places: Sequence[tuple[Window, str]]) -> Iterator[tuple[Window, str]]:
    for window, account in places:
        if after is None or window.start < after[0] or (window.start == after[0] and account > after[1]):
            yield window, account


async def _runs(session: AsyncSession, rule: Rule, keys: Iterable[str]) -> Mapping[tuple[str, str], Any]:
    found = await session.execute(_RUNS, {"rule_id": rule.id, "keys": list(keys)})
    return {(run.account, run.window_key): run for run in found}


def _covered(
    rule: Rule, place: tuple[Window, str], run: Any, waiting: Mapping[uuid.UUID, Waiting], type_: Any
) -> Covered | None:
    """What there is of a window; None where a rule owes nothing, before its start, and nothing was made by hand."""
    window, account = place
    if run is not None:
        cover, why = _cover_of(run.state, waiting.get(run.id)), waiting.get(run.id)
        return Covered(account or None, run.interval_start, run.interval_end, run.partial, cover, run.id, why)
    if window.key < str(rule.starts_on):
        return None
    why = why_not_yet(due_at(window, schedule_of(rule)), type_)
    cover = Cover.MISSING if why is None else Cover.WAITING
    return Covered(account or None, window.start, window.end, window.partial, cover, waiting=why)


def _cover_of(state: str, waiting: Waiting | None) -> Cover:
    if state in (RunState.STORED, RunState.FAILED, RunState.CANCELLED):
        return Cover(state)
    return Cover.IN_PROGRESS if waiting is None else Cover.WAITING


_TYPE = text("""
select data_available_start, data_available_end, missing_since, next_probe_at from report_types
where account = :account and id = :report_type
""")
# A stored revision covers its window, also while a newer one is under way.
_RUNS = text("""
select distinct on (connected_account, window_key) id, coalesce(connected_account, '') as account, window_key, state,
    interval_start, interval_end, partial
from runs where rule_id = :rule_id and window_key = any(:keys)
order by connected_account, window_key, state = 'stored' desc, revision desc
""")
_MADE = text("""
select distinct window_key, interval_start, interval_end, partial, coalesce(connected_account, '') as account
from runs where rule_id = :rule_id
  and interval_start >= coalesce(cast(:first as timestamptz), interval_start)
  and (cast(:until as timestamptz) is null or interval_start < :until)
  and (cast(:after as timestamptz) is null or interval_start <= :after)
order by interval_start desc, account limit :limit
""")
_PROGRESS = text("select connected_account, planned_until from rule_progress where rule_id = :rule_id order by id")
