"""What the API shows about accounts: whose keys they have, what Stripe refuses, what is pending, how far their data
reaches."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from app.errors import NotNow
from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.service import READ_TOKEN, add_rule, make_settings, request_due, unpublished

SHOP = "acct_1Shop"


@pytest.fixture
async def two(res: Resources, database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    """`default`, and `shop`, which is connected to it."""
    accounts = {"shop": {"api_key": next(iter(simulator.world.keys)), "stripe_account": SHOP}}
    async with open_resources(make_settings(database_url, simulator, STRIPE_ACCOUNTS=json.dumps(accounts))) as two:
        yield two


async def test_an_account_says_whose_its_key_is_what_is_pending_and_how_far_its_data_reaches(
    two: Resources, simulator: Simulator
) -> None:
    simulator.configure(outcome="hang")
    unpublished(simulator, until="2026-03-02")
    await reconcile(two)
    await add_rule(two)
    await request_due(two)

    async with client_of(two, READ_TOKEN) as client:
        answer = await client.get("/v1/accounts")

    ours, shop = answer.json()["data"]
    assert (ours["account"], ours["stripe_account_id"], ours["livemode"]) == ("default", simulator.account().id, False)
    assert ours["limits"] == {"pending_runs": 1, "max_pending_runs": 20, "requests_per_second": 0.0}
    assert ours["holds"] == []
    assert ours["availability"]["report_types"] == sum(
        not kind.live_only for kind in simulator.account().report_types.values()
    )
    assert ours["availability"]["refreshed_at"] is not None
    assert (shop["stripe_account_id"], shop["stripe_account"], shop["stripe_context"]) == (SHOP, SHOP, None)
    assert (shop["has_key"], shop["webhook_secrets"], shop["limits"]["pending_runs"]) == (True, 0, 0)
    assert "sk_" not in answer.text
    assert "whsec_" not in answer.text


async def test_what_stripe_refuses_is_shown_with_when_it_is_tried_again(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)
    await add_rule(res)
    simulator.inject("status", status=401, message="Invalid API Key", times=None)
    await request_due(res)

    account = (await api.get("/v1/accounts/default")).json()

    (hold,) = account["holds"]
    assert (hold["call_kind"], hold["reason"]) == ("create", "401: Invalid API Key")
    assert hold["since"] < hold["next_probe_at"]


async def test_a_key_of_another_account_shows_as_held_until_it_is_right(
    res: Resources, database_url: str, simulator: Simulator
) -> None:
    await reconcile(res)
    simulator.add_account("other", api_key="sk_test_simulator_other")
    async with open_resources(
        make_settings(database_url, simulator, STRIPE_API_KEY="sk_test_simulator_other")
    ) as wrong:
        with pytest.raises(NotNow, match="bound to"):
            await reconcile(wrong)
        async with client_of(wrong) as client:
            holds = (await client.get("/v1/accounts/default")).json()["holds"]

    assert {hold["call_kind"] for hold in holds} == {"create", "read", "files"}
    assert {hold["next_probe_at"] for hold in holds} == {None}


async def test_the_list_has_pages_and_keeps_an_account_that_left_the_settings(
    two: Resources, api: httpx.AsyncClient
) -> None:
    first = (await api.get("/v1/accounts", params={"limit": 1})).json()
    second = (await api.get("/v1/accounts", params={"limit": 1, "cursor": first["next_cursor"]})).json()

    assert [page["data"][0]["account"] for page in (first, second)] == ["default", "shop"]
    assert second["next_cursor"] is None
    # `api` is of a process whose settings do not have it.
    assert (second["data"][0]["has_key"], second["data"][0]["stripe_account"]) == (False, None)


async def test_an_unknown_account_is_404(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/accounts/nobody")).status_code == 404
