"""What Stripe says about a run, in events or answers: once, twice, late, or in the wrong order."""

import asyncio

import pytest
from sqlalchemy import text

from app import handlers
from app.resources import Resources
from app.runs import moves, settle
from app.runs.request import Created, record_created
from app.simulator import Simulator
from app.simulator.settings import Outcome
from app.stripe_api.objects import stripe_run_from
from app.vocabulary import AttemptOutcome, RunState
from tests.runs.stories import (
    attempts,
    claim_one,
    deliver,
    everything_is_due,
    one_due_run,
    somebody_waits_for_a_lock,
    states,
)
from tests.service import (
    add_rule,
    execute,
    fetch,
    history,
    look_up_due,
    only_run,
    request_due,
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


async def test_a_run_that_somebody_else_made_is_not_an_error(res: Resources, simulator: Simulator) -> None:
    run = await one_due_run(res, simulator)
    simulator.create_run(run["report_type"], run["parameters"])
    await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    assert [event["status"] for event in await fetch(res, "select status from events")] == ["handled"]
    assert (await only_run(res))["state"] == "planned"


async def test_an_event_that_overtakes_the_create_answer_is_applied_when_the_answer_is_recorded(
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
        await record_created(session, [Created(claim, pending)], poll_seconds=1)

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
            await record_created(session, [Created(claim, pending)], poll_seconds=1)

    # The handler has looked, found no run, and has not committed when the recorder comes.
    async with res.sessions.begin() as handling:
        assert not await settle.settle(handling, "default", [told], poll_seconds=60)
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
        await record_created(recording, [Created(claim, pending)], poll_seconds=1)
        handling = asyncio.create_task(handlers.drain(res))
        await somebody_waits_for_a_lock(res)
    await handling

    assert (await only_run(res))["state"] == "ready"


@pytest.mark.parametrize("outcome", ["succeed", "fail"])
async def test_the_end_of_a_stripe_run_whose_run_is_being_cancelled_frees_its_slot(
    res: Resources, simulator: Simulator, outcome: Outcome
) -> None:
    # Given an end that is reported while a cancellation has moved the run, and not ended its attempt yet
    await one_due_run(res, simulator)
    simulator.configure(outcome=outcome)
    await request_due(res)
    await simulator.settle()
    run = await only_run(res)
    ended = stripe_run_from(simulator.runs[0].rendered())
    assert settle.has_ended(ended)

    async def report() -> None:
        async with res.sessions.begin() as session:
            await settle.settle(session, "default", [ended], poll_seconds=60)

    # When both go on
    async with res.sessions.begin() as cancelling:
        assert await moves.move(cancelling, run["id"], to=RunState.CANCELLED, reason="a test")
        reporting = asyncio.create_task(report())
        await somebody_waits_for_a_lock(res)
        await moves.end_attempt(cancelling, run["id"], run["attempt"], outcome=AttemptOutcome.CANCELLED)
    await reporting

    # Then the run stays cancelled, and the end is known
    assert (await only_run(res))["state"] == "cancelled"
    (attempt,) = await attempts(res)
    assert attempt["outcome"] == "cancelled"
    assert attempt["stripe_ended_at"] is not None


async def test_two_rules_that_want_the_same_report_have_a_stripe_run_and_a_file_each(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator, name="one")
    await add_rule(res, name="other")
    await work_off(res)

    assert await states(res) == {"stored": 2}
    assert len(simulator.runs) == 2
    assert len({attempt["stripe_run_id"] for attempt in await attempts(res)}) == 2


async def test_an_event_in_words_of_a_newer_stripe_leaves_the_run_pending(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    await request_due(res)
    simulator.emit("reporting.report_run.succeeded", simulator.runs[0].rendered() | {"status": "archived"})
    await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    assert (await only_run(res))["state"] == "requested"
