"""Keys, accounts and limits: who may call, and how others are refused."""

import time

import httpx

from app.simulator import Simulator
from tests.simulator.asking import ITEMIZED, RUNS, a_day, create, error_of, finished
from tests.simulator.conftest import KEY
from tests.simulator.receiver import Receiver

TYPES = "/v1/reporting/report_types"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_call_without_or_with_an_unknown_key_is_401(client: httpx.AsyncClient) -> None:
    none = await client.get(TYPES, headers={"Authorization": ""})
    unknown = await client.get(TYPES, headers=bearer("sk_test_unknown1234"))

    assert (none.status_code, unknown.status_code) == (401, 401)
    assert "You did not provide an API key" in error_of(none)["message"]
    assert error_of(unknown)["message"] == "Invalid API Key provided: sk_test_*******1234"


async def test_a_key_may_be_the_user_name_of_basic_authentication(simulator: Simulator) -> None:
    async with httpx.AsyncClient(base_url=simulator.base_url, auth=(KEY, ""), timeout=30, trust_env=False) as client:
        assert (await client.get(TYPES)).status_code == 200


async def test_a_revoked_key_is_401_until_it_is_restored(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.change_key(KEY, revoked=True)
    revoked = await client.get(TYPES)
    simulator.change_key(KEY, revoked=False)

    assert (revoked.status_code, error_of(revoked)["code"]) == (401, "api_key_expired")
    assert (await client.get(TYPES)).status_code == 200


async def test_permissions_for_reports_and_for_files_are_taken_apart(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    url = (await finished(client, a_day(simulator)))["result"]["url"]

    simulator.change_key(KEY, permissions={"reporting"})
    file, types = await client.get(url), await client.get(TYPES)
    simulator.change_key(KEY, permissions={"files"})
    create_refused = await create(client, a_day(simulator))

    assert (file.status_code, types.status_code, create_refused.status_code) == (403, 200, 403)
    assert "file_read" in error_of(file)["message"]
    assert "report_runs_and_report_types_read" in error_of(create_refused)["message"]
    assert (await client.get(url)).status_code == 200


async def test_a_file_needs_the_key_of_its_own_account(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.add_account("other")
    url = (await finished(client, a_day(simulator)))["result"]["url"]

    without = await client.get(url, headers={"Authorization": ""})
    other = await client.get(url, headers=bearer("sk_test_simulator_other"))

    assert (without.status_code, other.status_code) == (401, 404)


async def test_accounts_and_modes_see_nothing_of_each_other(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.add_account("live", livemode=True, api_key="rk_live_reports")
    await create(client, a_day(simulator))

    here = (await client.get("/v1/account")).json()
    there = (await client.get("/v1/account", headers=bearer("rk_live_reports"))).json()
    types = (await client.get(TYPES, headers=bearer("rk_live_reports"))).json()["data"]
    runs = (await client.get(RUNS, headers=bearer("rk_live_reports"))).json()["data"]

    assert here["id"].startswith("acct_")
    assert here["id"] != there["id"]
    assert all(kind["livemode"] for kind in types)
    assert any(kind["id"].startswith("all_fees") for kind in types)
    assert runs == []


async def test_a_run_made_for_a_connected_account_belongs_to_it(
    client: httpx.AsyncClient, simulator: Simulator, receiver: Receiver
) -> None:
    simulator.add_endpoint(receiver.url + "?connect", secrets=["whsec_connect"], connect=True)
    theirs = {"Stripe-Account": "acct_1connected"}

    created = (await client.post(RUNS, data=a_day(simulator), headers=theirs)).json()
    await simulator.settle()
    url = f"{RUNS}/{created['id']}"

    assert (await client.get(url)).status_code == 404
    run = (await client.get(url, headers=theirs)).json()
    assert (await client.get(run["result"]["url"])).status_code == 404
    assert (await client.get(run["result"]["url"], headers=theirs)).status_code == 200
    assert [event["account"] for event in receiver.events] == ["acct_1connected"]


async def test_connected_accounts_of_one_platform_have_different_figures(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    kind = "connected_account_balance_change_from_activity.itemized.3"

    sizes = {
        (await finished(client, a_day(simulator, report_type=kind, connected_account=account)))["result"]["size"]
        for account in ("acct_1a", "acct_1b", "acct_1c")
    }

    assert len(sizes) > 1


async def test_the_rate_limit_refuses_the_26th_call_of_a_second(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.add_account("live", livemode=True)
    simulator.configure(rate_limits=True)
    url = f"{TYPES}/{ITEMIZED}"

    started = time.monotonic()
    answers = [await client.get(url, headers=bearer("sk_live_simulator_live")) for _ in range(200)]
    seconds = time.monotonic() - started

    refused = [answer for answer in answers if answer.status_code == 429]
    allowed = len(answers) - len(refused)
    assert {answer.status_code for answer in answers[:25]} == {200}
    # However slow this machine is, no second let more than 25 calls pass.
    assert allowed <= 25 * (int(seconds) + 2)
    assert refused or seconds > 7
    assert all(answer.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate" for answer in refused)
