"""Faults of events: lost, doubled, late, held back, reversed, early, wrongly signed."""

import httpx
import pytest
from stripe import SignatureVerificationError, WebhookSignature

from app.simulator import Simulator
from tests.simulator.asking import ITEMIZED, RUNS, SUMMARY, a_day, advance, create
from tests.simulator.conftest import SECRET
from tests.simulator.receiver import Receiver

SUCCEEDED = "reporting.report_run.succeeded"


@pytest.mark.parametrize("fault", ["event_lost", "event_never_made"])
async def test_a_lost_event_never_comes(simulator: Simulator, receiver: Receiver, fault: str) -> None:
    simulator.inject("event_lost" if fault == "event_lost" else "event_never_made")

    advance(simulator)
    advance(simulator)
    await simulator.settle()

    assert len(receiver.received) == 1
    assert len(simulator.events) == (2 if fault == "event_lost" else 1)


async def test_a_doubled_event_comes_twice(simulator: Simulator, receiver: Receiver) -> None:
    simulator.inject("event_doubled")

    advance(simulator)
    await simulator.settle()

    assert len(receiver.received) == 2
    assert len({event["id"] for event in receiver.events}) == 1


async def test_one_change_may_make_two_events(simulator: Simulator, receiver: Receiver) -> None:
    simulator.inject("event_twin")

    advance(simulator)
    await simulator.settle()

    assert len({event["id"] for event in receiver.events}) == 2
    assert receiver.events[0]["data"] == receiver.events[1]["data"]


async def test_a_late_event_is_overtaken(simulator: Simulator, receiver: Receiver) -> None:
    simulator.inject("event_late", seconds=1.0, match={"report_type": SUMMARY})

    advance(simulator)
    advance(simulator, ITEMIZED)
    await simulator.settle()

    assert [event["data"]["object"]["id"] for event in receiver.events] == [ITEMIZED, SUMMARY]


@pytest.mark.parametrize(("order", "expected"), [("made", [0, 1, 2]), ("reversed", [2, 1, 0]), ("random", None)])
async def test_held_events_are_released_in_the_wanted_order(
    simulator: Simulator, receiver: Receiver, order: str, expected: list[int] | None
) -> None:
    simulator.inject("event_held", times=3)
    ends = [advance(simulator) for _ in range(3)]
    await simulator.settle()
    before = len(receiver.received)

    simulator.release(order=order)
    await simulator.settle()

    got = [ends.index(event["data"]["object"]["data_available_end"]) for event in receiver.events]
    assert before == 0
    assert got == expected if expected else sorted(got) == [0, 1, 2]


async def test_held_events_are_released_one_by_one(simulator: Simulator, receiver: Receiver) -> None:
    simulator.inject("event_held", times=None)
    for _ in range(3):
        advance(simulator)
    ids = [event.id for event in simulator.events]

    simulator.release(order=[ids[2], ids[0]])
    await simulator.settle()

    assert [event["id"] for event in receiver.events] == [ids[2], ids[0]]
    assert simulator.deliveries[1].status == "held"


async def test_an_event_is_delivered_once_more_by_hand(simulator: Simulator, receiver: Receiver) -> None:
    advance(simulator)
    await simulator.settle()

    simulator.resend(simulator.events[0].id)
    await simulator.settle()

    assert [event["id"] for event in receiver.events] == [simulator.events[0].id] * 2


async def test_the_success_may_come_before_the_create_answer(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    simulator.inject("event_early")
    seen_before_the_answer: list[str] = []

    async def look(response: httpx.Response) -> None:
        seen_before_the_answer.extend(receiver.types)

    client.event_hooks = {"response": [look]}
    created = (await create(client, a_day(simulator))).json()

    assert seen_before_the_answer == [SUCCEEDED]
    assert created["status"] == "pending"
    assert (await client.get(f"{RUNS}/{created['id']}")).json()["status"] == "succeeded"


async def test_an_event_may_be_signed_by_somebody_else_or_long_ago(simulator: Simulator, receiver: Receiver) -> None:
    simulator.inject("event_wrong_secret")
    simulator.inject("event_stale", seconds=3600, after=1)
    advance(simulator)
    await simulator.settle()
    advance(simulator)
    await simulator.settle()

    wrong, stale = receiver.received
    with pytest.raises(SignatureVerificationError, match="No signatures found"):
        WebhookSignature.verify_header(wrong.body, wrong.signature, SECRET, 300)
    with pytest.raises(SignatureVerificationError, match="tolerance"):
        WebhookSignature.verify_header(stale.body, stale.signature, SECRET, 300)
