"""Calendars: each day of a rule with its state, also for windows that have no run yet. Pure."""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from app.health.lateness import data_within
from app.planning.dates import local_dates
from app.planning.windows import day_start, next_unit, unit_start
from app.sentences import count
from app.vocabulary import Cadence, RunState
from app.web import why
from app.web.days import DayState, RuleLine, WindowLine
from app.web.words import days

# A window that has not ended yet: nothing is owed for it yet.
LATER = "later"
_WORST_FIRST = ("failed", "blocked", "in_progress", "cancelled", "stored")
_ONE_DAY = timedelta(days=1)
_INTO_THE_NEXT_UNIT = timedelta(hours=12)
_Shown = TypeVar("_Shown", DayState, WindowLine)


@dataclass(frozen=True, slots=True)
class Cell:
    """One day of a calendar: its state (of `words.STATES`, LATER, or "" where nothing is owed), and where it leads."""

    day: date
    state: str
    label: str = ""
    path: str | None = None
    note: str = ""
    odd_hours: float | None = None  # how long the day is where the clocks changed


@dataclass(frozen=True, slots=True)
class Unmade:
    """A calendar window that has no run yet: its first and last date, and why."""

    first: date
    last: date
    state: str  # blocked, waiting (for Stripe's data), missing (due: it is being planned), or LATER
    is_late: bool  # whether it should be there: Stripe's data is due, and past what is usual for its type


def unmade(rule: RuleLine, first: date, until: date, now: datetime) -> Iterator[Unmade]:
    """The windows of an enabled rule that fall on the days [first, until) and come after those planned."""
    cadence = Cadence(rule.cadence)
    if cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT) or not rule.enabled:
        return
    zone = ZoneInfo(rule.timezone)
    unit = max(_begins(rule, cadence, zone), unit_start(first, cadence))
    while unit < until:
        following = next_unit(unit, cadence)
        last = following - _ONE_DAY
        if first <= last < until:
            ends = day_start(following, zone)
            yield Unmade(unit, last, _why(rule, ends, now), _is_late(rule, ends, now))
        unit = following


def rest_of_month(rule: RuleLine, since: datetime, until: datetime, now: datetime) -> Unmade:
    """The rest of a month of a rule without calendar windows: an update should come by the midnight after `since`, a
    payout by the end."""
    dates = local_dates(since, until, rule.timezone)
    by = until if rule.cadence == Cadence.EVERY_PAYOUT else day_start(dates.first + _ONE_DAY, ZoneInfo(rule.timezone))
    return Unmade(dates.first, dates.last, _why(rule, by, now), _is_late(rule, by, now))


def first_day(rule: RuleLine) -> date:
    """The first day of the first window that a rule owes."""
    cadence = Cadence(rule.cadence)
    if cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT):
        cadence = Cadence.DAILY
    begins = unit_start(rule.starts_on, cadence)
    if begins < rule.starts_on:
        begins = next_unit(begins, cadence)
    if rule.data_available_start is None:
        return begins
    return max(begins, unit_start(rule.data_available_start.astimezone(ZoneInfo(rule.timezone)).date(), cadence))


def _begins(rule: RuleLine, cadence: Cadence, zone: ZoneInfo) -> date:
    """The first day of the first unit that is not planned yet."""
    begins = first_day(rule)
    if rule.planned_until is None:
        return begins
    planned = (rule.planned_until + _INTO_THE_NEXT_UNIT).astimezone(zone).date()
    return max(begins, unit_start(planned, cadence))


def _why(rule: RuleLine, ends: datetime, now: datetime) -> str:
    if ends > now:
        return LATER
    if rule.blocked_by(RunState.PLANNED):
        return "blocked"
    due = ends + timedelta(hours=rule.settle_hours)
    reached = rule.data_available_end
    return "missing" if reached is not None and due <= reached else "waiting"


def _is_late(rule: RuleLine, ends: datetime, now: datetime) -> bool:
    due = ends + timedelta(hours=rule.settle_hours)
    return now > due + data_within(rule.report_type, rule.longest_data_age)


def day_cells(rule: RuleLine, states: Iterable[DayState], first: date, until: date, now: datetime) -> dict[date, Cell]:
    """A cell for each of the days [first, until) that has a run, or for which one is owed."""
    cells = unmade_cells(rule, first, until, now)
    of_day: dict[date, list[DayState]] = {}
    for state in states:
        of_day.setdefault(state.day, []).append(state)
    for day, found in of_day.items():
        worst = worst_in(rule, found)
        windows, stored = counted(found)
        note = "" if windows == 1 else f"{stored} of {windows} stored"
        cells[day] = Cell(day, state_in(rule, worst.state), days(day, day), path_of(rule, day, worst.run_id), note)
    return cells


def counted(states: Iterable[DayState]) -> tuple[int, int]:
    """How many windows there are in these states, and how many of them are stored."""
    windows = Counter[str]()
    for one in states:
        windows[one.state] += one.windows
    return windows.total(), windows[RunState.STORED]


def worst_in(rule: RuleLine, found: Iterable[_Shown]) -> _Shown:
    """What stands for a day on which a rule has several windows: the worst state."""
    return min(found, key=lambda one: _WORST_FIRST.index(state_in(rule, one.state)))


def unmade_cells(rule: RuleLine, first: date, until: date, now: datetime) -> dict[date, Cell]:
    """The cells of windows that have no run yet."""
    return {one.last: Cell(one.last, one.state, days(one.first, one.last)) for one in unmade(rule, first, until, now)}


def state_in(rule: RuleLine, state: str) -> str:
    """A run's state in the rule's calendar: what cannot continue until somebody acts is not under way."""
    return why.seen_state(state_of(state), rule.blocked_by(state))


def path_of(rule: RuleLine, day: date, run_id: uuid.UUID) -> str:
    """Where a day leads: to its run or, where several accounts share it, to the list of theirs."""
    return f"/rules/{rule.id}/days/{day}" if rule.accounts > 1 else f"/runs/{run_id}"


def cell_of(window: WindowLine, rule: RuleLine, path: str, accounts: int = 1) -> Cell:
    """The cell of a window with a run; `accounts` is the number of accounts that share it."""
    hours = (window.interval_end - window.interval_start) / timedelta(hours=1)
    is_odd = _is_daily(window) and hours != 24 and not window.partial
    note = ", ".join(_facts(window, hours if is_odd else None, accounts))
    first, last = dates_of(window.interval_start, window.interval_end, rule.timezone)
    return Cell(window.day, state_in(rule, window.state), days(first, last), path, note, hours if is_odd else None)


def dates_of(start: datetime, end: datetime, zone: str) -> tuple[date, date]:
    """The first and last local date of a window."""
    found = local_dates(start, end, zone)
    return found.first, found.last


def state_of(state: str) -> str:
    """A run's state in calendars."""
    return "in_progress" if state in ("planned", "requested", "ready") else state


def _is_daily(window: WindowLine) -> bool:
    return window.interval_end - window.interval_start < timedelta(hours=36)


def _facts(window: WindowLine, hours: float | None, accounts: int) -> Iterator[str]:
    if window.rows is not None:
        yield count(window.rows, "row")
    if window.revision > 1:
        yield f"revision {window.revision}"
    if hours is not None:
        yield f"{hours:g} hours: the clocks changed"
    if window.partial:
        yield "begins where Stripe's data begins"
    if window.error is not None:
        yield str(window.error.get("message", ""))[:200]
    if accounts > 1:
        yield f"the worst of {accounts} accounts"


def months_of(cells: Mapping[date, Cell], until: date) -> list[tuple[date, list[Cell | None]]]:
    """Months, newest first, back to the first one with a window; each has cells for the days 1 to 31.

    None where there is no such day.
    """
    months = []
    first = min((day for day, cell in cells.items() if cell.state), default=until - _ONE_DAY)
    month = (until - _ONE_DAY).replace(day=1)
    while month >= first.replace(day=1):
        row: list[Cell | None] = []
        for number in range(1, 32):
            try:
                day = month.replace(day=number)
            except ValueError:
                row.append(None)
            else:
                row.append(cells.get(day, Cell(day, "")))
        months.append((month, row))
        month = (month - _ONE_DAY).replace(day=1)
    return months
