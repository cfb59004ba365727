"""Kept events over HTTP: listed, shown, and handled again."""

import httpx

from app import handlers
from app.resources import Resources
from tests.api.deliveries import delivery, event
from tests.service import execute, fetch

URL = "/webhooks/stripe"


async def deliver(api: httpx.AsyncClient, *ids: str, **changes: object) -> None:
    for id in ids:
        assert (await api.post(URL, **delivery(event(id, **changes)))).status_code == 200  # type: ignore[arg-type]


async def test_events_are_listed_newest_first_and_narrowed(res: Resources, api: httpx.AsyncClient) -> None:
    await deliver(api, "evt_1", "evt_2", "evt_3")
    await deliver(api, "evt_4", type="customer.created")
    await handlers.drain(res)

    names = {
        query: [one["stripe_event_id"] for one in (await api.get(f"/v1/events{query}")).json()["data"]]
        for query in ("", "?status=handled", "?type=customer.created", "?stripe_event_id=evt_2", "?account=other",
                      "?object_id=balance.summary.1&limit=2")
    }  # fmt: skip

    assert list(names.values()) == [
        ["evt_4", "evt_3", "evt_2", "evt_1"], ["evt_3", "evt_2", "evt_1"], ["evt_4"], ["evt_2"], [], ["evt_3", "evt_2"],
    ]  # fmt: skip


async def test_pages_of_events_stay_stable(api: httpx.AsyncClient) -> None:
    await deliver(api, "evt_1", "evt_2", "evt_3")

    first = (await api.get("/v1/events?limit=2")).json()
    await deliver(api, "evt_4")
    second = (await api.get(f"/v1/events?limit=2&cursor={first['next_cursor']}")).json()

    assert [one["stripe_event_id"] for one in first["data"] + second["data"]] == ["evt_3", "evt_2", "evt_1"]
    assert second["next_cursor"] is None


async def test_an_event_is_shown_with_what_stripe_signed_by_either_id(api: httpx.AsyncClient) -> None:
    await deliver(api, "evt_1")
    await deliver(api, "evt_2", type="customer.created")
    (unused, used) = (await api.get("/v1/events")).json()["data"]

    by_ours, by_stripes = [(await api.get(f"/v1/events/{id}")).json() for id in (used["id"], "evt_1")]

    assert by_ours == by_stripes
    assert by_ours["payload"] == event("evt_1")
    assert (await api.get(f"/v1/events/{unused['id']}")).json()["payload"] is None


async def test_an_event_can_be_handled_again(res: Resources, api: httpx.AsyncClient) -> None:
    await deliver(api, "evt_1")
    await handlers.drain(res)
    await execute(res, "delete from report_types where id = 'balance.summary.1'")

    answer = await api.post("/v1/events/evt_1/replay")
    handled = await handlers.drain(res)

    assert (answer.status_code, answer.json()["status"], handled) == (202, "pending", 1)
    assert await fetch(res, "select 1 from report_types where id = 'balance.summary.1'") != []


async def test_an_ignored_event_stays_ignored(res: Resources, api: httpx.AsyncClient) -> None:
    await deliver(api, "evt_1", type="customer.created")
    await deliver(api, "evt_2", livemode=True)

    answers = [await api.post(f"/v1/events/{id}/replay") for id in ("evt_1", "evt_2", "evt_3", "7777")]

    assert [answer.status_code for answer in answers] == [409, 409, 404, 404]
    assert {row["status"] for row in await fetch(res, "select status from events")} == {"ignored"}
