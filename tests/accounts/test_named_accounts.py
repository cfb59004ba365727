"""A platform's key used for a connected account, an organization's key used for one of its accounts."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from app import handlers
from app.errors import NotNow
from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.inbox.intake_events import accept, kept
from tests.service import (
    REPORT_TYPE,
    WEBHOOK_SECRET,
    add_rule,
    at,
    download_due,
    execute,
    fetch,
    look_up_due,
    make_settings,
    request_due,
    unpublished,
    work_off,
    work_until_found,
)

SHOP = "acct_1Shop"
ORGANIZATION_KEY = "sk_org_test_simulator"


@asynccontextmanager
async def resources(database_url: str, simulator: Simulator, **accounts: Any) -> AsyncIterator[Resources]:
    settings = make_settings(database_url, simulator, STRIPE_ACCOUNTS=json.dumps(accounts))
    async with open_resources(settings) as res:
        yield res


@pytest.fixture
async def shop(res: Resources, database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    """`default` is the platform, `shop` an account connected to it, used with the platform's key."""
    unpublished(simulator, until="2026-03-02")
    simulator.connect_account(SHOP)
    platform_key = next(iter(simulator.world.keys))
    async with resources(database_url, simulator, shop={"api_key": platform_key, "stripe_account": SHOP}) as shop:
        yield shop


async def test_a_report_of_a_connected_account_is_made_read_and_fetched_in_it(
    shop: Resources, simulator: Simulator
) -> None:
    await add_rule(shop, account="shop", name="theirs")
    await add_rule(shop, account="default", name="ours")
    await work_off(shop)

    runs = await fetch(
        shop, "select runs.account, state, sha256 from runs join files on files.run_id = runs.id order by runs.account"
    )
    assert [(run["account"], run["state"]) for run in runs] == [("default", "stored"), ("shop", "stored")]
    assert {run.owner for run in simulator.runs} == {None, SHOP}
    assert runs[0]["sha256"] != runs[1]["sha256"]
    bound = await fetch(shop, "select slug, stripe_account_id from accounts order by slug")
    assert [row["stripe_account_id"] for row in bound] == [simulator.account().id, SHOP]


async def test_its_success_arrives_at_the_platforms_endpoint_and_is_its_own(
    shop: Resources, simulator: Simulator
) -> None:
    simulator.configure(outcome="hang")
    await reconcile(shop)
    await add_rule(shop, account="shop", name="theirs")
    assert await request_due(shop) == 1
    (run,) = simulator.runs
    simulator.finish_run(run.id)
    (event,) = [one for one in simulator.events if one.type == "reporting.report_run.succeeded"]
    told = event.rendered("2026-10-28")
    assert told["account"] == SHOP

    await execute(shop, "update runs set due_at = now() + interval '1 hour'")

    await accept(shop.intake, told)  # at the path of `default`, signed with its secret
    assert await handlers.drain(shop) == 1

    (found,) = await kept(shop)
    assert (found["account"], found["status"]) == ("shop", "handled")
    assert await download_due(shop) == 0  # what it says is not believed
    assert await look_up_due(shop) == 1
    assert await download_due(shop) == 1
    assert [row["state"] for row in await fetch(shop, "select state from runs")] == ["stored"]


async def test_the_secret_of_one_account_moves_nothing_of_another(shop: Resources, simulator: Simulator) -> None:
    await reconcile(shop)
    await add_rule(shop, account="shop", name="theirs")
    await execute(shop, "delete from reconciliations")
    before = await fetch(shop, "select account, id, data_available_end from report_types order by 1, 2")
    about = simulator.report_type(REPORT_TYPE).rendered() | {"data_available_end": int(at("2027-01-01").timestamp())}
    forged = {"object": "event", "type": "reporting.report_type.updated", "created": 1, "livemode": False}

    await accept(shop.intake, {**forged, "id": "evt_1", "account": SHOP, "data": {"object": about}})
    await handlers.drain(shop)

    assert await fetch(shop, "select account, id, data_available_end from report_types order by 1, 2") == before
    assert await fetch(shop, "select account from reconciliations where due_at <= now()") == [{"account": "shop"}]


async def test_an_account_that_has_its_platforms_secret_believes_what_it_signs(
    res: Resources, database_url: str, simulator: Simulator
) -> None:
    platform_key = next(iter(simulator.world.keys))
    simulator.connect_account(SHOP)
    entry = {"api_key": platform_key, "stripe_account": SHOP, "webhook_secrets": [WEBHOOK_SECRET]}
    about = simulator.report_type(REPORT_TYPE).rendered() | {"data_available_end": int(at("2027-01-01").timestamp())}
    told = {"object": "event", "type": "reporting.report_type.updated", "created": 1, "livemode": False}
    async with resources(database_url, simulator, shop=entry) as shop:
        await accept(shop.intake, {**told, "id": "evt_1", "account": SHOP, "data": {"object": about}})
        await handlers.drain(shop)

        (known,) = await fetch(shop, "select account, data_available_end from report_types")
    assert (known["account"], known["data_available_end"]) == ("shop", at("2027-01-01"))


async def test_an_account_that_leaves_its_platform_is_held_and_the_platform_continues(
    shop: Resources, simulator: Simulator
) -> None:
    await reconcile(shop)
    await add_rule(shop, account="shop", name="theirs")
    await add_rule(shop, account="default", name="ours")
    simulator.disconnect_account(SHOP)

    await work_until_found(shop, "select 1 from account_holds where account = 'shop'")
    await work_until_found(shop, "select 1 from runs where account = 'default' and state = 'stored'")

    states = {row["account"]: row["state"] for row in await fetch(shop, "select account, state from runs")}
    assert states == {"default": "stored", "shop": "planned"}
    holds = await fetch(shop, "select distinct account from account_holds")
    assert [hold["account"] for hold in holds] == ["shop"]


async def test_each_account_of_an_organization_has_its_reports_by_the_one_key(
    res: Resources, database_url: str, simulator: Simulator
) -> None:
    unpublished(simulator, until="2026-03-02")
    second = simulator.add_account("second", api_key="sk_test_simulator_second")
    kind = simulator.report_type("balance_change_from_activity.itemized.7", account="second")
    kind.data_available_start, kind.data_available_end = 1_767_225_600, 1_772_409_600
    simulator.add_organization_key(ORGANIZATION_KEY, ["default", "second"])
    members = {
        "first": {"api_key": ORGANIZATION_KEY, "stripe_context": simulator.account().id},
        "second": {"api_key": ORGANIZATION_KEY, "stripe_context": second.id},
    }

    async with resources(database_url, simulator, **members) as group:
        for slug in members:
            await add_rule(group, account=slug, name=slug)
        await work_off(group)

        states = await fetch(group, "select account, state from runs order by account")
        assert [(row["account"], row["state"]) for row in states] == [("first", "stored"), ("second", "stored")]
        bound = await fetch(group, "select stripe_account_id from accounts where slug <> 'default' order by slug")
    assert [row["stripe_account_id"] for row in bound] == [simulator.account().id, second.id]
    assert len(second.runs) == len(simulator.account().runs) == 1


async def test_an_answer_for_another_account_than_the_named_one_binds_nothing_and_nothing_is_requested(
    res: Resources, database_url: str, simulator: Simulator
) -> None:
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)
    key = next(iter(simulator.world.keys))

    async with resources(database_url, simulator, shop={"api_key": key, "stripe_account": SHOP}) as shop:
        _lose_the_header_on_the_way(shop)
        with pytest.raises(
            NotNow, match=f"Stripe answers for {simulator.account().id}; the key is configured for {SHOP}"
        ):
            await reconcile(shop)
        await add_rule(shop, account="shop", name="theirs")

        assert await request_due(shop) == 0
        bound = await fetch(shop, "select stripe_account_id from accounts where slug = 'shop'")
        assert [row["stripe_account_id"] for row in bound] == [None]
    assert simulator.creates == []


def _lose_the_header_on_the_way(res: Resources) -> None:
    """As a proxy would that passes on only the headers that it knows."""
    theirs, platform = res.stripe.sdk("shop"), res.stripe.sdk("default")
    assert theirs is not platform
    res.stripe._opened["shop"] = replace(res.stripe._opened["shop"], sdk=platform)


async def test_a_platforms_key_that_may_not_read_accounts_is_not_taken_for_a_wrong_one(
    shop: Resources, simulator: Simulator
) -> None:
    message = (
        f"The provided key 'rk_test_x' does not have the required permissions on account '{simulator.account().id}'."
    )
    simulator.inject("status", status=403, message=message, times=None, match={"path": "^/v1/account$"})

    await add_rule(shop, account="shop", name="theirs")
    await work_off(shop)

    assert [row["state"] for row in await fetch(shop, "select state from runs")] == ["stored"]
