"""A database whose clock jumped ahead and back: nothing waits until then, whatever wrote the time."""

from uuid import uuid4

from app import handlers
from app.queue import timetable
from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.clock import _PULL_BACK
from app.upkeep.reconcile import begin_round, reconcile
from app.worker.due import seconds_until_next
from app.worker.steps import lanes
from app.worker.steps import timetable as entries
from tests.runs.stories import one_due_run
from tests.service import (
    add_rule,
    execute,
    fetch,
    make_timetable_due,
    request_due,
    timetable_due,
    unpublished,
    work_off,
)

AHEAD = "now() + interval '30 days'"


async def test_a_clock_that_was_ahead_stops_nothing_once_it_is_right_again(
    res: Resources, simulator: Simulator
) -> None:
    unpublished(simulator, until="2026-03-03")
    await reconcile(res)
    await add_rule(res)
    await execute(res, f"update runs set due_at = {AHEAD} where window_key = '2026-03-01'")
    await execute(res, f"update runs set lease_until = {AHEAD}, asked_at = now() where window_key = '2026-03-02'")
    await execute(res, f"insert into account_holds values ('default', 'create', '403', now(), 0, {AHEAD})")
    assert await request_due(res) == 0

    await begin_round(res)
    await work_off(res)

    assert {run["state"] for run in await fetch(res, "select state from runs")} == {"stored"}


async def test_everything_that_is_due_by_the_clock_is_pulled_back_and_what_a_step_may_set_is_not(
    res: Resources, simulator: Simulator
) -> None:
    # Given a row of each kind that was written when the clock was ahead, and one that waits for as long as it may
    await one_due_run(res, simulator)
    for at, name in ((AHEAD, "too_far"), ("now() + interval '2 minutes'", "soon")):
        values = {"id": uuid4(), "name": name}
        await execute(
            res, "insert into events (account, stripe_event_id, type, payload_sha256, status, due_at)"
            f" values ('default', :name, 't', 's', 'pending', {at})", name=name,
        )  # fmt: skip
        await execute(
            res, "insert into messages (id, type, data, dedupe_key) values (:id, 'ping', '{}', :name)", **values
        )
        await execute(
            res, "insert into targets (id, name, kind, recipients, message_types, enabled)"
            " values (:id, :name, 'folder', '{}', '{*}', true)", **values,
        )  # fmt: skip
        await execute(
            res, f"insert into deliveries (message_id, target_id, state, due_at) values (:id, :id, 'pending', {at})",
            id=values["id"],
        )  # fmt: skip
        await execute(
            res, "insert into report_types (account, id, missing_since, next_probe_at)"
            f" values ('default', :name, now(), {at})", name=name,
        )  # fmt: skip
    await execute(res, f"update runs set due_at = {AHEAD}")
    await execute(res, f"insert into account_holds values ('default', 'create', '403', now(), 0, {AHEAD})")
    await execute(res, "insert into accounts (slug) values ('soon')")
    await execute(
        res, f"insert into reconciliations values ('default', {AHEAD}), ('soon', now() + interval '2 minutes')"
    )

    # When the clock is right again, and somebody looks
    await begin_round(res)

    # Then what was written ahead is due, and the rest is left alone
    for table, column in TIMES.items():
        times = await fetch(res, f"select {column} - now() as wait from {table} where {column} > now()")
        assert all(row["wait"].total_seconds() < 121 for row in times), table
        assert len(times) == (0 if table in ("runs", "account_holds") else 1), table
    assert await handlers.drain(res) == 0  # of a type that this version does not know


TIMES = {
    "runs": "due_at",
    "events": "due_at",
    "deliveries": "due_at",
    "account_holds": "next_probe_at",
    "report_types": "next_probe_at",
    "reconciliations": "due_at",
}


def test_each_queue_has_its_statement() -> None:
    assert set(_PULL_BACK) == {"runs", "events", "loads", "deliveries", "holds", "report_types", "accounts"}


async def test_recurring_work_that_is_due_later_than_its_period_allows_is_done_now(res: Resources) -> None:
    await make_timetable_due(res)
    await timetable_due(res)
    await execute(res, f"update timetable set due_at = {AHEAD}")
    every = {entry.name: entry.every for entry in entries(res)}

    (wait,) = await _seconds_until_the_timetable(res)
    async with res.sessions.begin() as session:
        claimed = await timetable.claim(session, every, len(every))

    assert wait <= 0
    assert set(claimed) == set(every)


async def _seconds_until_the_timetable(res: Resources) -> list[float]:
    queries = {lane.lane: lane.next_due for lane in lanes(res) if lane.lane == "timetable"}
    waits = await seconds_until_next(res, queries, dict.fromkeys(queries, 0.05))
    return list(waits.values())
