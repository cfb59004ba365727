"""What must hold for every rule and every course of events."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from app.planning.planner import Availability, Schedule, all_windows, due_at, due_windows
from app.planning.windows import Window, calendar_windows, day_start
from app.vocabulary import Cadence
from tests.planning.strategies import properties, schedules

HOUR = timedelta(hours=1)
# How far a rule of each cadence is looked at: some units, so that examples stay small.
REACH = {
    Cadence.EVERY_UPDATE: 20,
    Cadence.DAILY: 12,
    Cadence.WEEKLY: 60,
    Cadence.MONTHLY: 200,
    Cadence.QUARTERLY: 500,
    Cadence.YEARLY: 1500,
}


@st.composite
def courses(draw: st.DrawFn) -> tuple[Schedule, datetime, list[datetime]]:
    """A rule, where its data begins, and where it is said to end, time after time, in any order."""
    schedule = draw(schedules([*REACH]))
    reach = REACH[schedule.cadence] * 24
    begins = day_start(schedule.starts_on, ZoneInfo(schedule.timezone))
    data_begins = begins + draw(st.integers(-reach, reach)) * HOUR / 2
    ends = draw(st.lists(st.integers(0, reach), min_size=1, max_size=12))
    return schedule, data_begins, [begins + hours * HOUR for hours in ends]


def play(schedule: Schedule, begins: datetime, ends: list[datetime], *, limit: int | None = None) -> list[Window]:
    """Make what is due after each advance, as the service does."""
    made: list[Window] = []
    for end in ends:
        planned_until = made[-1].end if made else None
        made += due_windows(schedule, Availability(begins, end), planned_until=planned_until, limit=limit)
    return made


@given(courses())
@properties
def test_windows_tile_the_time_line_whatever_the_course_of_events(
    course: tuple[Schedule, datetime, list[datetime]],
) -> None:
    schedule, begins, ends = course

    made = play(schedule, begins, ends)

    assert all(before.end == after.start for before, after in pairwise(made))
    assert all(window.start < window.end for window in made)
    assert len({window.key for window in made}) == len(made)


@given(courses())
@properties
def test_many_small_advances_cover_what_one_big_one_does(course: tuple[Schedule, datetime, list[datetime]]) -> None:
    schedule, begins, ends = course

    small = play(schedule, begins, ends)
    big = play(schedule, begins, [max(ends)])

    if schedule.cadence is Cadence.EVERY_UPDATE:
        assert [window.start for window in small[:1]] == [window.start for window in big]
        assert [window.end for window in small[-1:]] == [window.end for window in big]
    else:
        assert small == big


@given(courses(), st.integers(1, 3))
@properties
def test_a_limit_only_spreads_the_windows_over_more_turns(
    course: tuple[Schedule, datetime, list[datetime]], limit: int
) -> None:
    schedule, begins, ends = course
    whole = play(schedule, begins, [max(ends)])

    first_turn = play(schedule, begins, [max(ends)], limit=limit)
    many_turns = play(schedule, begins, [max(ends)] * (len(whole) + 1), limit=limit)

    assert first_turn == whole[:limit]
    assert many_turns == whole


@given(courses())
@properties
def test_exactly_what_is_complete_and_settled_is_due(course: tuple[Schedule, datetime, list[datetime]]) -> None:
    schedule, begins, ends = course
    made = play(schedule, begins, [max(ends)])

    assert all(due_at(window, schedule) <= max(ends) for window in made)
    if schedule.cadence is not Cadence.EVERY_UPDATE:
        owed = all_windows(schedule, Availability(begins, max(ends)), until=max(ends))
        assert [window for window in owed if due_at(window, schedule) <= max(ends)] == made


@given(courses())
@properties
def test_only_the_first_window_can_be_partial_and_then_it_begins_with_the_data(
    course: tuple[Schedule, datetime, list[datetime]],
) -> None:
    schedule, begins, ends = course

    made = play(schedule, begins, ends)

    assert all(window.start >= begins for window in made)
    assert not any(window.partial for window in made[1:])
    assert all(window.start == begins for window in made[:1] if window.partial)


@given(schedules())
@properties
def test_the_first_window_is_the_first_unit_that_begins_on_or_after_the_start(schedule: Schedule) -> None:
    owed = next(all_windows(schedule, None, until=datetime(2300, 1, 1, tzinfo=UTC)))

    assert owed.key >= schedule.starts_on.isoformat()
    assert owed.start >= day_start(schedule.starts_on, ZoneInfo(schedule.timezone))
    assert owed.start <= day_start(schedule.starts_on + timedelta(days=366), ZoneInfo(schedule.timezone))


@given(schedules(), st.integers(0, 30), st.integers(0, 40))
@properties
def test_jumping_into_history_finds_what_walking_there_finds(schedule: Schedule, skip: int, hours: int) -> None:
    zone = ZoneInfo(schedule.timezone)
    walked = list(islice(calendar_windows(schedule.cadence, zone, starts_on=schedule.starts_on), skip + 3))
    since = walked[skip].start + hours * HOUR

    jumped = all_windows(schedule, None, since=since, until=walked[-1].start + HOUR)

    assert list(jumped) == [window for window in walked if window.end > since]
