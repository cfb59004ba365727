"""What Stripe says of a run, by event, by answer or when asked: once, twice, late, or in the wrong order."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from app import handlers
from app.resources import Resources
from app.runs import settle
from app.runs.lookup import claim_lookups, look_up
from app.runs.reconcile import reconcile
from app.runs.request import record_created
from app.simulator import Simulator
from app.stripe_values import stripe_run_from
from tests.runs.stories import (
    READ_RUN,
    another_process,
    attempts,
    claim_one,
    days_due,
    deliver,
    deliver_value,
    everything_is_due,
    one_due_run,
    somebody_waits_for_a_lock,
    states,
)
from tests.service import (
    add_rule,
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


async def test_an_event_settles_the_run_without_any_further_read(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    await request_due(res)
    await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    assert (await only_run(res))["state"] == "ready"
    assert simulator.world.journal.counts["retrieve_run"] == 0


async def test_doubled_and_twin_events_settle_once(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("event_twin")
    await request_due(res)
    one, twin = simulator.events[-2:]
    for event in (one, one, twin, twin):
        await deliver(res, event)

    while await handlers.drain(res):
        pass
    await work_off(res)

    assert len(await fetch(res, "select 1 from events")) == 2
    assert await history(res) == ["planned", "requested", "ready", "stored"]
    assert len(simulator.files) == 1


async def test_a_failure_after_the_success_changes_nothing(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    await request_due(res)
    await deliver(res, simulator.events[-1])
    await handlers.drain(res)
    simulator.finish_run(simulator.runs[0].id, outcome="fail")
    await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("ready", 1)


async def test_a_success_after_the_last_failure_changes_nothing(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="fail")
    await work_off(res)
    simulator.finish_run(simulator.runs[-1].id)
    await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    assert (await only_run(res))["state"] == "failed"
    assert (await attempts(res))[-1]["stripe_file_id"] is None


async def test_late_answers_about_a_replaced_stripe_run_change_nothing(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    await request_due(res)
    await execute(res, "update runs set requested_at = requested_at - interval '25 hours'")
    await everything_is_due(res)
    await look_up_due(res)
    await request_due(res)
    replaced, replacement = simulator.runs
    for outcome in ("succeed", "fail"):
        simulator.finish_run(replaced.id, outcome=outcome)
        await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("requested", 2)
    simulator.finish_run(replacement.id)
    await everything_is_due(res)
    await work_off(res)
    (file,) = await fetch(res, "select stripe_file_id from files")
    assert replacement.file is not None
    assert file["stripe_file_id"] == replacement.file.id


async def test_a_run_that_somebody_else_made_is_no_error(res: Resources, simulator: Simulator) -> None:
    run = await one_due_run(res, simulator)
    simulator.create_run(run["report_type"], run["parameters"])
    await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    assert [event["status"] for event in await fetch(res, "select status from events")] == ["handled"]
    assert (await only_run(res))["state"] == "planned"


async def test_an_event_that_overtakes_the_create_answer_is_heard_when_the_answer_is_recorded(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    claim = await claim_one(res)
    pending = await res.stripe.create_run(
        "default", claim.report_type, parameters=claim.parameters, idempotency_key=claim.idempotency_key
    )
    await simulator.settle()
    await deliver(res, simulator.events[-1])
    await handlers.drain(res)

    async with res.sessions.begin() as session:
        await record_created(res, session, claim, pending)

    assert pending.status == "pending"
    assert (await only_run(res))["state"] == "ready"


async def test_an_event_overtaken_in_mid_handling_by_the_answer_is_not_missed_by_either(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    claim = await claim_one(res)
    pending = await res.stripe.create_run(
        "default", claim.report_type, parameters=claim.parameters, idempotency_key=claim.idempotency_key
    )
    await simulator.settle()
    await deliver(res, simulator.events[-1])
    told = stripe_run_from(simulator.runs[0].rendered())

    async def record() -> None:
        async with res.sessions.begin() as session:
            await record_created(res, session, claim, pending)

    # The handler has looked, found nobody, and has not committed when the recorder comes.
    async with res.sessions.begin() as handling:
        assert not await settle.settle(handling, "default", told, poll_seconds=60)
        await handling.execute(text("update events set status = 'handled'"))
        recording = asyncio.create_task(record())
        await somebody_waits_for_a_lock(res)
    await recording

    assert (await only_run(res))["state"] == "ready"


async def test_an_answer_overtaken_in_mid_recording_by_its_event_is_not_missed_by_either(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    claim = await claim_one(res)
    pending = await res.stripe.create_run(
        "default", claim.report_type, parameters=claim.parameters, idempotency_key=claim.idempotency_key
    )
    await simulator.settle()
    await deliver(res, simulator.events[-1])

    # The recorder has noted the id, and has not committed when the handler comes.
    async with res.sessions.begin() as recording:
        await record_created(res, recording, claim, pending)
        handling = asyncio.create_task(handlers.drain(res))
        await somebody_waits_for_a_lock(res)
    await handling

    assert (await only_run(res))["state"] == "ready"


async def test_two_rules_that_want_the_same_report_have_a_stripe_run_and_a_file_each(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator, name="one")
    await add_rule(res, name="other")
    await work_off(res)

    assert await states(res) == {"stored": 2}
    assert len(simulator.runs) == 2
    assert len({attempt["stripe_run_id"] for attempt in await attempts(res)}) == 2


async def test_a_lost_event_is_made_up_for_by_looking_the_run_up(res: Resources, simulator: Simulator) -> None:
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
    simulator.finish_run(finished.id)  # and nobody told us
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


async def test_a_run_that_succeeded_without_a_file_is_not_waited_for_for_ever(
    res: Resources, simulator: Simulator
) -> None:
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


async def test_a_stripe_run_that_stripe_does_not_know_any_more_is_replaced(
    res: Resources, simulator: Simulator
) -> None:
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


async def test_an_event_in_words_of_a_newer_stripe_leaves_the_run_pending(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    await request_due(res)
    simulator.emit("reporting.report_run.succeeded", simulator.runs[0].rendered() | {"status": "archived"})
    await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    assert (await only_run(res))["state"] == "requested"


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
