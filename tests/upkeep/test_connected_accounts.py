"""Which accounts are connected: Stripe's list is read by pages, events only say where to look."""

import json
from typing import Any

import pytest

from app import handlers
from app.accounts import connected
from app.errors import NotNow
from app.health.judge import judge
from app.health.results import Check, Status
from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.stripe_api import client
from app.stripe_api.client import ConnectedPage, StripeClient
from app.stripe_api.objects import ConnectedAccount
from app.upkeep.connected_accounts import read_lists
from tests.runs.stories import deliver, deliver_value
from tests.service import add_rule, execute, fetch, make_settings, make_timetable_due, timetable_due

TYPE = "connected_account_balance_change_from_activity.itemized.3"
CREATED = 1_790_000_000


async def known(res: Resources, *, left: bool = False) -> list[str]:
    """The accounts that are connected, or have left."""
    condition = "left_at is not null" if left else "left_at is null"
    rows = await fetch(res, f"select id from connected_accounts where {condition} order by id")
    return [row["id"] for row in rows]


async def a_day_later(res: Resources) -> None:
    """Everything is due to be read again."""
    await execute(res, "update connected_lists set recent_at = null, complete_at = null")


@pytest.fixture
async def merchants(res: Resources, simulator: Simulator) -> list[str]:
    """A rule for all accounts together, and 102 of them: two pages."""
    await add_rule(res, report_type=TYPE)
    return sorted(simulator.connect_account(f"acct_{n:03}", created=CREATED + n * 3600).id for n in range(102))


async def test_the_list_is_read_in_pages_and_new_ones_without_all_the_others(
    res: Resources, simulator: Simulator, merchants: list[str]
) -> None:
    await read_lists(res)
    assert await known(res) == merchants
    calls = simulator.world.journal.counts["list_accounts"]

    simulator.connect_account("acct_new", created=CREATED + 10 * 86_400, name="Corner Shop")
    await execute(res, "update connected_lists set recent_at = null")
    await read_lists(res)

    (new,) = await fetch(res, "select name, country, source from connected_accounts where id = 'acct_new'")
    assert (calls, simulator.world.journal.counts["list_accounts"]) == (2, 3)
    assert (new["name"], new["country"], new["source"]) == ("Corner Shop", "DE", "list")


async def test_nobody_is_asked_where_no_rule_needs_it(res: Resources, simulator: Simulator) -> None:
    simulator.connect_account("acct_1")
    await add_rule(res)

    await read_lists(res)

    assert simulator.world.journal.counts["list_accounts"] == 0


async def test_only_a_complete_list_says_who_has_left_and_one_that_was_broken_off_is_resumed(
    res: Resources, simulator: Simulator, merchants: list[str]
) -> None:
    await read_lists(res)
    simulator.disconnect_account("acct_050")
    await a_day_later(res)
    simulator.inject("status", match={"path": "/v1/accounts"}, after=1, status=500, times=1)

    with pytest.raises(NotNow):
        await read_lists(res)
    assert await known(res, left=True) == []
    simulator.connect_account("acct_new", created=CREATED + 110 * 3600)
    await read_lists(res)

    assert await known(res, left=True) == ["acct_050"]
    assert "acct_new" not in await known(res)  # it came after the first page, which was not read again


async def test_a_list_that_lacks_most_of_them_is_believed_when_it_says_so_twice(
    res: Resources, simulator: Simulator, merchants: list[str]
) -> None:
    await read_lists(res)
    for merchant in merchants[:60]:
        simulator.disconnect_account(merchant)
    await a_day_later(res)

    await read_lists(res)
    assert await known(res, left=True) == []
    await read_lists(res)

    assert await known(res, left=True) == merchants[:60]


async def test_odd_items_are_counted_and_one_without_an_id_makes_the_list_incomplete(
    res: Resources, simulator: Simulator, merchants: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await read_lists(res)
    simulator.disconnect_account("acct_000")
    odd = simulator.account().connected.get("acct_050")
    assert odd is not None
    monkeypatch.setattr(type(odd), "rendered", _without(type(odd).rendered, "acct_050", "created"))
    await a_day_later(res)
    await read_lists(res)

    # It is there, whatever else its item says.
    assert await known(res, left=True) == ["acct_000"]
    async with res.sessions.begin() as session:
        (state,) = await connected.list_states(session)
    assert (state.connected, state.odd_items) == (101, 1)

    simulator.disconnect_account("acct_001")
    monkeypatch.setattr(type(odd), "rendered", _without(type(odd).rendered, "acct_050", "id"))
    await a_day_later(res)
    await read_lists(res)
    assert await known(res, left=True) == ["acct_000"]


def _without(rendered: object, id_: str, field: str) -> object:
    def odd(account: object) -> dict[str, object]:
        shown: dict[str, object] = rendered(account)  # type: ignore[operator]
        return {name: value for name, value in shown.items() if shown.get("id") != id_ or name != field}

    return odd


async def test_events_hasten_what_the_list_would_have_said(
    res: Resources, simulator: Simulator, merchants: list[str]
) -> None:
    await read_lists(res)
    simulator.connect_account("acct_new", created=CREATED + 10 * 86_400)
    simulator.disconnect_account("acct_100")
    for event in simulator.events[-2:]:
        await deliver(res, event)
    await handlers.drain(res)

    assert "acct_new" not in [
        row["id"] for row in await fetch(res, "select id from connected_accounts where seen_at is not null")
    ]
    await read_lists(res)

    assert await known(res, left=True) == ["acct_100"]
    assert "acct_new" in await known(res)
    assert simulator.world.journal.counts["list_accounts"] == 2  # those of before


async def test_an_account_that_leaves_while_stripe_is_asked_about_it_is_looked_at_again(
    res: Resources, simulator: Simulator, merchants: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an account that leaves just after Stripe has said that it is connected
    await read_lists(res)
    read_connected = StripeClient.read_connected

    async def read(client: StripeClient, account: str, id_: str) -> ConnectedAccount | None:
        shown = await read_connected(client, account, id_)
        simulator.disconnect_account(id_)
        await deliver(res, simulator.events[-1])
        await handlers.drain(res)
        return shown

    simulator.connect_account("acct_new", created=CREATED + 10 * 86_400)
    await deliver(res, simulator.events[-1])
    await handlers.drain(res)
    with monkeypatch.context() as patched:
        patched.setattr(StripeClient, "read_connected", read)
        await read_lists(res)
    assert "acct_new" in await known(res)

    # When its hints are looked at again, then it has left
    await read_lists(res)
    assert await known(res, left=True) == ["acct_new"]
    assert await fetch(res, "select 1 from connected_accounts where look_at is not null") == []


async def test_an_event_that_names_a_stranger_leaves_nothing_behind(res: Resources, merchants: list[str]) -> None:
    await deliver_value(res, {
        "id": "evt_1", "object": "event", "type": "account.updated", "created": 1, "livemode": False,
        "account": "acct_stranger", "data": {"object": {"id": "acct_stranger", "object": "account", "email": "a@b.c"}},
    })  # fmt: skip
    await handlers.drain(res)
    await read_lists(res)

    (event,) = await fetch(res, "select payload, status from events")
    assert event["status"] == "handled"
    assert "a@b.c" not in event["payload"]
    assert "acct_stranger" not in await known(res) + await known(res, left=True)


async def test_a_key_that_may_not_list_them_is_shown_and_holds_nothing_else(
    res: Resources, simulator: Simulator, merchants: list[str]
) -> None:
    simulator.change_key(next(iter(simulator.world.keys)), permissions={"reporting", "files"})

    await read_lists(res)

    assert await fetch(res, "select 1 from account_holds") == []
    (state,) = await fetch(res, "select refusal from connected_lists")
    assert "permissions" in state["refusal"]


async def test_a_list_that_stripe_refuses_whatever_the_key_may_do_is_shown_and_asked_for_no_more_often(
    res: Resources, simulator: Simulator, merchants: list[str]
) -> None:
    simulator.inject("status", match={"path": "/v1/accounts$"}, status=400, message="Not signed up.", times=None)
    await make_timetable_due(res)
    await timetable_due(res)

    (entry,) = await fetch(res, "select due_at > now() + interval '20 minutes' as later from timetable "
        "where name = :name", name=connected.TIMETABLE_ENTRY)  # fmt: skip
    assert (simulator.world.journal.counts["list_accounts"], entry["later"]) == (1, True)
    found = await check_of_list(res)
    assert (found.status, "default: Not signed up." in found.detail) == (Status.DEGRADED, True)

    simulator.clear_faults()
    await read_lists(res)
    assert await known(res) == merchants
    assert (await check_of_list(res)).status is Status.OK


async def check_of_list(res: Resources) -> Check:
    (found,) = [one for one in (await judge(res.sessions, res.settings)).checks if one.name == "connected_accounts"]
    return found


async def test_an_account_that_leaves_between_two_pages_of_the_newest_keeps_no_other_list_from_being_read(
    res: Resources, database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two accounts with connected ones, and of the first the newest one leaves as soon as it was listed
    simulator.add_account("eu")
    simulator.connect_account("acct_eu", account="eu")
    for name in ("acct_1", "acct_2"):
        simulator.connect_account(name, created=CREATED)
    list_connected = StripeClient.list_connected

    async def listed(client: StripeClient, account: str, **given: Any) -> ConnectedPage:
        page = await list_connected(client, account, **given)
        if account == "default" and given["after"] is None:
            simulator.disconnect_account(page.shown[-1])
        return page

    accounts = json.dumps({"eu": {"api_key": "sk_test_simulator_eu"}})
    async with open_resources(make_settings(database_url, simulator, STRIPE_ACCOUNTS=accounts)) as two:
        for account in ("default", "eu"):
            await add_rule(two, account=account, report_type=TYPE)
        await execute(
            two, "insert into connected_lists (account, complete_at) values ('default', now()), ('eu', now())"
        )
        monkeypatch.setattr(client, "LIST_PAGE", 1)
        with monkeypatch.context() as patched:
            patched.setattr(StripeClient, "list_connected", listed)
            with pytest.raises(NotNow, match=r"^default: .* from its beginning again$"):
                await read_lists(two)
        assert "acct_eu" in await known(res)

        await read_lists(two)
        assert "acct_1" in await known(res)


async def test_an_account_that_stripe_says_nothing_about_keeps_the_list_from_nothing(
    res: Resources, simulator: Simulator, merchants: list[str]
) -> None:
    await read_lists(res)
    await execute(res, "update connected_accounts set look_at = now() where id = 'acct_000'")
    await execute(res, "insert into connected_accounts (account, id, source, look_at) "
        "values ('default', 'acct_stranger', 'event', now())")  # fmt: skip
    simulator.connect_account("acct_new", created=CREATED + 110 * 3600)
    simulator.inject("status", match={"path": "/v1/accounts/"}, status=400, times=None)
    await a_day_later(res)

    await read_lists(res)

    assert await known(res) == sorted([*merchants, "acct_new"])
    assert await fetch(res, "select 1 from connected_accounts where look_at is not null") == []
