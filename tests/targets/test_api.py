"""Targets over the admin API: made, shown, tried, rotated, recovered; messages with every attempt."""

from collections.abc import AsyncIterator

import httpx
import pytest
from standardwebhooks import Webhook

from app.resources import Resources
from app.simulator import Simulator
from tests.api.conftest import client_of
from tests.service import READ_TOKEN, fetch
from tests.targets.receivers import WebReceiver
from tests.targets.stories import send_due, store_reports
from tests.web.visiting import log_in, submit, visitor


@pytest.fixture
async def api(res: Resources) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(res) as client:
        yield client


def webhook(receiver: WebReceiver, **changes: object) -> dict[str, object]:
    return {"name": "ledger", "kind": "webhook", "url": receiver.url, **changes}


async def test_a_target_is_made_shown_and_removed_and_its_secret_is_shown_once(
    api: httpx.AsyncClient, receiver: WebReceiver
) -> None:
    made = await api.post("/v1/targets", json=webhook(receiver))
    shown = await api.get(made.headers["location"])
    listed = await api.get("/v1/targets")
    checks = {one["name"]: one["detail"] for one in (await api.get("/health")).json()["checks"]}
    removed = await api.delete(made.headers["location"])

    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    assert "secret" not in shown.json()
    assert shown.json()["message_types"] == ["*"]
    assert [one["name"] for one in listed.json()["data"]] == ["ledger"]
    assert checks["targets"] == "no target has a problem (1 target)"
    assert removed.status_code == 204
    assert (await api.get(made.headers["location"])).status_code == 404


async def test_a_name_is_unique_and_a_lost_update_is_refused(api: httpx.AsyncClient, receiver: WebReceiver) -> None:
    made = await api.post("/v1/targets", json=webhook(receiver))
    again = await api.post("/v1/targets", json=webhook(receiver))
    url = made.headers["location"]
    changed = await api.patch(url, json={"message_types": ["run.stored"]}, headers={"If-Match": made.headers["etag"]})
    lost = await api.patch(url, json={"enabled": False}, headers={"If-Match": made.headers["etag"]})

    assert again.status_code == 409
    assert changed.json()["message_types"] == ["run.stored"]
    assert lost.status_code == 412


async def test_a_test_sends_a_ping_and_shows_the_answer(api: httpx.AsyncClient, receiver: WebReceiver) -> None:
    made = await api.post("/v1/targets", json=webhook(receiver, enabled=False))
    receiver.answers = [418]

    tested = await api.post(f"{made.headers['location']}/test")

    assert receiver.types == ["ping"]
    assert tested.json() == {**tested.json(), "delivered": False, "status": 418, "answer": "seen"}


async def test_during_a_rotation_both_secrets_verify_and_after_it_only_the_new_one(
    res: Resources, api: httpx.AsyncClient, receiver: WebReceiver, simulator: Simulator
) -> None:
    made = await api.post("/v1/targets", json=webhook(receiver))
    old = made.json()["secret"]
    new = (await api.post(f"{made.headers['location']}/rotate", json={"overlap_hours": 1})).json()["secret"]
    await store_reports(res, simulator)
    await send_due(res)
    during = receiver.received[-1]
    at_once = (await api.post(f"{made.headers['location']}/rotate", json={"overlap_hours": 0})).json()["secret"]
    await api.post(f"{made.headers['location']}/test")

    Webhook(old).verify(during.body, during.headers)
    Webhook(new).verify(during.body, during.headers)
    assert len(receiver.received[-1].headers["webhook-signature"].split()) == 1
    Webhook(at_once).verify(receiver.received[-1].body, receiver.received[-1].headers)
    assert (await api.post(f"{made.headers['location']}/secret")).json()["secret"] == at_once


async def test_a_message_shows_its_body_its_deliveries_and_every_attempt(
    res: Resources, api: httpx.AsyncClient, receiver: WebReceiver, simulator: Simulator
) -> None:
    await api.post("/v1/targets", json=webhook(receiver))
    await store_reports(res, simulator, days=2)
    await send_due(res)

    page = (await api.get("/v1/messages", params={"limit": 1, "type": "run.stored"})).json()
    rest = (await api.get("/v1/messages", params={"cursor": page["next_cursor"]})).json()
    message = (await api.get(f"/v1/messages/{page['data'][0]['id']}")).json()
    deliveries = (await api.get("/v1/deliveries", params={"state": "delivered", "limit": 1})).json()
    more = (await api.get("/v1/deliveries", params={"cursor": deliveries["next_cursor"]})).json()

    assert len(rest["data"]) == 1
    assert message["body"] == receiver.received[-1].message
    assert [one["status"] for one in message["attempts"]] == [200]
    assert message["deliveries"][0]["target"] == "ledger"
    assert [len(deliveries["data"]), len(more["data"])] == [1, 1]


async def test_a_delivery_is_retried_and_a_target_recovered_by_hand(
    res: Resources, api: httpx.AsyncClient, receiver: WebReceiver, simulator: Simulator
) -> None:
    made = await api.post("/v1/targets", json=webhook(receiver))
    await store_reports(res, simulator)
    await send_due(res)
    (one,) = (await api.get("/v1/deliveries")).json()["data"]

    retried = await api.post(f"/v1/deliveries/{one['message_id']}/{one['target_id']}/retry")
    await send_due(res)
    recovered = await api.post(f"{made.headers['location']}/recover", json={"since": "2026-01-01T00:00:00Z"})
    async with visitor(res, base_url="https://tallyhook.test") as client:
        await log_in(client)
        odd = await client.get(f"/targets/{one['target_id']}/recover", params={"since": "0001-01-01T00:00:00+23:59"})
        sent = await submit(client, f"/targets/{one['target_id']}/recover", since="0001-01-01T00:00:00+00:00")

    refused = []
    again = f"/v1/deliveries/{one['message_id']}/{one['target_id']}/retry"
    await api.patch(made.headers["location"], json={"enabled": False})
    refused += [await api.post(again)]
    refused += [await api.post(f"{made.headers['location']}/recover", json={"since": "2026-01-01T00:00:00Z"})]
    await api.delete(made.headers["location"])
    refused += [await api.post(again)]

    assert [answer.status_code for answer in refused] == [409] * 3
    assert [answer.json()["detail"].partition(":")[0] for answer in refused] == [
        "the target 'ledger' is disabled", "the target 'ledger' is disabled", "the target 'ledger' was removed",
    ]  # fmt: skip
    assert {one["state"] for one in (await api.get("/v1/deliveries")).json()["data"]} == {"delivered"}
    assert (odd.status_code, sent.status_code) == (200, 303)
    assert retried.status_code == 202
    assert len(receiver.received) == 2
    assert recovered.json() == {"recovered": 0}


async def test_rules_are_named_by_name_or_id_and_an_unknown_one_is_pointed_at(
    res: Resources, api: httpx.AsyncClient, receiver: WebReceiver, simulator: Simulator
) -> None:
    rule = await store_reports(res, simulator)

    made = await api.post("/v1/targets", json=webhook(receiver, rules=["daily-activity"]))
    wrong = await api.post("/v1/targets", json=webhook(receiver, name="other", rules=["daily-activty"]))

    assert made.json()["rules"] == [str(rule.id)]
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["pointer"] == "/rules/0"


async def test_every_message_type_has_an_example(api: httpx.AsyncClient) -> None:
    types = (await api.get("/v1/message-types")).json()["data"]

    assert {one["type"] for one in types} >= {"run.stored", "month.complete", "ping"}
    assert all(one["example"]["type"] == one["type"] for one in types)


async def test_message_types_come_in_pages(api: httpx.AsyncClient) -> None:
    whole = (await api.get("/v1/message-types")).json()
    first = (await api.get("/v1/message-types?limit=1")).json()
    rest = (await api.get("/v1/message-types", params={"cursor": first["next_cursor"]})).json()
    bad = await api.get("/v1/message-types?cursor=x")

    assert first["data"] + rest["data"] == whole["data"]
    assert (len(first["data"]), rest["next_cursor"], whole["next_cursor"]) == (1, None, None)
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "cursor")


async def test_readers_may_look_and_not_touch(res: Resources, receiver: WebReceiver) -> None:
    async with client_of(res, READ_TOKEN) as reader:
        assert (await reader.get("/v1/targets")).status_code == 200
        assert (await reader.post("/v1/targets", json=webhook(receiver))).status_code == 403


async def test_everything_that_is_done_with_a_target_is_in_the_audit(
    res: Resources, api: httpx.AsyncClient, receiver: WebReceiver
) -> None:
    made = await api.post("/v1/targets", json=webhook(receiver))
    url = made.headers["location"]
    await api.patch(url, json={"enabled": False})
    await api.post(f"{url}/rotate")
    await api.post(f"{url}/secret")
    await api.post(f"{url}/test")
    await api.delete(url)

    actions = [row["action"] for row in await fetch(res, "select action from audit order by id")]
    assert actions == [
        "target.created", "target.changed", "target.rotated", "target.secret_shown", "target.tested", "target.deleted",
    ]  # fmt: skip
