"""What the property tests of planning draw from: every IANA zone, and days that are likely to be odd there."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import settings
from hypothesis import strategies as st

from app.planning.planner import Schedule
from app.vocabulary import Cadence

ZONES = sorted(available_timezones() - {"localtime"})
FIRST, LAST = date(1990, 1, 1), date(2100, 12, 31)
CALENDAR = [cadence for cadence in Cadence if cadence not in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT)]
DAY = timedelta(days=1)

# Machines are shared and noisy: how long an example takes proves nothing.
properties = settings(max_examples=150)


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@cache
def days_of_change(zone: str) -> tuple[date, ...]:
    """The UTC dates on which the zone's offset changes, to the day."""
    samples = [noon(FIRST) + timedelta(days=passed) for passed in range(0, (LAST - FIRST).days, 14)]
    offsets = [sample.astimezone(ZoneInfo(zone)).utcoffset() for sample in samples]
    spans = [samples[i] for i in range(len(samples) - 1) if offsets[i] != offsets[i + 1]]
    return tuple(_day_of_change(ZoneInfo(zone), span.date()) for span in spans)


def _day_of_change(zone: ZoneInfo, start: date) -> date:
    days = [start + passed * DAY for passed in range(15)]
    offsets = [noon(day).astimezone(zone).utcoffset() for day in days]
    return next(day for day, before, after in zip(days[1:], offsets, offsets[1:], strict=False) if before != after)


@st.composite
def zones_and_days(draw: st.DrawFn) -> tuple[str, date]:
    """A zone, and a day from 1990 to 2100: half of the time one around which the zone changes its clock."""
    zone = draw(st.sampled_from(ZONES))
    changes = days_of_change(zone)
    near_a_change = bool(changes) and draw(st.integers(0, 1)) == 1
    if near_a_change:
        return zone, draw(st.sampled_from(changes)) + draw(st.integers(-2, 2)) * DAY
    return zone, draw(st.dates(FIRST, LAST))


@st.composite
def schedules(draw: st.DrawFn, cadences: Sequence[Cadence] = CALENDAR) -> Schedule:
    zone, day = draw(zones_and_days())
    settle = draw(st.sampled_from([0, 0, 1, 12, 96]))
    return Schedule(draw(st.sampled_from(cadences)), zone, day, timedelta(hours=settle))
