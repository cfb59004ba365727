"""When each lane has work next: one round trip tells all of them, and none waits longer."""

from typing import Any

import pytest
from sqlalchemy import event

from app.resources import Resources, open_resources
from app.runs.request import request_run
from app.runs.request_claim import claim_requests
from app.simulator import Simulator
from app.vocabulary import Lane
from app.worker.due import seconds_until_next
from app.worker.steps import lanes
from tests.runs.stories import days_due, everything_is_due, one_due_run, states
from tests.service import REPORT_TYPE, execute, look_up_due, make_settings, request_due, working
from tests.until import until
from tests.worker.workers import until_stored


async def waits(res: Resources, *, since: float = 0.05) -> dict[Lane, float]:
    """The seconds until each lane has something that it did not see when it looked, so many seconds ago."""
    queries = {lane.lane: lane.next_due for lane in lanes(res)}
    return await seconds_until_next(res, queries, dict.fromkeys(queries, since))


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


async def test_a_lane_does_not_wait_for_a_hold_that_only_another_key_ends(res: Resources) -> None:
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
    await execute(res, "update runs set due_at = now() + interval '60 s' where interval_start = '2026-03-01+00'")

    assert 0 < (await waits(res))[Lane.REQUESTS] <= 60


async def test_the_lane_of_the_rules_is_woken_by_data_that_moved_for_a_rule_and_by_no_other(
    res: Resources, simulator: Simulator
) -> None:
    # Given a rule that is planned for all the data there is, as a full round sees it
    await days_due(res, simulator, 2)
    full_round = 1e9
    assert Lane.RULES not in await waits(res, since=full_round)

    # When the data of another type moves, then there is nothing to do; when its own does, there is
    move = "update report_types set data_available_end = data_available_end + interval '1 day', refreshed_at = now()"
    await execute(res, f"{move} where id <> :type", type=REPORT_TYPE)
    assert Lane.RULES not in await waits(res, since=full_round)
    await execute(res, f"{move} where id = :type", type=REPORT_TYPE)
    assert (await waits(res, since=full_round))[Lane.RULES] <= 0


async def test_one_round_trip_asks_for_all_lanes_and_an_idle_lane_asks_nothing(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.worker.steps.POLL_SECONDS", 0.1)
    asked: list[str] = []

    async def counted(*about: Any) -> dict[Lane, float]:
        asked.append("the alarm")
        return await seconds_until_next(*about)

    monkeypatch.setattr("app.worker.due.seconds_until_next", counted)
    event.listen(res.engine.sync_engine, "before_cursor_execute", lambda *about: asked.append(about[2]))

    async with working(res):
        await until(lambda: asked[-5:] == ["the alarm"] * 5)


async def test_a_limiter_that_refilled_since_the_lane_looked_lets_it_continue(
    database_url: str, simulator: Simulator
) -> None:
    # Given a file that the rate limit held back an hour ago, and a limiter that granted ten minutes ago
    async with open_resources(make_settings(database_url, simulator, TALLYHOOK_REQUESTS_PER_SECOND=20)) as res:
        await execute(res, "delete from timetable")
        await execute(res, "insert into rate_limits values ('default', 'files', now() - interval '10 minutes')")
        # When the alarm asks after that
        found = await waits(res, since=3600)

        # Then the lanes that fetch files go on at once; one that looked later than that waits for nothing
        assert {lane for lane, seconds in found.items() if seconds <= 0} == {Lane.DOWNLOADS, Lane.BIG_DOWNLOADS}
        assert await waits(res) == {}
        await execute(res, "update rate_limits set arrival = now() + interval '1 hour'")
        assert {lane: seconds > 0 for lane, seconds in (await waits(res)).items()} == {
            Lane.DOWNLOADS: True,
            Lane.BIG_DOWNLOADS: True,
        }


async def test_a_backlog_slowed_by_the_rate_limit_continues_whenever_the_limiter_grants(
    database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given files that take less time than the limiter has between two grants, and nobody who looks again by the clock
    monkeypatch.setattr("app.worker.steps.POLL_SECONDS", 3600.0)
    slowed = {"TALLYHOOK_REQUESTS_PER_SECOND": 2, "TALLYHOOK_PENDING_POLL_SECONDS": 3600}
    async with open_resources(make_settings(database_url, simulator, **slowed)) as res:
        await days_due(res, simulator, 6)
        for claim in await claim_requests(res, 6):
            await request_run(res, claim)
        while (await states(res))["requested"] + (await states(res))["planned"]:
            await execute(res, "delete from rate_limits")
            await everything_is_due(res)
            await request_due(res)
            await look_up_due(res)

        # When a worker fetches them, then it never sleeps on while it could go on
        async with working(res):
            await until_stored(res, 6)
