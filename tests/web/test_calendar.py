"""Calendars, from rows alone."""

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from app.web.calendar import LATER, Cell, day_cells, months_of, state_in, unmade
from app.web.days import DayState, RuleLine

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
RULE = RuleLine(
    id=uuid.UUID(int=1),
    name="daily",
    account="default",
    report_type="payouts.itemized.5",
    enabled=True,
    cadence="daily",
    timezone="UTC",
    starts_on=date(2026, 11, 1),
    settle_hours=0,
    accounts=0,
    planned_until=datetime(2026, 11, 24, tzinfo=UTC),
    data_available_start=datetime(2026, 1, 1, tzinfo=UTC),
    data_available_end=datetime(2026, 11, 24, 12, tzinfo=UTC),
    longest_data_age=None,
    type_missing=False,
    held=[],
)


def states(rule: RuleLine) -> dict[str, str]:
    return {f"{one.last:%m-%d}": one.state for one in unmade(rule, date(2026, 11, 1), date(2026, 11, 27), NOW)}


def test_after_what_was_planned_days_wait_for_data_and_today_is_not_over() -> None:
    assert states(RULE) == {"11-24": "waiting", "11-25": "waiting", "11-26": LATER}


def test_a_day_whose_data_is_there_and_that_has_no_run_is_missing() -> None:
    assert states(replace(RULE, data_available_end=NOW))["11-25"] == "missing"
    assert states(replace(RULE, data_available_end=NOW, settle_hours=48))["11-25"] == "waiting"
    assert states(replace(RULE, data_available_end=NOW, type_missing=True))["11-25"] == "blocked"


@pytest.mark.parametrize(
    "blocked", [replace(RULE, held=["create"]), replace(RULE, type_missing=True)], ids=["key", "type"]
)
def test_what_needs_somebody_is_blocked_with_and_without_a_run(blocked: RuleLine) -> None:
    assert states(blocked) == {"11-24": "blocked", "11-25": "blocked", "11-26": LATER}
    assert [state_in(blocked, state) for state in ("planned", "requested", "ready", "failed", "stored")] == [
        "blocked", "in_progress", "in_progress", "failed", "stored",
    ]  # fmt: skip
    assert state_in(RULE, "planned") == "in_progress"


def test_a_key_that_may_not_read_files_blocks_what_is_to_be_downloaded_and_nothing_before() -> None:
    blocked = replace(RULE, held=["files"])

    assert set(states(blocked).values()) == {"waiting", LATER}
    assert [state_in(blocked, state) for state in ("planned", "requested", "ready")] == [
        "in_progress", "in_progress", "blocked",
    ]  # fmt: skip
    day = [DayState(RULE.id, date(2026, 11, 23), state, RULE.id, 2) for state in ("requested", "ready", "stored")]
    cell = day_cells(blocked, day, date(2026, 11, 23), date(2026, 11, 24), NOW)[date(2026, 11, 23)]
    assert (cell.state, cell.note) == ("blocked", "2 of 6 stored")


def test_days_are_those_of_the_rules_zone() -> None:
    planned = datetime(2026, 11, 23, 15, tzinfo=UTC)  # midnight in Tokyo

    assert states(replace(RULE, timezone="Asia/Tokyo", planned_until=planned)) == {
        "11-24": "waiting",
        "11-25": "waiting",
        "11-26": LATER,
    }


@pytest.mark.parametrize(
    ("cadence", "expected"),
    [("weekly", {"11-08": "waiting", "11-15": "waiting", "11-22": "waiting"}), ("monthly", {}), ("every_update", {})],
)
def test_a_longer_window_counts_as_its_last_day(cadence: str, expected: dict[str, str]) -> None:
    assert states(replace(RULE, cadence=cadence, planned_until=None, data_available_end=None)) == expected


def test_a_rule_that_is_off_owes_nothing_and_one_without_runs_begins_where_data_begins() -> None:
    assert states(replace(RULE, enabled=False)) == {}
    begun = replace(RULE, planned_until=None, data_available_start=datetime(2026, 11, 23, 6, tzinfo=UTC))
    assert min(states(begun)) == "11-23"


def test_months_go_back_to_the_first_day_that_has_something() -> None:
    cells = {day: Cell(day, "stored") for day in (date(2026, 9, 30), date(2026, 11, 1))}

    months = months_of(cells, date(2026, 11, 27))

    assert [month for month, _ in months] == [date(2026, 11, 1), date(2026, 10, 1), date(2026, 9, 1)]
    november, _, september = (row for _, row in months)
    assert november[30] is None  # there is no 31 November
    assert september[29] == Cell(date(2026, 9, 30), "stored")


def test_an_empty_calendar_is_the_current_month() -> None:
    assert [month for month, _ in months_of({}, date(2026, 11, 27))] == [date(2026, 11, 1)]
