"""Asking Stripe for runs: one Stripe run per attempt, whatever happens to the answer."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.errors import Overtaken
from app.resources import Resources
from app.runs import moves
from app.runs.request import Created, record_created, request_run
from app.simulator import Simulator
from app.simulator.faults import When
from app.vocabulary import AttemptOutcome, RunState
from tests.runs.stories import (
    CREATE,
    attempts,
    claim_one,
    everything_is_due,
    keys_used,
    leases_run_out,
    one_due_run,
    somebody_waits_for_a_lock,
)
from tests.service import (
    execute,
    fetch,
    history,
    only_run,
    request_due,
    work_off,
)


class Clock:
    """The machine's clock, which runs while the process does not."""

    slept = 0.0

    def __call__(self) -> float:
        return time.time() + self.slept

    def sleep(self, seconds: float) -> None:
        """The whole machine sleeps, in the middle of whatever it does."""
        self.slept = seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def res(res: Resources, clock: Clock) -> Resources:
    return replace(res, clock=clock)


@pytest.fixture
def sleep(clock: Clock) -> Callable[[float], None]:
    return clock.sleep


async def test_a_worker_that_slept_through_its_lease_makes_no_call(
    res: Resources, simulator: Simulator, sleep: Callable[[float], None]
) -> None:
    await one_due_run(res, simulator)
    slow = await claim_one(res)
    await leases_run_out(res)
    # Its successor is refused, so the key ends, and asks again with another key when there is data.
    simulator.inject("status", status=400, message="Data is only available through yesterday.", match=CREATE)
    await request_run(res, await claim_one(res))
    await execute(res, "update runs set refused_at_availability = null, due_at = now()")
    await request_run(res, await claim_one(res))

    sleep(res.settings.stalled_after_seconds + 1)
    with pytest.raises(Overtaken):
        await request_run(res, slow)

    assert len(simulator.runs) == 1


AMBIGUOUS = [
    pytest.param({"fault": "cut", "when": "before"}, id="cut before the effect"),
    pytest.param({"fault": "cut", "when": "after"}, id="cut after the effect"),
    pytest.param({"fault": "status", "status": 500, "when": "before"}, id="500 before the effect"),
    pytest.param({"fault": "status", "status": 409, "when": "before"}, id="409"),
    pytest.param({"fault": "status", "status": 429, "when": "before"}, id="429"),
    pytest.param({"fault": "status", "status": 401, "when": "before"}, id="401"),
    pytest.param({"fault": "status", "status": 403, "when": "before"}, id="403"),
]


@pytest.mark.parametrize("fault", AMBIGUOUS)
async def test_an_answer_that_says_nothing_about_the_request_keeps_the_key_and_makes_one_stripe_run(
    res: Resources, simulator: Simulator, fault: dict[str, object]
) -> None:
    await one_due_run(res, simulator)
    simulator.inject(**fault, match=CREATE)  # type: ignore[arg-type]

    assert await request_due(res) == 1
    (asked,) = await attempts(res)
    assert (await only_run(res))["state"] == "planned"
    await everything_is_due(res)
    await work_off(res)

    assert (await only_run(res))["state"] == "stored"
    assert (await only_run(res))["attempt"] == 1
    assert len(simulator.runs) == 1
    assert set(keys_used(simulator)) == {asked["idempotency_key"]}


@pytest.mark.parametrize("when", ["during", "after"])
async def test_a_server_error_that_stripe_keeps_for_the_key_is_not_waited_out(
    res: Resources, simulator: Simulator, when: When
) -> None:
    # Stripe repeats a 500 of the work itself for a day, and says so; its list tells whether a run was made.
    await one_due_run(res, simulator)
    simulator.inject("status", status=500, when=when, match=CREATE)
    for _ in range(3):
        await everything_is_due(res)
        await request_due(res)
    assert [call.replayed for call in simulator.creates] == [False, True, True]

    await execute(res, "update runs set asked_at = asked_at - interval '10 minutes'")
    await everything_is_due(res)
    await work_off(res)

    assert (await only_run(res))["state"] == "stored"
    assert len(simulator.runs) == 1
    assert len(set(keys_used(simulator))) == (2 if when == "during" else 1)


async def test_a_429_is_not_retried_before_the_answer_allows_it(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("status", status=429, headers={"Retry-After": "40"}, match=CREATE)

    await request_due(res)

    (wait,) = await fetch(res, "select extract(epoch from due_at - now()) as seconds, attempt from runs")
    assert 30 < wait["seconds"] <= 40
    assert wait["attempt"] == 1
    assert await request_due(res) == 0


async def test_a_create_that_answers_with_a_finished_run_continues_with_its_file_at_once(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(instant=True)

    await request_due(res)

    assert (await only_run(res))["state"] == "ready"
    assert await history(res) == ["planned", "requested", "ready"]


async def test_a_create_that_answers_with_a_failed_run_makes_the_next_attempt(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(instant=True)
    simulator.inject("run_fails", message="Stripe is tired")

    await request_due(res)
    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("planned", 2)
    await work_off(res)

    first, second = await attempts(res)
    assert (first["outcome"], second["outcome"]) == ("stripe_failed", "stored")
    assert first["idempotency_key"] != second["idempotency_key"]
    assert first["stripe_run_id"] != second["stripe_run_id"]


async def test_a_run_that_always_fails_at_stripe_is_failed_after_its_last_attempt(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="fail")

    await work_off(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"], run["error"]["kind"]) == ("failed", 3, "stripe_failed")
    assert len(simulator.runs) == 3


async def test_a_cancel_wins_over_a_create_in_flight_whose_run_is_remembered_but_not_fetched(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    claim = await claim_one(res)
    await execute(res, "update runs set state = 'cancelled', fence = fence + 1, asked_at = null, lease_until = null")

    await request_run(res, claim)
    await work_off(res)

    assert (await only_run(res))["state"] == "cancelled"
    (attempt,) = await attempts(res)
    assert attempt["stripe_run_id"] == simulator.runs[0].id
    assert await fetch(res, "select 1 from files") == []


async def test_the_id_of_a_run_that_is_being_cancelled_when_the_answer_arrives_is_kept(
    res: Resources, simulator: Simulator
) -> None:
    # Given an answer that arrives while a cancellation has moved the run, and not ended its attempt yet
    await one_due_run(res, simulator)
    claim = await claim_one(res)
    made = await res.stripe.create_run(
        "default", claim.report_type, parameters=claim.parameters, idempotency_key=claim.idempotency_key
    )

    async def record() -> None:
        async with res.sessions.begin() as session:
            await record_created(session, [Created(claim, made)], poll_seconds=1)

    # When both go on
    async with res.sessions.begin() as cancelling:
        planned = (RunState.PLANNED,)
        assert await moves.move(cancelling, claim.run_id, to=RunState.CANCELLED, reason="a test", sources=planned)
        recording = asyncio.create_task(record())
        await somebody_waits_for_a_lock(res)
        await moves.end_attempt(cancelling, claim.run_id, claim.attempt, outcome=AttemptOutcome.CANCELLED)
    await recording

    # Then neither is lost
    assert (await only_run(res))["state"] == "cancelled"
    (attempt,) = await attempts(res)
    assert (attempt["stripe_run_id"], attempt["outcome"]) == (made.id, "cancelled")


async def test_a_worker_that_died_after_its_call_is_followed_by_one_that_asks_with_the_same_key(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    dead = await claim_one(res)
    await res.stripe.create_run(
        "default", dead.report_type, parameters=dead.parameters, idempotency_key=dead.idempotency_key
    )
    assert await request_due(res) == 0, "the lease is respected"
    await leases_run_out(res)

    await work_off(res)

    assert len(simulator.runs) == 1
    assert (await only_run(res))["state"] == "stored"


async def test_what_was_sent_is_exactly_what_the_run_shows(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator, parameters={"currency": "usd", "columns": ["created", "net"]})

    await request_due(res)

    run = await only_run(res)
    assert simulator.runs[0].parameters == run["parameters"]
    assert json.loads(json.dumps(run["parameters"]))["columns"] == ["created", "net"]
