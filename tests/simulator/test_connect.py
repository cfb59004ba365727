"""A platform: its connected accounts, one file for all of them, payouts, and the events that announce both."""

import csv
import io
from typing import Any

import httpx
import pytest

from app.simulator import Simulator
from tests.simulator.asking import DAY, ITEMIZED, a_day, create, csv_of, error_of
from tests.simulator.conftest import SECRET
from tests.simulator.receiver import Receiver

ALL = "connected_account_balance_change_from_activity.itemized.3"
BALANCE = "connected_account_balance.summary.1"
COLUMNS = ["connected_account", "balance_transaction_id", "currency", "net"]


def rows(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


@pytest.fixture
def merchants(simulator: Simulator) -> list[str]:
    return [simulator.connect_account(f"acct_1Merchant{n}", created=1_790_000_000 + n).id for n in range(3)]


async def test_one_run_without_an_account_covers_all_of_them(
    client: httpx.AsyncClient, simulator: Simulator, merchants: list[str]
) -> None:
    together = rows(await csv_of(client, a_day(simulator, report_type=ALL, columns=COLUMNS)))
    alone = [
        rows(await csv_of(client, a_day(simulator, report_type=ALL, columns=COLUMNS, connected_account=merchant)))
        for merchant in merchants
    ]
    some = rows(
        await csv_of(client, a_day(simulator, report_type=ALL, columns=COLUMNS, connected_accounts=merchants[:2]))
    )

    assert {row["connected_account"] for row in together} == set(merchants)
    assert together == [row for part in alone for row in part]
    assert some == [row for part in alone[:2] for row in part]


async def test_a_platform_without_connected_accounts_gets_a_header(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    assert rows(await csv_of(client, a_day(simulator, report_type=ALL))) == []


async def test_the_header_and_the_parameter_tell_the_same_business(
    client: httpx.AsyncClient, simulator: Simulator, merchants: list[str]
) -> None:
    form = a_day(simulator, report_type=ITEMIZED, columns=COLUMNS[1:])
    created = await client.post("/v1/reporting/report_runs", data=form, headers={"Stripe-Account": merchants[0]})
    (run,) = simulator.runs
    by_header = rows(simulator.content(simulator.files[-1]))
    by_parameter = a_day(simulator, report_type=ALL, columns=COLUMNS[1:], connected_account=merchants[0])

    assert created.status_code == 200
    assert run.owner == merchants[0]
    assert by_header == rows(await csv_of(client, by_parameter))
    assert by_header != rows(await csv_of(client, form))


async def test_connected_accounts_are_listed_newest_first_by_pages(
    client: httpx.AsyncClient, merchants: list[str]
) -> None:
    first = (await client.get("/v1/accounts", params={"limit": 2})).json()
    rest = (await client.get("/v1/accounts", params={"limit": 2, "starting_after": first["data"][-1]["id"]})).json()
    late = (await client.get("/v1/accounts", params={"created[gte]": 1_790_000_001})).json()

    assert [item["id"] for item in first["data"] + rest["data"]] == merchants[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert [item["id"] for item in late["data"]] == merchants[:0:-1]
    assert (await client.get(f"/v1/accounts/{merchants[0]}")).json()["created"] == 1_790_000_000


async def test_an_account_that_has_left_is_refused_and_announced(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver, merchants: list[str]
) -> None:
    simulator.add_endpoint(
        receiver.url,
        events=["account.updated", "account.application.deauthorized"],
        secrets=[SECRET],
        connect=True,
    )
    simulator.connect_account("acct_1New")
    simulator.disconnect_account(merchants[0])
    await simulator.settle()

    listed = (await client.get("/v1/accounts")).json()["data"]
    refused = await client.get("/v1/account", headers={"Stripe-Account": merchants[0]})
    told = [(event["type"], event["account"]) for event in receiver.events]

    assert {item["id"] for item in listed} == {*merchants[1:], "acct_1New"}
    assert (refused.status_code, error_of(refused)["code"]) == (403, "account_invalid")
    assert merchants[0] in error_of(refused)["message"]
    assert sorted(told) == [("account.application.deauthorized", merchants[0]), ("account.updated", "acct_1New")]


async def test_the_payouts_of_the_list_are_those_of_the_reports(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    end = simulator.report_type("payouts.itemized.5").data_available_end
    form = a_day(simulator, report_type="payouts.itemized.5", interval_start=end - 7 * DAY)
    reported = rows(await csv_of(client, form))

    listed: list[dict[str, Any]] = []
    more: dict[str, Any] = {"has_more": True}
    while more["has_more"]:
        after: dict[str, Any] = {"starting_after": listed[-1]["id"]} if listed else {}
        more = (await client.get("/v1/payouts", params={"created[gte]": end - 7 * DAY, "limit": 7} | after)).json()
        listed += more["data"]

    known = {item["id"]: item for item in listed}
    assert {row["payout_id"] for row in reported} <= known.keys()
    for row in reported:
        item = known[row["payout_id"]]
        assert (item["currency"], item["automatic"]) == (row["currency"], True)
        assert item["amount"] == -int(row["net"].replace(".", ""))
        assert item["reconciliation_status"] == "completed"


async def test_a_payout_by_hand_is_listed_and_cannot_be_itemized(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    made = simulator.add_payout(1234, "usd")

    listed = (await client.get("/v1/payouts", params={"status": "in_transit", "created[gte]": made.created})).json()

    assert [(item["id"], item["automatic"], item["reconciliation_status"]) for item in listed["data"]] == [
        (made.id, False, "not_applicable")
    ]
    assert (await client.get(f"/v1/payouts/{made.id}")).json()["amount"] == 1234


async def test_reconciled_payouts_are_announced_once_each(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver, merchants: list[str]
) -> None:
    for connect in (False, True):
        simulator.add_endpoint(
            receiver.url, events=["payout.reconciliation_completed"], secrets=[SECRET], connect=connect
        )
    end = simulator.report_type("payout_reconciliation.itemized.7").data_available_end

    platform = simulator.reconcile_payouts(until=end)
    merchant = simulator.reconcile_payouts(until=end, owner=merchants[0])
    again = simulator.reconcile_payouts(until=end)
    await simulator.settle()

    told = [(event.get("account"), event["data"]["object"]["id"]) for event in receiver.events]
    assert (platform > 0, merchant > 0, again) == (True, True, 0)
    assert len(set(told)) == len(told) == platform + merchant
    known = (await client.get("/v1/payouts", params={"limit": 100, "created[gte]": end - DAY})).json()["data"]
    assert {identifier for owner, identifier in told if owner is None} <= {item["id"] for item in known}


async def test_a_reconciled_payout_can_be_itemized_by_its_id(
    client: httpx.AsyncClient, simulator: Simulator, merchants: list[str]
) -> None:
    simulator.reconcile_payouts(owner=merchants[1])
    payout = simulator.events[-1].content["object"]
    report_type = "connected_account_payout_reconciliation.by_id.itemized.4"
    form = {
        "report_type": report_type,
        "parameters[payout]": payout["id"],
        "parameters[connected_account]": merchants[1],
        "parameters[columns][0]": "net",
        "parameters[columns][1]": "automatic_payout_id",
    }

    behind = rows(await csv_of(client, form))
    without = await create(client, {name: value for name, value in form.items() if "connected" not in name})

    assert {row["automatic_payout_id"] for row in behind} == {payout["id"]}
    assert without.status_code != 200


async def test_the_new_lists_need_their_permissions(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.change_key(simulator.account().keys[0].secret, permissions={"reporting", "files"})

    assert (await client.get("/v1/accounts")).status_code == 403
    assert (await client.get("/v1/payouts")).status_code == 403


async def test_the_commands_of_a_platform_are_control_routes_too(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    made = (await client.post("/_control/connected", json={"id": "acct_1Http", "name": "A shop"})).json()
    await client.post("/_control/restate", json={"start": 1, "end": 2, "connected": "acct_1Http"})
    counted = (await client.post("/_control/payouts/reconcile", json={"owner": "acct_1Http"})).json()
    by_hand = (await client.post("/_control/payouts", json={"amount": 5, "currency": "eur"})).json()
    gone = await client.delete("/_control/connected/acct_1Http")

    assert made["business_profile"]["name"] == "A shop"
    assert counted > 0
    assert by_hand["automatic"] is False
    assert gone.status_code == 200
    assert len(simulator.account().restatements) == 1
    assert len(simulator.account().connected) == 0
