"""Cuts the time line into half-open windows between local midnights; the planner chooses among them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from app.vocabulary import Cadence

# Windows are sent to Stripe in unix seconds, which begin here.
FIRST_DAY = date(1970, 1, 1)
# Far enough from the limit of `datetime` that no sum in planning can overflow.
LAST_DAY = date(8999, 12, 31)

# This many days after the first day of a unit always lie in the next unit: none is longer, none half as short.
LONGEST_UNIT_DAYS = {
    Cadence.DAILY: 1,
    Cadence.WEEKLY: 7,
    Cadence.MONTHLY: 31,
    Cadence.QUARTERLY: 92,
    Cadence.YEARLY: 366,
}


@dataclass(frozen=True, slots=True)
class Window:
    """The period that one run covers: `[start, end)` in aware UTC.

    `key` identifies the run within its rule and connected account: the first local date of the calendar unit
    ("2026-10-01", also where the window is partial), for `every_update` the start instant ("2026-10-01T07:00:00Z"), for
    `every_payout` the payout's id.
    `partial` says that it begins where the data begins, later than it otherwise would.
    """

    key: str
    start: datetime
    end: datetime
    partial: bool


def in_utc(moment: datetime) -> datetime:
    """The same instant in UTC. Adding to any other zone would move its wall clock instead; naive is a ValueError."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: pass an aware datetime")
    return moment.astimezone(UTC)


def day_start(day: date, zone: tzinfo) -> datetime:
    """The instant at which a local day begins, in UTC.

    That is its midnight; the first one if the clock shows it twice; the first instant after the gap if it is
    skipped. A day that is skipped as a whole begins when the next one does.
    """
    # Fold 0 is the first of two midnights, and it reads a skipped one by the offset before the gap. Every clock since
    # 1919 that skipped midnight jumped at midnight (a test asks all zones), so that is the instant of the jump.
    return datetime.combine(day, time(), zone).astimezone(UTC)


def instant_key(moment: datetime) -> str:
    """The key of an every_update window: its aware start, in whole seconds of UTC. Keys sort like what they name."""
    return in_utc(moment).isoformat(timespec="seconds").replace("+00:00", "Z")


def unit_start(day: date, cadence: Cadence) -> date:
    """The first day of the calendar unit that holds `day`; without one (`every_update`) ValueError."""
    match cadence:
        case Cadence.DAILY:
            return day
        case Cadence.WEEKLY:
            return day - timedelta(days=day.weekday())
        case Cadence.MONTHLY:
            return day.replace(day=1)
        case Cadence.QUARTERLY:
            return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
        case Cadence.YEARLY:
            return date(day.year, 1, 1)
        case Cadence.EVERY_UPDATE | Cadence.EVERY_PAYOUT:
            raise ValueError(f"{cadence} follows what Stripe says and has no calendar unit")


def next_unit(first: date, cadence: Cadence) -> date:
    """The first day of the unit after the one that begins on `first`."""
    return unit_start(first + timedelta(days=LONGEST_UNIT_DAYS[cadence]), cadence)


def payout_window(payout: str, arrival: date, zone: tzinfo) -> Window:
    """The window of a payout: the local day on which it arrives. Several payouts may share one."""
    return Window(payout, day_start(arrival, zone), day_start(arrival + timedelta(days=1), zone), partial=False)


def calendar_windows(cadence: Cadence, zone: tzinfo, *, starts_on: date) -> Iterator[Window]:
    """Whole units, oldest first, from the first that begins on or after `starts_on`; lazy, and practically endless."""
    first = unit_start(starts_on, cadence)
    if first < starts_on:
        first = next_unit(first, cadence)
    start = day_start(first, zone)
    while first <= LAST_DAY:
        following = next_unit(first, cadence)
        end = day_start(following, zone)
        # A day that a zone skipped as a whole (Samoa, 2011-12-30) has no length, and no window.
        if start < end:
            yield Window(key=first.isoformat(), start=start, end=end, partial=False)
        first, start = following, end
