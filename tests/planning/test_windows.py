"""Local days and calendar units, in every existing zone."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.planning.windows import calendar_windows, day_start, in_utc, next_unit, unit_start
from app.vocabulary import Cadence
from tests.planning.strategies import CALENDAR, DAY, FIRST, LAST, ZONES, days_of_change, properties, zones_and_days

MINUTE = timedelta(minutes=1)


def first_minute_of(day: date, zone: tzinfo) -> datetime:
    """The slow truth: walk along UTC until the clock on the wall shows midnight, or more, for the first time."""
    minute = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=27)
    while minute.astimezone(zone).date() < day:
        minute += MINUTE
    return minute


def hours_of(day: date, zone: str) -> float:
    there = ZoneInfo(zone)
    return (day_start(day + DAY, there) - day_start(day, there)) / timedelta(hours=1)


@given(zones_and_days())
@properties
def test_a_day_begins_in_the_first_minute_that_bears_its_date_or_a_later_one(drawn: tuple[str, date]) -> None:
    zone, day = drawn

    assert day_start(day, ZoneInfo(zone)) == first_minute_of(day, ZoneInfo(zone))


@pytest.fixture(scope="module")
def odd_days() -> list[tuple[str, date]]:
    """The days around every change of any clock until 2040; the later ones repeat a rule."""
    changes = [(zone, day) for zone in ZONES for day in days_of_change(zone) if day.year < 2040]
    return [(zone, day + shift * DAY) for zone, day in changes for shift in (-1, 0, 1)]


@pytest.mark.slow
def test_a_second_before_any_day_begins_it_has_not_begun(odd_days: list[tuple[str, date]]) -> None:
    for zone, day in odd_days:
        begins = day_start(day, ZoneInfo(zone))
        before, after = begins - timedelta(seconds=1), begins
        assert before.astimezone(ZoneInfo(zone)).date() < day <= after.astimezone(ZoneInfo(zone)).date(), zone


@pytest.mark.slow
def test_every_day_has_seventeen_hours_unless_it_was_skipped(odd_days: list[tuple[str, date]]) -> None:
    lengths = {(zone, day): hours_of(day, zone) for zone, day in odd_days}

    skipped = {place for place, hours in lengths.items() if hours == 0}
    assert ("Pacific/Apia", date(2011, 12, 30)) in skipped
    assert {day for _, day in skipped} <= {date(1993, 8, 21), date(1994, 12, 31), date(1995, 1, 1), date(2011, 12, 30)}
    # The planner relies on half a day lying inside every day; the shortest was one of an Antarctic station.
    assert min(hours for place, hours in lengths.items() if place not in skipped) >= 17


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("America/New_York", "2026-10-01", "2026-10-01T04:00:00Z"),
        ("Asia/Kathmandu", "2026-10-01", "2026-09-30T18:15:00Z"),
        # Midnight does not exist: the day begins at the first instant after the gap.
        ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00Z"),
        ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00:00Z"),
        ("America/Santiago", "2024-09-08", "2024-09-08T04:00:00Z"),
        ("America/Havana", "2024-03-10", "2024-03-10T05:00:00Z"),
        ("America/Sao_Paulo", "2017-10-15", "2017-10-15T03:00:00Z"),
        # The clock went from 23:30 to midnight: it exists.
        ("Asia/Pyongyang", "2018-05-05", "2018-05-04T15:00:00Z"),
        # Midnight exists twice: the first one counts.
        ("America/Havana", "2024-11-03", "2024-11-03T04:00:00Z"),
        ("America/St_Johns", "2005-10-30", "2005-10-30T02:30:00Z"),
        ("Asia/Amman", "2021-10-29", "2021-10-28T21:00:00Z"),
        # The clock went back from midnight to 23:00, so midnight came only once, an hour later.
        ("America/Sao_Paulo", "2018-02-18", "2018-02-18T03:00:00Z"),
        # Samoa had no Friday: it begins, and ends, where Saturday does.
        ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00Z"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"),
    ],
)
def test_where_a_named_day_begins(zone: str, day: str, begins: str) -> None:
    assert day_start(date.fromisoformat(day), ZoneInfo(zone)) == datetime.fromisoformat(begins)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2026-10-01", 24),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Africa/Cairo", "2024-04-26", 23),
        ("America/Havana", "2024-11-03", 25),
        ("America/Sao_Paulo", "2018-02-17", 25),
        ("Pacific/Apia", "2011-12-30", 0),
        ("Etc/UTC", "2016-12-31", 24),
    ],
)
def test_how_long_a_named_day_is(zone: str, day: str, hours: float) -> None:
    assert hours_of(date.fromisoformat(day), zone) == hours


@pytest.mark.parametrize(
    ("cadence", "starts_on", "keys"),
    [
        (Cadence.DAILY, "2024-02-28", ["2024-02-28", "2024-02-29", "2024-03-01"]),
        (Cadence.DAILY, "2100-02-28", ["2100-02-28", "2100-03-01", "2100-03-02"]),
        (Cadence.WEEKLY, "2026-10-05", ["2026-10-05", "2026-10-12", "2026-10-19"]),
        (Cadence.WEEKLY, "2026-10-06", ["2026-10-12", "2026-10-19", "2026-10-26"]),
        (Cadence.WEEKLY, "2020-12-24", ["2020-12-28", "2021-01-04", "2021-01-11"]),
        (Cadence.MONTHLY, "2024-01-01", ["2024-01-01", "2024-02-01", "2024-03-01"]),
        (Cadence.MONTHLY, "2024-01-31", ["2024-02-01", "2024-03-01", "2024-04-01"]),
        (Cadence.MONTHLY, "2026-11-02", ["2026-12-01", "2027-01-01", "2027-02-01"]),
        (Cadence.QUARTERLY, "2026-01-01", ["2026-01-01", "2026-04-01", "2026-07-01"]),
        (Cadence.QUARTERLY, "2026-07-02", ["2026-10-01", "2027-01-01", "2027-04-01"]),
        (Cadence.YEARLY, "2024-01-01", ["2024-01-01", "2025-01-01", "2026-01-01"]),
        (Cadence.YEARLY, "2024-12-31", ["2025-01-01", "2026-01-01", "2027-01-01"]),
    ],
)
def test_which_units_come_first(cadence: Cadence, starts_on: str, keys: list[str]) -> None:
    windows = calendar_windows(cadence, ZoneInfo("Europe/Berlin"), starts_on=date.fromisoformat(starts_on))

    assert [window.key for window in islice(windows, 3)] == keys


def test_a_skipped_day_has_no_window_and_leaves_no_hole() -> None:
    windows = calendar_windows(Cadence.DAILY, ZoneInfo("Pacific/Apia"), starts_on=date(2011, 12, 29))

    thursday, saturday = islice(windows, 2)

    assert (thursday.key, saturday.key) == ("2011-12-29", "2011-12-31")
    assert thursday.end == saturday.start


def test_the_week_in_which_a_day_was_skipped_has_six_days() -> None:
    week = next(calendar_windows(Cadence.WEEKLY, ZoneInfo("Pacific/Apia"), starts_on=date(2011, 12, 26)))

    assert week.end - week.start == timedelta(days=6)


@given(zones_and_days(), st.sampled_from(CALENDAR))
@properties
def test_units_follow_each_other_without_gap_or_overlap(drawn: tuple[str, date], cadence: Cadence) -> None:
    zone, day = drawn

    windows = list(islice(calendar_windows(cadence, ZoneInfo(zone), starts_on=day), 8))

    assert all(before.end == after.start for before, after in pairwise(windows))
    assert all(window.start < window.end and not window.partial for window in windows)
    assert all(window.start.tzinfo is UTC and window.end.tzinfo is UTC for window in windows)


@given(st.dates(FIRST, LAST), st.sampled_from(CALENDAR))
@properties
def test_a_unit_holds_its_days_and_ends_where_the_next_begins(day: date, cadence: Cadence) -> None:
    first = unit_start(day, cadence)
    following = next_unit(first, cadence)

    days = [first + passed * DAY for passed in range((following - first).days)]

    assert day in days
    assert {unit_start(inside, cadence) for inside in days} == {first}
    assert unit_start(following, cadence) == following


@given(st.dates(FIRST, LAST))
@properties
def test_a_week_is_the_iso_week(day: date) -> None:
    assert unit_start(day, Cadence.WEEKLY) == date.fromisocalendar(*day.isocalendar()[:2], 1)


def test_the_calendar_ends_before_datetime_does() -> None:
    windows = calendar_windows(Cadence.YEARLY, ZoneInfo("Pacific/Honolulu"), starts_on=date(8997, 6, 1))

    assert [window.key for window in windows] == ["8998-01-01", "8999-01-01"]


def test_the_months_of_a_leap_year_hold_all_its_days() -> None:
    windows = calendar_windows(Cadence.MONTHLY, ZoneInfo("Asia/Tokyo"), starts_on=date(2020, 1, 1))

    in_2020 = takewhile(lambda window: window.key < "2021", windows)

    assert sum((window.end - window.start for window in in_2020), timedelta()) == timedelta(days=366)


def test_every_update_has_no_calendar_unit() -> None:
    with pytest.raises(ValueError, match="no calendar unit"):
        unit_start(date(2026, 10, 1), Cadence.EVERY_UPDATE)


def test_a_time_without_a_zone_is_refused_rather_than_guessed() -> None:
    with pytest.raises(ValueError, match="pass an aware datetime"):
        in_utc(datetime(2026, 10, 1))  # noqa: DTZ001 - the naive time is the point of the test
