"""Each answer that the webhook route can give, in process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from app.api import webhooks
from app.main import build_app
from app.resources import Resources, open_resources
from app.simulator import Simulator
from tests import service
from tests.api.conftest import client_of
from tests.api.deliveries import delivery, event, signed
from tests.service import fetch

URL = "/webhooks/stripe"


async def kept(res: Resources) -> list[tuple[str, str, str | None]]:
    rows = await fetch(res, "select stripe_event_id, status, reason from events order by id")
    return [(row["stripe_event_id"], row["status"], row["reason"]) for row in rows]


def is_problem(answer: httpx.Response, status: int) -> bool:
    body = answer.json()
    media_type = answer.headers["content-type"]
    return answer.status_code == status == body["status"] and media_type == "application/problem+json"


async def test_a_signed_event_is_kept_before_the_answer(res: Resources, nobody: httpx.AsyncClient) -> None:
    answer = await nobody.post(URL, **delivery())

    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert await kept(res) == [("evt_1", "pending", None)]


async def test_a_signature_may_be_up_to_300_seconds_old_or_early(res: Resources, nobody: httpx.AsyncClient) -> None:
    answers = [await nobody.post(URL, **delivery(age=age)) for age in (290, -290, 310, -310)]

    assert [answer.status_code for answer in answers] == [200, 200, 400, 400]


async def test_every_configured_secret_is_accepted(database_url: str, simulator: Simulator) -> None:
    settings = service.make_settings(database_url, simulator, STRIPE_WEBHOOK_SECRET="whsec_old, whsec_new")
    async with open_resources(settings) as res, client_of(res, None) as client:
        answers = [await client.post(URL, **delivery(secret=one)) for one in ("whsec_old", "whsec_new", "whsec_other")]

    assert [answer.status_code for answer in answers] == [200, 200, 400]


async def test_an_event_delivered_twice_is_kept_once(res: Resources, nobody: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(nobody.post(URL, **delivery()) for _ in range(10)))

    assert {answer.status_code for answer in answers} == {200}
    assert await kept(res) == [("evt_1", "pending", None)]


async def test_a_failed_event_is_handled_when_it_is_delivered_again(res: Resources, nobody: httpx.AsyncClient) -> None:
    await nobody.post(URL, **delivery())
    await service.execute(res, "update events set status = 'failed', tries = 8, reason = 'a bug'")

    await nobody.post(URL, **delivery())

    assert [row["status"] for row in await fetch(res, "select status from events where tries = 0")] == ["pending"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (event(type="customer.created"), "unused_type"),
        (event(livemode=True), "wrong_mode"),
        (event(account="acct_1"), "connected_account"),
        (event(context="acct_1"), "connected_account"),
        (event(object="v2.core.event"), "thin_event"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_unused_event_is_accepted_and_ignored(
    res: Resources, nobody: httpx.AsyncClient, sent: dict[str, Any], reason: str
) -> None:
    answer = await nobody.post(URL, **delivery(sent))

    assert answer.status_code == 200
    assert await kept(res) == [("evt_1", "ignored", reason)]


async def test_the_body_of_an_unused_type_is_not_kept(res: Resources, nobody: httpx.AsyncClient) -> None:
    await nobody.post(URL, **delivery(event(type="customer.created")))

    assert [row["payload"] for row in await fetch(res, "select payload from events")] == [None]


def _signed_body(text: str) -> dict[str, Any]:
    return {"content": text.encode(), "headers": signed(text.encode())}


@pytest.mark.parametrize(
    "sent",
    [
        {"content": b"{}"},
        {"content": b"{}", "headers": {"Stripe-Signature": "t=1,v1=00"}},
        {"content": b"{}", "headers": {"Stripe-Signature": "v1"}},
        {"content": b"{}", "headers": {"Stripe-Signature": b"t=1,v1=\xe4"}},
        {"content": b"\xff", "headers": signed(b"{}")},
        delivery(secret="whsec_other"),
        _signed_body("no JSON"),
        _signed_body("[]"),
        _signed_body("null"),
        _signed_body('{"object": "event", "type": "a"}'),
        _signed_body('{"object": "event", "id": "evt_1"}'),
        _signed_body('{"object": "event", "id": "evt\\u0000", "type": "a"}'),
        _signed_body('{"object": "list", "id": "evt_1", "type": "a"}'),
    ],
    ids=[
        "no signature", "old signature", "half a signature", "signature not ASCII", "not UTF-8", "other secret",
        "not JSON", "a list", "null", "no id", "no type", "a NUL in the id", "no event",
    ],
)  # fmt: skip
async def test_an_unauthentic_delivery_is_refused_and_only_counted(
    res: Resources, nobody: httpx.AsyncClient, sent: dict[str, Any]
) -> None:
    answer = await nobody.post(URL, **sent)

    assert is_problem(answer, 400)
    assert (await kept(res), res.intake.refused.by_reason.total()) == ([], 1)


async def test_an_account_has_a_route_of_its_own(database_url: str, simulator: Simulator) -> None:
    accounts = {"eu": {"webhook_secrets": ["whsec_eu"]}, "us": {"api_key": "sk_test_2"}}
    settings = service.make_settings(database_url, simulator, STRIPE_ACCOUNTS=json.dumps(accounts))
    async with open_resources(settings) as res, client_of(res, None) as client:
        answer = await client.post(f"{URL}/eu", **delivery(secret="whsec_eu"))
        rows = await fetch(res, "select account from events")
        others = [await client.post(f"{URL}/{name}", **delivery()) for name in ("us", "unknown", "%00", "d%C3%A9faut")]

    assert (answer.status_code, [row["account"] for row in rows]) == (200, ["eu"])
    assert all(is_problem(other, 404) for other in others)


SLIPS = [f"{URL}/", f"{URL}/default/", f"//{URL[1:]}", URL.replace("/stripe", "//stripe"), "/Webhooks/STRIPE/Default"]


@pytest.mark.parametrize("path", SLIPS)
async def test_extra_slashes_and_capitals_lead_to_the_same_route(
    res: Resources, nobody: httpx.AsyncClient, path: str
) -> None:
    answer = await nobody.post(f"http://tallyhook.test{path}", **delivery())

    assert (answer.status_code, len(await kept(res))) == (200, 1)


@pytest.mark.parametrize("path", [f"{URL}/default/x", f"{URL}x", "/webhooks/", "/webhooks/other"])
async def test_no_delivery_is_ever_redirected(nobody: httpx.AsyncClient, path: str) -> None:
    answer = await nobody.post(path, **delivery())

    assert answer.status_code in (401, 404)


async def test_the_webhooks_are_routes_of_the_app_and_the_short_cut_hands_them_the_same_endpoint(
    res: Resources,
) -> None:
    app = build_app(res)

    endpoints = {one.path: one.endpoint for one in app.routes if isinstance(one, APIRoute)}
    assert endpoints == {URL: webhooks.receive_event, f"{URL}/{{account}}": webhooks.receive_event}


async def test_every_delivery_is_answered_equally_with_and_without_the_short_cut(
    res: Resources, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [(URL, delivery(event("evt_1"))), (f"{URL}/default", delivery(event("evt_2"))), (f"{URL}/who", delivery())]
    sent += [(URL, {"content": b"{}"}), (URL, delivery(secret="whsec_other"))]
    straight = [await nobody.post(path, **what) for path, what in sent]
    monkeypatch.setattr(webhooks, "short_cut", lambda _: None)
    async with client_of(res, None) as client:
        through_the_framework = [await client.post(path, **what) for path, what in sent]

    assert [answer.status_code for answer in straight] == [200, 200, 404, 400, 400]
    assert [(one.status_code, one.content) for one in straight] == [
        (one.status_code, one.content) for one in through_the_framework
    ]


async def test_a_header_that_no_delivery_has_is_refused_before_the_body_is_read(nobody: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        asked.append(True)
        yield b"123456789"

    asked: list[bool] = []
    for header in ("", "v1=00", f"t=1,v1={'0' * 64}", f"t={int(time.time())},v1=short"):
        answer = await nobody.post(URL, content=pieces(), headers={"Stripe-Signature": header, "Content-Length": "9"})

        assert is_problem(answer, 400)
        assert answer.headers["connection"] == "close"
    assert asked == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_other_methods_are_told_which_one_to_use(nobody: httpx.AsyncClient, method: str) -> None:
    answer = await nobody.request(method, URL)

    assert is_problem(answer, 405)
    assert answer.headers["allow"] == "POST"


async def test_a_body_of_exactly_the_limit_is_accepted_and_a_byte_more_is_not(
    database_url: str, simulator: Simulator
) -> None:
    settings = service.make_settings(database_url, simulator, TALLYHOOK_MAX_BODY_BYTES="2000")
    exact = json.dumps(event()).ljust(2000)
    async with open_resources(settings) as res, client_of(res, None) as client:
        whole = await client.post(URL, **_signed_body(exact))
        announced = await client.post(URL, **_signed_body(exact + " "))
        in_pieces = await client.post(URL, content=_pieces(), headers={"Transfer-Encoding": "chunked"})

    assert whole.status_code == 200
    assert is_problem(announced, 413)
    assert is_problem(in_pieces, 413)
    assert _taken[-1] <= 2001, "no more is read than shows that it is too much"


_taken: list[int] = []


async def _pieces() -> AsyncIterator[bytes]:
    _taken.append(0)
    for _ in range(100):
        _taken[-1] += 667
        yield b"x" * 667


async def test_while_the_database_is_away_stripe_is_asked_to_deliver_again(
    res: Resources, nobody: httpx.AsyncClient
) -> None:
    await service.execute(res, "alter table events rename to events_away")

    answer = await nobody.post(URL, **delivery())

    assert is_problem(answer, 503)
    assert answer.headers["retry-after"]


async def test_an_unexpected_error_asks_for_another_delivery(
    res: Resources, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(res.intake, "accept", crash)

    assert is_problem(await nobody.post(URL, **delivery()), 503)
