"""Asking about runs without news: the event may be lost, or the run stuck."""

import asyncio
from datetime import timedelta

import pytest

from app import handlers
from app.queue.claims import release, renew
from app.resources import Resources
from app.runs import manual, settle
from app.runs.lookup import claim_lookups, look_up, look_up_soon
from app.simulator import Simulator
from app.upkeep.cancelled import look_up_cancelled
from app.upkeep.reconcile import reconcile
from tests.runs.stories import (
    READ_RUN,
    another_process,
    days_due,
    deliver_value,
    everything_is_due,
    one_due_run,
    somebody_waits_for_a_lock,
    states,
)
from tests.service import (
    download_due,
    execute,
    fetch,
    history,
    look_up_due,
    only_run,
    request_due,
    unpublished,
    work_off,
)


async def test_a_look_up_makes_up_for_a_lost_event(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    await request_due(res)
    assert (await only_run(res))["state"] == "requested"
    await everything_is_due(res)

    assert await look_up_due(res) == 1

    assert (await only_run(res))["state"] == "ready"


async def test_a_pending_run_is_looked_up_again_only_after_the_poll_interval(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    async with another_process(res, simulator, TALLYHOOK_PENDING_POLL_SECONDS=900) as process:
        await request_due(process)
        assert await look_up_due(process) == 0
        await everything_is_due(process)
        assert await look_up_due(process) == 1
        assert await look_up_due(process) == 0

    run = await only_run(res)
    assert run["state"] == "requested"
    assert run["due_at"] - run["requested_at"] > timedelta(seconds=890)


async def test_a_stuck_run_is_looked_up_once_more_before_it_is_replaced(res: Resources, simulator: Simulator) -> None:
    await days_due(res, simulator, 2)
    simulator.configure(outcome="hang")
    await request_due(res)
    await execute(res, "update runs set requested_at = requested_at - interval '25 hours'")
    finished, stuck = simulator.runs
    simulator.finish_run(finished.id)  # and no event said so
    await everything_is_due(res)

    await look_up_due(res)

    found = {attempt["stripe_run_id"]: attempt["outcome"] for attempt in await fetch(res, "select * from attempts")}
    assert found == {finished.id: None, stuck.id: "timed_out"}
    assert await states(res) == {"ready": 1, "planned": 1}


async def test_a_run_that_is_stuck_every_time_is_failed_as_timed_out(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    for _ in range(3):
        await request_due(res)
        await execute(res, "update runs set requested_at = requested_at - interval '25 hours'")
        await everything_is_due(res)
        await look_up_due(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"], run["error"]["kind"]) == ("failed", 3, "timed_out")


async def test_a_run_that_succeeded_without_a_file_is_not_awaited_forever(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    await request_due(res)
    simulator.runs[0].status = "succeeded"
    await execute(res, "update runs set requested_at = requested_at - interval '25 hours'")
    await everything_is_due(res)

    await look_up_due(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("planned", 2)


@pytest.mark.parametrize("status", [500, 429, 409])
async def test_a_look_up_that_does_not_work_now_is_made_again(
    res: Resources, simulator: Simulator, status: int
) -> None:
    await one_due_run(res, simulator)
    await request_due(res)
    simulator.inject("status", status=status, match=READ_RUN)
    await everything_is_due(res)
    await look_up_due(res)
    assert (await only_run(res))["state"] == "requested"
    await everything_is_due(res)

    await look_up_due(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("ready", 1)


async def test_a_key_that_may_not_read_holds_reads_and_nothing_else(res: Resources, simulator: Simulator) -> None:
    await days_due(res, simulator, 2)
    simulator.inject("status", status=403, times=None, match=READ_RUN)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    assert [hold["call_kind"] for hold in await fetch(res, "select call_kind from account_holds")] == ["read"]
    unpublished(simulator, until="2026-03-04")
    simulator.clear_faults()
    await everything_is_due(res)
    await reconcile(res)

    await work_off(res)

    assert await states(res) == {"stored": 3}
    assert {run["attempt"] for run in await fetch(res, "select attempt from runs")} == {1}


async def test_a_stripe_run_that_stripe_no_longer_knows_is_replaced(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    await request_due(res)
    simulator.account().runs = type(simulator.account().runs)()
    simulator.configure(outcome="succeed")
    await everything_is_due(res)

    await look_up_due(res)
    await work_off(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("stored", 2)


async def test_a_hint_about_a_run_that_is_being_looked_up_has_it_looked_up_again_at_once(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    await request_due(res)
    await everything_is_due(res)
    for passed, end in ((0, release), (0, look_up), (61, look_up)):
        # Given a run that is being looked up
        (claim,) = await claim_lookups(res, 10)

        # When a hint arrives meanwhile, then nobody else looks it up
        async with res.sessions.begin() as session:
            await look_up_soon(session, "default", [simulator.runs[0].id])
        assert await claim_lookups(res, 10) == []
        # and it is due when that look has ended, however it ends, and however late
        await execute(
            res, "update runs set due_at = due_at - make_interval(secs => :passed),"
            " lease_until = lease_until - make_interval(secs => :passed)", passed=passed,
        )  # fmt: skip
        if end is look_up:
            await look_up(res, claim)
        else:
            async with res.sessions.begin() as session:
                await release(session, claim)
    assert await look_up_due(res) == 1

    assert await look_up_due(res) == 0


@pytest.mark.parametrize("busy", ["a heartbeat", "an answer"])
async def test_a_hint_about_a_run_whose_row_is_locked_waits_for_it(
    res: Resources, simulator: Simulator, busy: str
) -> None:
    # Given a run that is being looked up, and whose row a heartbeat or the answer is changing
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    await request_due(res)
    await everything_is_due(res)
    (claim,) = await claim_lookups(res, 10)
    stripe_run = await res.stripe.read_run("default", claim.stripe_run_id)

    async def hint() -> None:
        async with res.sessions.begin() as session:
            await look_up_soon(session, "default", [claim.stripe_run_id])

    # When the hint arrives in that moment
    async with res.sessions.begin() as session:
        if busy == "an answer":
            await settle.settle(session, "default", [stripe_run], poll_seconds=900)
        else:
            await renew(session, [claim], seconds=60)
        hinted = asyncio.create_task(hint())
        await somebody_waits_for_a_lock(res)
    await hinted
    if busy == "a heartbeat":
        await look_up(res, claim)

    # Then the run is due once more
    assert await look_up_due(res) == 1
    assert await look_up_due(res) == 0


async def test_a_look_up_that_waits_for_its_stripe_run_has_no_other_run_locked(
    res: Resources, simulator: Simulator
) -> None:
    # Given two runs whose look-ups were refused, and one of them is being looked up again
    simulator.configure(outcome="hang")
    await days_due(res, simulator, 2)
    await request_due(res)
    await everything_is_due(res)
    claim, other = await claim_lookups(res, 10)
    await execute(res, "update runs set refused_at = now()")

    # When its answer arrives while the inbox has locked that run's Stripe run, and comes to the other run
    async with res.sessions.begin() as inbox:
        await settle.lock_stripe_runs(inbox, "default", [claim.stripe_run_id, other.stripe_run_id])
        looking = asyncio.create_task(look_up(res, claim))
        await somebody_waits_for_a_lock(res)
        await look_up_soon(inbox, "default", [other.stripe_run_id])
    await looking

    # Then both come to an end, and what the answer says of the key is counted on the other one only
    counted = await fetch(res, "select id, refusals from runs where refusals > 0 and refused_at is null")
    assert [(run["id"], run["refusals"]) for run in counted] == [(other.run_id, 1)]


async def test_a_look_up_of_a_cancelled_run_that_waits_for_its_stripe_run_has_no_other_run_locked(
    res: Resources, simulator: Simulator
) -> None:
    # Given a cancelled run that still runs at Stripe, and one whose look-up was refused
    simulator.configure(outcome="hang")
    await days_due(res, simulator, 2)
    await request_due(res)
    await everything_is_due(res)
    cancelled, other = await claim_lookups(res, 10)
    await execute(res, "update runs set refused_at = now()")
    async with res.sessions.begin() as session:
        await manual.cancel(session, cancelled.run_id, by="anna")

    # When its answer arrives while the inbox is busy with news of both
    async with res.sessions.begin() as inbox:
        await settle.lock_stripe_runs(inbox, "default", [cancelled.stripe_run_id, other.stripe_run_id])
        looking = asyncio.create_task(look_up_cancelled(res, "default"))
        await somebody_waits_for_a_lock(res)
        await look_up_soon(inbox, "default", [other.stripe_run_id])

    # Then both come to an end
    await looking


async def test_a_look_up_of_a_run_that_was_settled_meanwhile_changes_nothing(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    await request_due(res)
    await everything_is_due(res)
    (claim,) = await claim_lookups(res, 10)
    value = simulator.events[-1].rendered("2026-10-28.endive")
    await deliver_value(res, value)
    await handlers.drain(res)
    await download_due(res)

    await look_up(res, claim)

    assert await history(res) == ["planned", "requested", "ready", "stored"]
