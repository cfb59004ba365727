"""Deliveries: chosen by endpoint, signed with every active secret, and tried again."""

import httpx
import pytest
from stripe import WebhookSignature

from app.simulator import Simulator, serve
from tests.simulator.asking import SUMMARY, advance
from tests.simulator.conftest import SECRET
from tests.simulator.receiver import Receiver
from tests.until import until

UPDATED = "reporting.report_type.updated"
SUCCEEDED = "reporting.report_run.succeeded"


async def test_an_advance_is_announced_with_the_previous_value(simulator: Simulator, receiver: Receiver) -> None:
    before = simulator.report_type(SUMMARY).data_available_end
    end = advance(simulator)
    await simulator.settle()

    event = receiver.events[0]
    assert event["type"] == UPDATED
    assert event["data"]["object"] == simulator.report_type(SUMMARY).rendered()
    assert event["data"]["object"]["data_available_end"] == end
    assert event["data"]["previous_attributes"]["data_available_end"] == before
    assert (event["object"], event["livemode"], event["pending_webhooks"]) == ("event", False, 1)
    assert event["request"] == {"id": None, "idempotency_key": None}
    assert event["api_version"] == "2026-10-28.endive"
    assert "account" not in event
    assert WebhookSignature.verify_header(receiver.received[0].body, receiver.received[0].signature, SECRET, 300)


async def test_a_star_does_not_stand_for_report_type_updates(simulator: Simulator, receiver: Receiver) -> None:
    simulator.change_endpoint(next(iter(simulator.account().endpoints)), events=["*"])

    advance(simulator)
    end = simulator.report_type(SUMMARY).data_available_end
    simulator.create_run(SUMMARY, {"interval_start": end - 86400, "interval_end": end})
    await simulator.settle()

    assert receiver.types == [SUCCEEDED]


async def test_a_disabled_endpoint_gets_nothing(simulator: Simulator, receiver: Receiver) -> None:
    endpoint = next(iter(simulator.account().endpoints))
    simulator.change_endpoint(endpoint, enabled=False)
    advance(simulator)
    simulator.change_endpoint(endpoint, enabled=True)
    advance(simulator)
    await simulator.settle()

    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
async def test_an_event_is_tried_until_it_is_taken(simulator: Simulator, receiver: Receiver, status: int) -> None:
    receiver.answers = [status, status]

    advance(simulator)
    settled = await simulator.settle()

    assert settled
    assert len({event["id"] for event in receiver.events}) == 1
    assert simulator.deliveries[0].tries == [status, status, 200]
    assert simulator.deliveries[0].status == "delivered"


async def test_each_try_is_signed_again(simulator: Simulator, receiver: Receiver) -> None:
    simulator.configure(delivery_base=1.1, delivery_most=1.1)
    receiver.answers = [500]

    advance(simulator)
    await simulator.settle()

    first, second = receiver.received
    assert first.event["id"] == second.event["id"]
    assert first.signature.split(",")[0] < second.signature.split(",")[0]
    for delivery in receiver.received:
        assert WebhookSignature.verify_header(delivery.body, delivery.signature, SECRET, 300)


async def test_an_endpoint_that_never_answers_well_is_given_up(simulator: Simulator, receiver: Receiver) -> None:
    simulator.configure(delivery_tries=3)
    receiver.answers = [500] * 99

    advance(simulator)
    await simulator.settle()

    assert (simulator.deliveries[0].status, len(receiver.received)) == ("failed", 3)
    assert simulator.events[0].pending_webhooks == 1


async def test_nobody_listening_is_a_failure_and_is_tried_again() -> None:
    simulator = Simulator(delivery_tries=2, delivery_base=0.001)
    simulator.add_endpoint("http://127.0.0.1:9/hook")
    async with serve(simulator):
        advance(simulator)
        await simulator.settle()

    assert simulator.deliveries[0].tries == ["ConnectError", "ConnectError"]


async def test_an_endpoint_that_is_deleted_meanwhile_is_not_tried_again(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    simulator.configure(delivery_base=0.2, delivery_most=0.2)
    receiver.answers = [500] * 99

    advance(simulator)
    await until(lambda: receiver.received)
    endpoint = next(iter(simulator.account().endpoints))
    await client.delete(f"/v1/webhook_endpoints/{endpoint}")
    await simulator.settle()

    assert simulator.deliveries[0].status == "failed"
    assert len(receiver.received) < simulator.settings.delivery_tries


async def test_a_rolled_secret_signs_beside_the_new_one_until_it_expires(
    simulator: Simulator, receiver: Receiver
) -> None:
    endpoint = next(iter(simulator.account().endpoints))
    new = simulator.roll_secret(endpoint, keep_seconds=3600)
    advance(simulator)
    await simulator.settle()
    simulator.set_clock(advance=3600)
    advance(simulator)
    await simulator.settle()

    both, only_new = receiver.received
    assert (both.signature.count("v1="), only_new.signature.count("v1=")) == (2, 1)
    for secret in (SECRET, new):
        assert WebhookSignature.verify_header(both.body, both.signature, secret, 300)
    assert WebhookSignature.verify_header(only_new.body, only_new.signature, new, 300)


async def test_an_endpoint_may_have_its_own_api_version(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    form = {"url": receiver.url, "enabled_events[]": UPDATED, "api_version": "2020-08-27"}
    await client.post("/v1/webhook_endpoints", data=form)

    advance(simulator)
    await simulator.settle()

    assert sorted(event["api_version"] for event in receiver.events) == ["2020-08-27", "2026-10-28.endive"]


async def test_events_made_before_the_server_runs_go_out_with_it(receiver: Receiver) -> None:
    simulator = Simulator()
    simulator.add_endpoint(receiver.url)
    advance(simulator)

    async with serve(simulator):
        await simulator.settle()

    assert receiver.types == [UPDATED]


async def test_settling_says_when_it_takes_too_long(simulator: Simulator, receiver: Receiver) -> None:
    simulator.inject("event_late", seconds=60)

    advance(simulator)

    assert await simulator.settle(timeout=0.05) is False


async def test_publishing_advances_every_type_that_is_behind(simulator: Simulator, receiver: Receiver) -> None:
    end = advance(simulator)

    told = simulator.publish(until=end)
    again = simulator.publish(until=end)
    await simulator.settle()

    kinds = [kind for kind in simulator.account().report_types.values() if not kind.live_only]
    assert (told, again) == (len(kinds) - 1, 0)
    assert {kind.data_available_end for kind in kinds} == {end}
    assert len(receiver.received) == len(kinds)
