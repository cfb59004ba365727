"""Local dates of windows: pure, and the same in the database."""

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import psycopg
import pytest

from app.planning.dates import LocalDates, earliest_start, local_dates, month_bounds, window_day
from app.planning.windows import Window, calendar_windows
from app.vocabulary import Cadence
from tests.planning.strategies import CALENDAR

LOS_ANGELES = "America/Los_Angeles"


def test_a_month_of_los_angeles_is_named_by_its_own_first_and_last_day() -> None:
    start, end = datetime(2026, 10, 1, 7, tzinfo=UTC), datetime(2026, 11, 1, 7, tzinfo=UTC)

    dates = local_dates(start, end, LOS_ANGELES)

    assert dates == LocalDates(date(2026, 10, 1), date(2026, 10, 31), LOS_ANGELES)


def test_a_week_belongs_to_the_month_of_its_last_day_and_an_update_to_that_of_its_start() -> None:
    dates = local_dates(datetime(2026, 9, 28, tzinfo=UTC), datetime(2026, 10, 5, tzinfo=UTC), "UTC")

    assert window_day(dates, Cadence.WEEKLY) == date(2026, 10, 4)
    assert window_day(dates, Cadence.EVERY_UPDATE) == date(2026, 9, 28)


@pytest.mark.parametrize(
    ("day", "bounds"),
    [
        (date(2026, 2, 28), (date(2026, 2, 1), date(2026, 3, 1))),
        (date(2026, 12, 31), (date(2026, 12, 1), date(2027, 1, 1))),
    ],
)
def test_a_month_ends_where_the_next_one_begins(day: date, bounds: tuple[date, date]) -> None:
    assert month_bounds(day) == bounds


def windows_of(cadence: Cadence, zone: str) -> list[Window]:
    windows = calendar_windows(cadence, ZoneInfo(zone), starts_on=date(2025, 12, 20))
    return [next(windows) for _ in range(400 if cadence is Cadence.DAILY else 20)]


@pytest.mark.parametrize("cadence", CALENDAR)
def test_windows_from_the_earliest_start_on_are_those_that_count_as_the_day_or_later(cadence: Cadence) -> None:
    zone = ZoneInfo(LOS_ANGELES)
    made = list(islice(calendar_windows(cadence, zone, starts_on=date(2024, 1, 1)), 1200))
    dates = [local_dates(window.start, window.end, LOS_ANGELES) for window in made]

    for passed in range(800):
        day = date(2025, 1, 1) + timedelta(days=passed)
        begun = [one for one in dates if one.first >= earliest_start(day, cadence)]
        assert begun == [one for one in dates if window_day(one, cadence) >= day]


@pytest.mark.parametrize("zone", ["UTC", LOS_ANGELES, "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"])
def test_the_database_counts_windows_as_the_same_day(database_url: str, zone: str) -> None:
    calendar = [(cadence, one) for cadence in CALENDAR
                for one in windows_of(cadence, zone)]  # fmt: skip
    start = datetime(2026, 3, 8, 9, 30, 1, tzinfo=UTC)
    updates = [(Cadence.EVERY_UPDATE, Window("2026-03-08T09:30:01Z", start, start + timedelta(days=9), partial=False))]

    with psycopg.connect(database_url) as connection:
        found = [
            connection.execute(
                "select window_day(%s, %s, %s, %s)", (window.key, window.start, window.end, zone)
            ).fetchone()
            for _, window in calendar + updates
        ]

    expected = [
        (window_day(local_dates(window.start, window.end, zone), cadence),) for cadence, window in calendar + updates
    ]
    assert found == expected


def test_a_zone_that_the_server_does_not_know_counts_as_utc(database_url: str) -> None:
    start = datetime(2026, 10, 1, tzinfo=UTC)

    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "select window_day('2026-10-01', %s, %s, 'Mars/Base')", (start, start + timedelta(days=1))
        ).fetchone()

    assert found == (date(2026, 10, 1),)
