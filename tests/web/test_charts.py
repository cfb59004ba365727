"""Charts and progress, from rows alone."""

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from app.web.charts import PER_DAY, Value, chart, of_windows
from app.web.days import WindowLine
from app.web.rule import progress_of

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
WINDOW = WindowLine(
    run_id=uuid.UUID(int=1),
    day=date(2026, 11, 1),
    connected_account=None,
    window_key="2026-11-01",
    state="stored",
    attempt=1,
    revision=1,
    partial=False,
    interval_start=datetime(2026, 11, 1, tzinfo=UTC),
    interval_end=datetime(2026, 11, 2, tzinfo=UTC),
    error=None,
    ready_at=NOON,
    planned_at=NOON,
    stored_at=NOON + timedelta(seconds=40),
    size=5000,
    rows=48,
    removed_at=None,
)


def windows(count: int) -> list[WindowLine]:
    """Of one day each, newest first."""
    days = [WINDOW.day + timedelta(days=number) for number in range(count)]
    return [replace(WINDOW, day=day, run_id=uuid.UUID(int=day.day)) for day in reversed(days)]


def test_what_is_unusual_is_named_and_leads_to_its_run() -> None:
    found = windows(9)
    found[2] = replace(found[2], rows=480, size=50_000, stored_at=NOON + timedelta(hours=5))
    found[6] = replace(found[6], rows=1)

    rows, size, took = of_windows(found)

    assert [bar.title for bar in rows.outliers] == ["7 Nov 2026: 480 rows", "3 Nov 2026: 1 row"]
    assert [bar.title for bar in size.outliers] == ["7 Nov 2026: 50.0 kB"]
    assert [bar.title for bar in took.outliers] == ["7 Nov 2026: 5 hours"]
    assert rows.outliers[0].path == f"/runs/{uuid.UUID(int=7)}"
    assert rows.summary == "usually 48 rows"


def test_a_little_more_than_usual_is_not_unusual_and_a_giant_hides_nobody() -> None:
    values = [Value(date(2026, 11, number), float(number % 3)) for number in range(1, 10)]

    assert chart(PER_DAY, values).outliers == []
    giant = chart(PER_DAY, [*values, Value(date(2026, 11, 10), 1_000_000)])
    assert [bar.title for bar in giant.outliers] == ["10 Nov 2026: 1,000,000"]
    assert max(bar.height for bar in giant.bars[:-1]) > 10
    assert all(bar.y >= 0 and bar.x + bar.width <= 600 for bar in giant.bars)


def test_a_day_or_a_month_without_a_value_leaves_a_gap_and_the_axis_names_the_highest() -> None:
    daily = [Value(date(2026, 11, number), 9.0) for number in (1, 2, 3, 6, 7)]
    monthly = [Value(date(2026, month, 1), 9.0) for month in (1, 2, 3, 6, 7)]

    for values in (daily, monthly):
        found = chart(PER_DAY, values)
        assert [round(bar.x / found.bars[1].x) for bar in found.bars] == [0, 1, 2, 5, 6]
        assert found.highest == "9"
    long_ago = Value(date(2020, 1, 1), 9.0)
    assert chart(PER_DAY, [long_ago, *daily]) == chart(PER_DAY, daily)


def test_progress_counts_what_was_planned_since_the_oldest_that_is_under_way() -> None:
    begun = NOON - timedelta(minutes=5)
    old, made, failed, moving = windows(4)
    batch = [
        old,
        replace(made, planned_at=begun),
        replace(failed, planned_at=begun, state="failed"),
        replace(moving, planned_at=begun, state="requested"),
    ]

    found = progress_of([replace(old, planned_at=begun - timedelta(days=1)), *batch[1:]], NOON)

    assert found is not None
    assert (found.since, found.windows, found.stored, found.failed) == (begun, 3, 1, 1)
    assert progress_of([old, made], NOON) is None
    assert progress_of([old, replace(moving, state="planned", planned_at=NOON + timedelta(1))], NOON) is None
