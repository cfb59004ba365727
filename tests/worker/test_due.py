"""When the lanes have something next: known to all of them by one statement, and waited for no longer than that."""

import pytest
from sqlalchemy import event

from app.resources import Resources
from app.simulator import Simulator
from app.vocabulary import Lane
from app.worker.due import seconds_until_next, statement_of
from app.worker.steps import lanes
from tests.runs.stories import days_due, one_due_run
from tests.service import REPORT_TYPE, execute, request_due, working
from tests.until import until


async def waits(res: Resources) -> dict[Lane, float]:
    """The seconds until each lane has something that it did not see when it looked, a moment ago."""
    queries = {lane.lane: lane.next_due for lane in lanes(res)}
    return await seconds_until_next(res, statement_of(queries), dict.fromkeys(queries, 0.05))


async def test_lanes_with_nothing_that_they_can_do_sleep_instead_of_spinning(
    res: Resources, simulator: Simulator
) -> None:
    # Each of these was due long ago, and none of them can be done by this version at this moment.
    await one_due_run(res, simulator)
    simulator.remove_report_type(REPORT_TYPE)
    await request_due(res)
    await execute(res, "update runs set state = 'state_of_the_future', due_at = now() - interval '1 h'")
    await execute(res, "update report_types set next_probe_at = now() - interval '1 h'")
    await execute(res, "delete from timetable")
    await execute(res, "insert into timetable (name, due_at) values ('of_the_future', now() - interval '1 h')")
    await execute(
        res,
        "insert into events (account, stripe_event_id, type, payload_sha256, status, due_at)"
        " values ('default', 'evt_1', 'reporting.of_the_future', 's', 'pending', now() - interval '1 h')",
    )
    await execute(
        res,
        "insert into account_holds (account, call_kind, reason, next_probe_at)"
        " select 'default', kind, 'r', now() - interval '1 h' from unnest(array['create', 'read', 'files']) as kind",
    )

    assert await waits(res) == {}


async def test_a_hold_that_only_another_key_ends_is_nothing_to_wait_for(res: Resources) -> None:
    await execute(
        res,
        "insert into account_holds (account, call_kind, reason, next_probe_at)"
        " select 'default', kind, 'r', 'infinity' from unnest(array['create', 'read', 'files']) as kind",
    )
    await execute(res, "delete from timetable")

    assert await waits(res) == {}


async def test_a_lane_sleeps_until_the_next_thing_in_it_is_due(res: Resources, simulator: Simulator) -> None:
    await days_due(res, simulator, 2)
    await execute(res, "update runs set due_at = now() + interval '1 hour'")
    await execute(res, "update runs set due_at = now() + interval '5 s' where interval_start = '2026-03-01+00'")

    assert 0 < (await waits(res))[Lane.REQUESTS] <= 5


async def test_one_statement_asks_for_all_lanes_and_an_idle_lane_asks_nothing(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.worker.steps.POLL_SECONDS", 0.1)
    # This lane looks in every full round: what it plans has no due time of its own.
    monkeypatch.setattr("app.worker.steps.SLICES_DUE", ["select cast(null as timestamptz)"])
    statements: list[str] = []
    event.listen(res.engine.sync_engine, "before_cursor_execute", lambda *about: statements.append(about[2]))

    async with working(res):
        await until(lambda: _only_one_is_asked(statements, rounds=5))


async def _only_one_is_asked(statements: list[str], *, rounds: int) -> bool:
    latest = statements[-rounds:]
    return len(latest) == rounds and all("since_inbox" in statement for statement in latest)
