"""The state of each window that a rule owes, newest first: stored, under way, failed, waiting, missing."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.db.models import Rule
from app.db.rows import fetch
from app.planning.dates import earliest_start
from app.planning.planner import Availability, all_windows, due_at
from app.planning.windows import LONGEST_UNIT_DAYS, Window, day_start
from app.report_types import KnownType
from app.resources import ClaimTerms
from app.rules import members
from app.rules.rechecks import COUNTED_FIRST
from app.rules.rule import schedule_of
from app.runs.waiting import Waiting, waiting_for
from app.vocabulary import Cadence, RunState, WaitReason


class CoverageState(StrEnum):
    """The state of a window."""

    STORED = "stored"
    IN_PROGRESS = "in_progress"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WAITING = "waiting"  # `reason` says what for
    MISSING = "missing"  # due, but has no run


class Position(NamedTuple):
    """A position in the list: newest start first, then by connected account ("" for none)."""

    start: datetime
    account: str

    @property
    def order(self) -> tuple[float, str]:
        """Sorts positions in display order."""
        return -self.start.timestamp(), self.account


@dataclass(frozen=True, slots=True)
class CoverageEntry:
    """One window for one connected account, and the run that counts for it; `end` is None while unknown."""

    connected_account: str | None
    start: datetime
    end: datetime | None
    partial: bool
    state: CoverageState
    run_id: uuid.UUID | None = None
    waiting: Waiting | None = None

    @property
    def place(self) -> Position:
        """Its position in the list."""
        return Position(self.start, self.connected_account or "")


@dataclass(frozen=True, slots=True)
class CoverageQuery:
    """Selects windows that belong to a local date of [first, until) and begin before `now`, after a position in the
    list; `account` those of one connected account (ignored for windows of `every_update` and `every_payout` that have
    runs)."""

    now: datetime
    first: date | None = None
    until: date | None = None
    after: Position | None = None
    limit: int = 50
    account: str | None = None


@dataclass(frozen=True, slots=True)
class _Slot:
    """A window for one connected account ("" for the account itself), which owes nothing before `since`."""

    window: Window
    account: str
    since: datetime | None = None

    @property
    def place(self) -> Position:
        # Several payouts of an account may arrive on one day.
        of_payout = f" {self.window.key}" if self.window.key.startswith("po_") else ""
        return Position(self.window.start, self.account + of_payout)

    @property
    def key(self) -> tuple[str, str]:
        return self.account, self.window.key


@dataclass(frozen=True, slots=True)
class _CoveringRun:
    """The run that counts for a window."""

    id: uuid.UUID
    account: str
    window_key: str
    state: str
    interval_start: datetime
    interval_end: datetime
    partial: bool


@dataclass(frozen=True, slots=True)
class _Made:
    """A window that has runs, and its place among those that begin at the same instant."""

    window_key: str
    interval_start: datetime
    interval_end: datetime
    partial: bool
    account: str
    place: str


async def coverage(
    session: AsyncSession, rule: Rule, query: CoverageQuery, terms: ClaimTerms
) -> tuple[list[CoverageEntry], Position | None]:
    """A page of windows, newest first, then by connected account; and the position to continue after, if any."""
    type_ = await report_types.read(session, rule.account, rule.report_type)
    if rule.cadence == Cadence.EVERY_UPDATE:
        slots, upcoming = await _made_slots(session, rule, query), await next_updates(session, rule, query)
    elif rule.cadence == Cadence.EVERY_PAYOUT:
        slots, upcoming = await _made_slots(session, rule, query), []
    elif rule.connected == "each":
        slots, upcoming = await _slots_of_each(session, rule, query, type_), []
    else:
        slots, upcoming = await asyncio.to_thread(_calendar_slots, rule, query, type_), []
    runs = await _runs(session, rule, slots)
    waiting = await waiting_for(session, [run.id for run in runs.values()], terms)
    entries = [(slot.place, _entry(rule, slot, runs.get(slot.key), waiting, type_)) for slot in slots]
    entries = sorted([*((one.place, one) for one in upcoming), *entries], key=lambda entry: entry[0].order)
    # A window that is not owed still counts towards the page, so that the next page begins after it.
    page = entries[: query.limit]
    return [entry for _, entry in page if entry is not None], page[-1][0] if len(entries) > len(page) else None


async def all_entries(
    session: AsyncSession, rule: Rule, query: CoverageQuery, terms: ClaimTerms
) -> AsyncIterator[CoverageEntry]:
    """All windows that a query selects, read a page at a time."""
    place: Position | None = query.after
    while True:
        entries, place = await coverage(session, rule, replace(query, after=place), terms)
        for entry in entries:
            yield entry
        if place is None:
            return


def why_not_yet(window_due: datetime, type_: KnownType | None) -> Waiting | None:
    """Why a window has no run yet; None when it is due."""
    available = None if type_ is None or not type_.is_there else type_.availability
    if available is None:
        return Waiting(WaitReason.REPORT_TYPE_MISSING, None if type_ is None else type_.next_probe_at)
    return None if window_due <= available.end else Waiting(WaitReason.AVAILABILITY, window_due)


def _calendar_slots(rule: Rule, query: CoverageQuery, type_: KnownType | None) -> list[_Slot]:
    """Enough windows for a page and one more: however long the history, only its end is cut into windows."""
    slots: list[_Slot] = []
    accounts = [one for one in sorted(rule.connected_accounts) or [""] if query.account in (None, one)]
    for window in _calendar_windows(rule, query, None if type_ is None else type_.availability):
        found = (_Slot(window, account) for account in accounts)
        slots += [slot for slot in found if _is_after(query, slot.place)]
        if len(slots) > query.limit:
            break
    return slots[: query.limit + 1]


async def _slots_of_each(
    session: AsyncSession, rule: Rule, query: CoverageQuery, type_: KnownType | None
) -> list[_Slot]:
    """The same for all connected accounts of a platform: read a page at a time, however many there are."""
    availability = None if type_ is None else type_.availability
    windows = await asyncio.to_thread(_calendar_windows, rule, query, availability)
    few = await members.of_rule(session, rule.id, only=query.account, limit=query.limit + 1)
    all_of_them = few if len(few) <= query.limit else None
    slots: list[_Slot] = []
    for window in windows:
        found = all_of_them
        if found is None:
            after = _account_after(query, window)
            found = await members.of_rule(session, rule.id, after=after, before=window.end, limit=query.limit + 1)
        candidates = (_Slot(window, one.connected_account, one.since(rule.timezone)) for one in found)
        slots += [
            slot
            for slot in candidates
            if _is_after(query, slot.place) and (slot.since is None or slot.since < window.end)
        ]
        if len(slots) > query.limit:
            break
    return slots[: query.limit + 1]


def _account_after(query: CoverageQuery, window: Window) -> str:
    here = query.after is not None and query.after.start == window.start
    return query.after.account if query.after is not None and here else ""


def _calendar_windows(rule: Rule, query: CoverageQuery, availability: Availability | None) -> list[Window]:
    schedule = schedule_of(rule)
    if query.first is not None:
        schedule = replace(schedule, starts_on=earliest_start(query.first, schedule.cadence))
    bounds = [query.now]
    if query.until is not None:
        bounds.append(day_start(earliest_start(query.until, schedule.cadence), ZoneInfo(rule.timezone)))
    if query.after is not None:
        bounds.append(query.after.start + timedelta(seconds=1))
    until = min(bounds)
    since = until - timedelta(days=LONGEST_UNIT_DAYS[schedule.cadence] * (query.limit + 2))
    return list(all_windows(schedule, availability, until=until, since=since))[::-1]


def _bounds(rule: Rule, query: CoverageQuery) -> dict[str, datetime | None]:
    zone = ZoneInfo(rule.timezone)
    return {
        "first": None if query.first is None else day_start(query.first, zone),
        "until": None if query.until is None else day_start(query.until, zone),
    }


async def _made_slots(session: AsyncSession, rule: Rule, query: CoverageQuery) -> list[_Slot]:
    """The windows of an every_update or every_payout rule, taken from its runs: enough for a page and one more."""
    after = None if query.after is None else query.after.start
    account = None if query.after is None else query.after.account
    place = {"after": after, "after_account": account, "limit": query.limit + 1}
    found = await fetch(session, _Made, _MADE, {"rule_id": rule.id, **_bounds(rule, query), **place})
    return [
        _Slot(Window(one.window_key, one.interval_start, one.interval_end, one.partial), one.account) for one in found
    ]


async def next_updates(session: AsyncSession, rule: Rule, query: CoverageQuery) -> list[CoverageEntry]:
    """The next windows, which begin where the last ones ended and will end where the data next reaches."""
    type_ = await report_types.read(session, rule.account, rule.report_type)
    bounds = _bounds(rule, query)
    beginning = day_start(rule.starts_on, ZoneInfo(rule.timezone))
    found = []
    for one in await members.of_rule(session, rule.id, only=query.account, limit=None):
        start = one.planned_until or max(beginning, one.since(rule.timezone) or beginning)
        if (bounds["first"] or start) <= start and (bounds["until"] is None or start < bounds["until"]):
            waiting = why_not_yet(start + timedelta(hours=rule.settle_hours, seconds=1), type_)
            state = CoverageState.MISSING if waiting is None else CoverageState.WAITING
            account = one.connected_account or None
            found.append(CoverageEntry(account, start, None, partial=False, state=state, waiting=waiting))
    return [entry for entry in found if _is_after(query, entry.place)]


def _is_after(query: CoverageQuery, place: Position) -> bool:
    return query.after is None or query.after.order < place.order


async def _runs(session: AsyncSession, rule: Rule, slots: Iterable[_Slot]) -> Mapping[tuple[str, str], _CoveringRun]:
    keys = sorted({slot.window.key for slot in slots})
    found = await fetch(session, _CoveringRun, _RUNS, {"rule_id": rule.id, "keys": keys})
    return {(run.account, run.window_key): run for run in found}


def _entry(
    rule: Rule, slot: _Slot, run: _CoveringRun | None, waiting: Mapping[uuid.UUID, Waiting], type_: KnownType | None
) -> CoverageEntry | None:
    """The entry of a window; None before the rule's start, where it owes nothing, unless it was backfilled."""
    account, window = slot.account or None, slot.window
    if run is not None:
        why = waiting.get(run.id)
        state = _state_of(run.state, why)
        return CoverageEntry(account, run.interval_start, run.interval_end, run.partial, state, run.id, why)
    if window.key < str(rule.starts_on):
        return None
    why = why_not_yet(due_at(window, schedule_of(rule)), type_)
    state = CoverageState.MISSING if why is None else CoverageState.WAITING
    start, partial = window.start, window.partial
    if slot.since is not None and slot.since > start:
        start, partial = slot.since, True
    return CoverageEntry(account, start, window.end, partial, state, waiting=why)


def _state_of(state: str, waiting: Waiting | None) -> CoverageState:
    if state in (RunState.STORED, RunState.FAILED, RunState.CANCELLED):
        return CoverageState(state)
    return CoverageState.IN_PROGRESS if waiting is None else CoverageState.WAITING


_RUNS = text(f"""
select distinct on (connected_account, window_key) id, coalesce(connected_account, '') as account, window_key, state,
    interval_start, interval_end, partial
from runs where rule_id = :rule_id and window_key = any(:keys)
order by connected_account, window_key, {COUNTED_FIRST}
""")  # noqa: S608 - of constants only
_MADE = text("""
select distinct window_key, interval_start, interval_end, partial, coalesce(connected_account, '') as account, place
from runs cross join lateral (
    select coalesce(connected_account, '') || case when window_key like 'po\\_%' then ' ' || window_key else '' end
) as of_run(place)
where rule_id = :rule_id
  and interval_start >= coalesce(cast(:first as timestamptz), interval_start)
  and (cast(:until as timestamptz) is null or interval_start < :until)
  and (cast(:after as timestamptz) is null or interval_start < :after
      or interval_start = :after and place > :after_account)
order by interval_start desc, place limit :limit
""")
