"""A database whose clock jumped ahead and back: nothing waits until then, whatever wrote the time."""

from dataclasses import replace
from uuid import uuid4

from app import handlers
from app.queue import timetable
from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.reconcile import begin_round, reconcile
from app.vocabulary import Lane
from app.worker.due import seconds_until_next
from app.worker.steps import lanes
from app.worker.steps import timetable as entries
from tests.runs.stories import days_due
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
from tests.tables.stored import day, store

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
    # Given rows of each kind that were written when the clock was ahead, and some that wait for as long as they may
    await days_due(res, simulator, len(RUNS))
    for number, state in enumerate(RUNS, 1):
        await execute(
            res, "update runs set state = :state where window_key = :day", state=state, day=f"2026-03-0{number}"
        )
    await execute(res, f"update runs set due_at = {AHEAD}, lease_until = {AHEAD}, asked_at = now()")
    for number, load in enumerate(LOADS, 1):
        run_id = await store(res, b"", start=day(number))
        await execute(res, f"update loads set {load} where run_id = :id", id=run_id)
    for at, name in ((AHEAD, "too_far"), (SOON, "soon")):
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
            res, "insert into deliveries (message_id, target_id, state, due_at, lease_until)"
            f" values (:id, :id, 'pending', {at}, {at})", id=values["id"],
        )  # fmt: skip
        await execute(
            res, "insert into report_types (account, id, missing_since, next_probe_at)"
            f" values ('default', :name, now(), {at})", name=name,
        )  # fmt: skip
    await execute(res, f"insert into account_holds values ('default', 'create', '403', now(), 0, {AHEAD})")
    await execute(res, "insert into accounts (slug) values ('soon')")
    await execute(res, f"insert into reconciliations values ('default', {AHEAD}), ('soon', {SOON})")
    await make_timetable_due(res)
    await execute(res, f"update timetable set due_at = {AHEAD}")

    # When the clock is right again, and somebody looks
    await begin_round(res)

    # Then what was written ahead is due, and the rest is left alone
    for (table, column), soon in TIMES.items():
        times = await fetch(res, f"select {column} - now() as wait from {table} where {column} > now()")
        assert all(row["wait"].total_seconds() < 121 for row in times), (table, column)
        assert len(times) == soon, (table, column)
    # And every lane that works by these times has something to do
    stored = replace(res, settings=res.settings.model_copy(update={"parquet_store": "file:///nowhere"}))
    waits = await _seconds_until_next(stored)
    assert {lane for lane, seconds in waits.items() if seconds <= 0} == {one.lane for one in lanes(res)} - BY_THE_ROWS
    assert await handlers.drain(res) == 0  # of a type that this version does not know


SOON = "now() + interval '2 minutes'"
RUNS = ("planned", "requested", "ready")
# Of the loads lane, then of the objects lane.
LOADS = (
    f"due_at = {AHEAD}",
    f"lease_until = {AHEAD}",
    f"lease_until = {SOON}",
    f"state = 'loaded', object_due = true, window_key = 'w', lease_until = {AHEAD}",
    f"state = 'loaded', object_due = true, window_key = 'w', lease_until = {SOON}",
)
# The columns that say when something is due, and how many of the rows above have one that is left alone.
TIMES = {
    ("runs", "due_at"): 0,
    ("runs", "lease_until"): 0,
    ("events", "due_at"): 1,
    ("loads", "due_at"): 0,
    ("loads", "lease_until"): 2,
    ("deliveries", "due_at"): 1,
    ("deliveries", "lease_until"): 1,
    ("account_holds", "next_probe_at"): 0,
    ("report_types", "next_probe_at"): 1,
    ("reconciliations", "due_at"): 1,
}
# Bounded where it is read; and how far Stripe's data must reach, which no clock of ours says.
OTHERWISE = {("timetable", "due_at"), ("rule_progress", "next_due_at")}
# What rules have to do is in their rows, and their times only say since when.
BY_THE_ROWS = {Lane.RULES}


async def test_no_time_at_which_something_is_due_is_forgotten(res: Resources) -> None:
    found = await fetch(
        res, "select table_name, column_name from information_schema.columns where table_schema = 'public'"
        " and table_name in (select tablename from pg_tables)"
        " and (column_name = 'lease_until' or column_name like '%due_at' or column_name like 'next\\_%\\_at')",
    )  # fmt: skip

    assert {(row["table_name"], row["column_name"]) for row in found} == {*TIMES, *OTHERWISE}


async def test_recurring_work_that_is_due_later_than_its_period_allows_is_done_now(res: Resources) -> None:
    await make_timetable_due(res)
    await timetable_due(res)
    await execute(res, f"update timetable set due_at = {AHEAD}")
    every = {entry.name: entry.every for entry in entries(res)}

    wait = (await _seconds_until_next(res))[Lane.TIMETABLE]
    async with res.sessions.begin() as session:
        claimed = await timetable.claim(session, every, len(every))

    assert wait <= 0
    assert {claim.name for claim in claimed} == set(every)


async def _seconds_until_next(res: Resources) -> dict[Lane, float]:
    queries = {lane.lane: lane.next_due for lane in lanes(res)}
    return await seconds_until_next(res, queries, dict.fromkeys(queries, 3600.0))
