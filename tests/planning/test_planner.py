"""Which windows a rule owes: named examples."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest

from app.planning import planner
from app.planning.planner import Availability, Schedule, all_windows, due_windows
from app.planning.windows import Window, calendar_windows
from app.vocabulary import Cadence

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rule(cadence: str, zone: str = "Etc/UTC", *, since: str = "2026-10-01", settle_hours: float = 0) -> Schedule:
    return Schedule(Cadence(cadence), zone, date.fromisoformat(since), timedelta(hours=settle_hours))


def due(schedule: Schedule, until: str, *, since: str = "2026-01-01", planned: str | None = None) -> list[str]:
    """What is due, as `key: start/end` with hours, and `*` where a window is partial."""
    planned_until = at(planned) if planned else None
    windows = due_windows(schedule, Availability(at(since), at(until)), planned_until=planned_until)
    return [f"{w.key}: {w.start:%m-%dT%H}/{w.end:%m-%dT%H}{'*' if w.partial else ''}" for w in windows]


LA = "America/Los_Angeles"


@pytest.mark.parametrize(
    ("schedule", "until", "expected"),
    [
        (rule("daily"), "2026-10-01T23:59:59", []),
        (rule("daily"), "2026-10-02", ["2026-10-01: 10-01T00/10-02T00"]),
        (rule("daily", LA), "2026-10-02T00", []),
        (rule("daily", LA), "2026-10-02T12", ["2026-10-01: 10-01T07/10-02T07"]),
        (rule("daily", LA, since="2026-10-31"), "2026-11-02T07:59", ["2026-10-31: 10-31T07/11-01T07"]),
        (
            rule("daily", LA, since="2026-10-31"),
            "2026-11-02T08",
            ["2026-10-31: 10-31T07/11-01T07", "2026-11-01: 11-01T07/11-02T08"],
        ),
        (rule("weekly", since="2026-10-06"), "2026-10-18", []),
        (rule("weekly", since="2026-10-06"), "2026-10-19", ["2026-10-12: 10-12T00/10-19T00"]),
        (rule("monthly", "Asia/Tokyo"), "2026-10-31T15", ["2026-10-01: 09-30T15/10-31T15"]),
        (rule("monthly", "Asia/Tokyo"), "2026-10-31T14", []),
        (rule("quarterly", since="2026-05-01"), "2026-10-01", ["2026-07-01: 07-01T00/10-01T00"]),
        (rule("yearly", since="2026-01-02"), "2027-12-31", []),
        (rule("yearly", since="2026-01-01"), "2027-12-31", ["2026-01-01: 01-01T00/01-01T00"]),
        (rule("daily", settle_hours=96), "2026-10-05", []),
        (rule("daily", settle_hours=96), "2026-10-06", ["2026-10-01: 10-01T00/10-02T00"]),
        (rule("daily", settle_hours=0.5), "2026-10-02T00:29:59", []),
        (rule("daily", settle_hours=0.5), "2026-10-02T00:30", ["2026-10-01: 10-01T00/10-02T00"]),
        (rule("daily", since="9999-12-31"), "2026-10-02", []),
        (rule("every_update"), "2026-10-01", []),
        (rule("every_update"), "2026-10-01T12", ["2026-10-01T00:00:00Z: 10-01T00/10-01T12"]),
        (rule("every_update", LA), "2026-10-03T12", ["2026-10-01T07:00:00Z: 10-01T07/10-03T12"]),
        (rule("every_update", settle_hours=2), "2026-10-01T02", []),
        (rule("every_update", settle_hours=2), "2026-10-01T12", ["2026-10-01T00:00:00Z: 10-01T00/10-01T10"]),
        (rule("every_update", since="9999-12-31"), "2026-10-02", []),
    ],
)  # fmt: skip
def test_what_a_new_rule_owes(schedule: Schedule, until: str, expected: list[str]) -> None:
    assert due(schedule, until) == expected


@pytest.mark.parametrize(
    ("schedule", "planned", "expected"),
    [
        (rule("daily"), "2026-10-04", ["2026-10-04: 10-04T00/10-05T00"]),
        (rule("daily"), "2026-10-05", []),
        (rule("weekly", since="2026-09-01"), "2026-09-28", ["2026-09-28: 09-28T00/10-05T00"]),
        (rule("every_update"), "2026-10-04T12", ["2026-10-04T12:00:00Z: 10-04T12/10-05T00"]),
        (rule("every_update"), "2026-10-05", []),
        # The rule has since been moved: nothing before its new start is owed.
        (rule("daily", since="2026-10-04"), "2026-10-02", ["2026-10-04: 10-04T00/10-05T00"]),
        (rule("every_update", since="2026-10-04"), "2026-10-02", ["2026-10-04T00:00:00Z: 10-04T00/10-05T00"]),
    ],
)
def test_what_a_rule_owes_after_what_was_made(schedule: Schedule, planned: str, expected: list[str]) -> None:
    assert due(schedule, "2026-10-05", planned=planned) == expected


@pytest.mark.parametrize(
    ("schedule", "since", "expected"),
    [
        (rule("daily", since="2020-01-01"), "2026-10-04", ["2026-10-04: 10-04T00/10-05T00"]),
        (rule("daily", since="2020-01-01"), "2026-10-04T09", ["2026-10-04: 10-04T09/10-05T00*"]),
        (rule("monthly", since="2020-01-01"), "2026-09-17T05", ["2026-09-01: 09-17T05/10-01T00*"]),
        (rule("monthly", since="2026-09-02"), "2026-09-17T05", []),
        (rule("every_update"), "2026-10-04T09", ["2026-10-04T09:00:00Z: 10-04T09/10-05T00*"]),
        (rule("every_update"), "2026-10-01", ["2026-10-01T00:00:00Z: 10-01T00/10-05T00"]),
    ],
)
def test_a_window_begins_where_the_data_begins(schedule: Schedule, since: str, expected: list[str]) -> None:
    assert due(schedule, "2026-10-05", since=since) == expected


def test_data_that_is_gone_before_a_window_was_made_cuts_it() -> None:
    assert due(rule("every_update"), "2026-10-05", since="2026-10-03", planned="2026-10-02") == [
        "2026-10-03T00:00:00Z: 10-03T00/10-05T00*"
    ]


def test_between_two_midnights_data_that_begins_belongs_to_the_new_day() -> None:
    # In Newfoundland 00:01 became 23:01 of the day before; here the data begins in that second 23:30.
    schedule = rule("daily", "America/St_Johns", since="2000-01-01")

    windows = all_windows(schedule, Availability(at("2005-10-30T03:00"), at("2006-01-01")), until=at("2006-01-01"))

    assert next(windows) == Window("2005-10-30", at("2005-10-30T03:00"), at("2005-10-31T03:30"), partial=True)


@pytest.mark.parametrize("moved", [-3, -1, 1, 3])
def test_a_midnight_that_new_zone_data_moved_leaves_no_day_out_and_makes_none_twice(moved: int) -> None:
    planned_until = at("2026-10-03T07:00") + moved * HOUR

    windows = due_windows(rule("daily", LA), Availability(ALWAYS, at("2026-10-05T12")), planned_until=planned_until)

    assert [window.key for window in windows] == ["2026-10-03", "2026-10-04"]


def test_times_may_come_in_any_zone() -> None:
    # A database session may answer in its own zone, where adding hours would move the wall clock.
    berlin = ZoneInfo("Europe/Berlin")
    availability = Availability(ALWAYS.astimezone(berlin), at("2026-10-26T00").astimezone(berlin))

    windows = due_windows(
        rule("daily", settle_hours=24), availability, planned_until=at("2026-10-23").astimezone(berlin)
    )

    assert [window.key for window in windows] == ["2026-10-23", "2026-10-24"]
    assert all(window.end.tzinfo is UTC for window in windows)


def test_every_update_is_in_whole_seconds_and_loses_none() -> None:
    schedule = rule("every_update", settle_hours=1 / 3601)
    availability = Availability(ALWAYS, at("2026-10-02"))

    first = due_windows(schedule, availability, planned_until=None)[-1]
    later = Availability(ALWAYS, at("2026-10-03"))
    second = due_windows(schedule, later, planned_until=first.end)[-1]

    assert (first.end.microsecond, second.start) == (0, first.end)


def test_every_update_has_no_calendar() -> None:
    with pytest.raises(ValueError, match="read them from its runs"):
        all_windows(rule("every_update"), Availability(ALWAYS, at("2026-10-02")), until=at("2026-10-02"))


def test_without_known_availability_every_window_is_whole() -> None:
    windows = all_windows(rule("monthly", since="2026-01-01"), None, until=at("2026-03-01"))

    assert [(window.key, window.partial) for window in windows] == [("2026-01-01", False), ("2026-02-01", False)]


def test_the_windows_of_a_stretch_are_those_that_touch_it() -> None:
    windows = all_windows(rule("daily"), None, since=at("2026-10-05T12"), until=at("2026-10-07T12"))

    assert [window.key for window in windows] == ["2026-10-05", "2026-10-06", "2026-10-07"]


def test_a_long_history_is_jumped_over(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def counted(cadence: Cadence, zone: tzinfo, *, starts_on: date) -> Iterator[Window]:
        for window in calendar_windows(cadence, zone, starts_on=starts_on):
            looked_at.append(window)
            yield window

    monkeypatch.setattr(planner, "calendar_windows", counted)
    schedule = rule("daily", "America/New_York", since="1990-01-01")

    windows = due_windows(schedule, Availability(ALWAYS, at("2026-10-03")), planned_until=at("2026-10-01T04:00"))

    assert [window.key for window in windows] == ["2026-10-01"]
    assert len(looked_at) <= 3
