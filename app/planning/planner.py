"""Which windows a rule owes, given how far Stripe's data reaches: `rules/schedule` asks, and plans the new ones."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from app.planning.windows import (
    FIRST_DAY,
    LAST_DAY,
    Window,
    calendar_windows,
    day_start,
    in_utc,
    instant_key,
    unit_start,
)
from app.vocabulary import Cadence

# The last planned window ended at midnight according to the time zone data of that day. Half a day later lies inside
# the next unit even if an update of that data has moved midnight since, so that no unit is skipped or repeated.
_INTO_THE_NEXT_UNIT = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a rule says about time. `timezone` is a known IANA name, `settle` how long data may still change."""

    cadence: Cadence
    timezone: str
    starts_on: date
    settle: timedelta


@dataclass(frozen=True, slots=True)
class Availability:
    """The range `[start, end)`, aware, that a report type has data for."""

    start: datetime
    end: datetime


def due_windows(
    schedule: Schedule, availability: Availability, *, planned_until: datetime | None, limit: int | None = None
) -> list[Window]:
    """The windows that are due and come after `planned_until`, oldest first, at most `limit` of them.

    `planned_until` is the end of the last window made for this rule and connected account, None before the first;
    the caller keeps the last answer's end as the next one. Takes as long as the answer is, however long the history.
    """
    complete_until = in_utc(availability.end) - schedule.settle
    if schedule.cadence is Cadence.EVERY_UPDATE:
        windows = _update_window(schedule, available_from=availability.start, start=planned_until, end=complete_until)
    else:
        since = None if planned_until is None else in_utc(planned_until) + _INTO_THE_NEXT_UNIT
        owed = _calendar_windows(schedule, available_from=availability.start, since=since)
        windows = takewhile(lambda window: window.end <= complete_until, owed)
    return list(islice(windows, limit))


def not_planned(windows: Sequence[Window], planned_until: datetime | None) -> Sequence[Window]:
    """Of a calendar rule's windows, oldest first, those that come after `planned_until`, as `due_windows` sees it."""
    if planned_until is None:
        return windows
    since = in_utc(planned_until) + _INTO_THE_NEXT_UNIT
    return windows[bisect_right(windows, since, key=lambda window: window.end) :]


def all_windows(
    schedule: Schedule, availability: Availability | None, *, until: datetime, since: datetime | None = None
) -> Iterator[Window]:
    """Every calendar window of the rule that begins before `until` and ends after `since`, due or not, oldest first.

    Without `availability` (not known yet) none is cut or left out. ValueError for `every_update`: its windows depend on
    when availability advanced, so only its runs can tell.
    """
    if schedule.cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT):
        raise ValueError(f"the windows of an {schedule.cadence} rule follow from its history: read them from its runs")
    available_from = None if availability is None else availability.start
    owed = _calendar_windows(schedule, available_from=available_from, since=since)
    return takewhile(lambda window: window.start < until, owed)


def due_at(window: Window, schedule: Schedule) -> datetime:
    """How far availability must reach for the window to be due."""
    return window.end + schedule.settle


def next_due_at(schedule: Schedule, availability: Availability, *, planned_until: datetime | None) -> datetime | None:
    """How far availability must reach for the first window after `planned_until`; None if there is none."""
    if schedule.cadence is Cadence.EVERY_UPDATE:
        start = _update_start(schedule, available_from=availability.start, after=planned_until)
        # Stripe counts in whole seconds: a window has one at least.
        return start + timedelta(seconds=1) + schedule.settle
    since = None if planned_until is None else in_utc(planned_until) + _INTO_THE_NEXT_UNIT
    following = next(_calendar_windows(schedule, available_from=availability.start, since=since), None)
    return None if following is None else due_at(following, schedule)


def beginning(schedule: Schedule, availability: Availability | None) -> datetime:
    """Where the first window begins that a rule owes. Payouts do not depend on where the data begins."""
    available_from = None if availability is None else availability.start
    if schedule.cadence is Cadence.EVERY_UPDATE:
        return _update_start(schedule, available_from=available_from, after=None)
    earliest = _update_start(schedule, available_from=None, after=None)
    if schedule.cadence is Cadence.EVERY_PAYOUT:
        return earliest
    first = next(_calendar_windows(schedule, available_from=available_from, since=None), None)
    return earliest if first is None else first.start


def _calendar_windows(
    schedule: Schedule, *, available_from: datetime | None, since: datetime | None
) -> Iterator[Window]:
    """The rule's windows that end after both instants; the one that straddles `available_from` begins there."""
    zone = ZoneInfo(schedule.timezone)
    bounds = [in_utc(bound) for bound in (available_from, since) if bound is not None]
    units = [unit_start(bound.astimezone(zone).date(), schedule.cadence) for bound in bounds]
    for window in calendar_windows(schedule.cadence, zone, starts_on=max([_first_day(schedule), *units])):
        # Where midnight exists twice, a bound between the two still has the date of the unit before.
        if all(window.end > bound for bound in bounds):
            yield _begun_at_data(window, available_from)


def _first_day(schedule: Schedule) -> date:
    return min(max(schedule.starts_on, FIRST_DAY), LAST_DAY)


def _begun_at_data(window: Window, available_from: datetime | None) -> Window:
    if available_from is None or available_from <= window.start:
        return window
    return replace(window, start=in_utc(available_from), partial=True)


def _update_window(
    schedule: Schedule, *, available_from: datetime, start: datetime | None, end: datetime
) -> Iterator[Window]:
    """The one window between the last one made and the end of the complete data, if there is any."""
    wanted = _update_start(schedule, available_from=None, after=start)
    # Stripe counts in whole seconds; the rest of a fraction belongs to the next window.
    window = Window(key="", start=wanted, end=end.replace(microsecond=0), partial=False)
    window = _begun_at_data(window, available_from)
    if window.start < window.end:
        yield replace(window, key=instant_key(window.start))


def _update_start(schedule: Schedule, *, available_from: datetime | None, after: datetime | None) -> datetime:
    """Where the next window of an every_update rule begins: after the last one, not before the rule or its data."""
    beginning = day_start(_first_day(schedule), ZoneInfo(schedule.timezone))
    return max(in_utc(bound) for bound in (beginning, after, available_from) if bound is not None)
