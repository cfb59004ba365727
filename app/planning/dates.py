"""Local dates of a window: how people name it, and which month it belongs to.

The one definition for filters, files by date, coverage, backfills, packs, `month.complete` and the pages. The database
has the same function as `window_day`, for filtering there; a test keeps the two equal.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from app.planning.windows import in_utc, unit_start
from app.vocabulary import Cadence

# The resolution that PostgreSQL timestamps and Python datetimes share.
_LAST_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class LocalDates:
    """The local dates of a window, both inside it, in the IANA zone `timezone`."""

    first: date
    last: date
    timezone: str


def local_dates(start: datetime, end: datetime, timezone: str) -> LocalDates:
    """The dates of the first and the last moment of `[start, end)`; both aware."""
    zone = ZoneInfo(timezone)
    first, last = in_utc(start), max(in_utc(start), in_utc(end) - _LAST_MOMENT)
    return LocalDates(first.astimezone(zone).date(), last.astimezone(zone).date(), timezone)


def window_day(dates: LocalDates, cadence: Cadence) -> date:
    """The day that a window belongs to: the last one of a calendar window, the first one of an `every_update` window.

    Its month is the month that the window belongs to.
    """
    return dates.first if cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT) else dates.last


def earliest_start(day: date, cadence: Cadence) -> date:
    """The first day of the first calendar window that belongs to `day` or a later one, where windows are made and not
    filtered: that of the unit which holds the day."""
    return unit_start(day, cadence)


def month_bounds(month: date) -> tuple[date, date]:
    """The first day of the month that holds `month`, and the first day of the next one."""
    first = month.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)
