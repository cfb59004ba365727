"""A company's books on one morning: the real service and its worker, over the simulator, with failures of all kinds."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from app.resources import Resources
from app.serving import running
from app.simulator import Simulator, serve
from tests import days, service
from tests.service import ADMIN_TOKEN, until_found

HISTORY = timedelta(days=500)
ACTIVITY = "balance_change_from_activity.itemized.7"
BALANCE = "balance.summary.1"
PAYOUTS = "payouts.itemized.5"
LATE = "ending_balance_reconciliation.summary.1"
MONTHLY = "balance_change_from_activity.summary.1"
RECONCILED = "payout_reconciliation.itemized.7"
CONNECTED = "connected_account_balance_change_from_activity.itemized.3"
TYPES = (ACTIVITY, BALANCE, PAYOUTS, LATE, MONTHLY, RECONCILED, CONNECTED)
SHOPS = ("acct_1AlphaShop", "acct_1BetaShop")
# An account whose key was revoked, and whose endpoint has another secret than we know.
EU, EU_KEY = "eu", "sk_test_simulator_eu"


@dataclass(frozen=True, slots=True)
class Books:
    """Where the service answers, and who plays Stripe."""

    url: str
    res: Resources
    simulator: Simulator
    today: datetime

    def api(self, token: str = ADMIN_TOKEN) -> httpx.AsyncClient:
        """A client of the admin API."""
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False)


@asynccontextmanager
async def books(database_url: str, **overrides: object) -> AsyncIterator[Books]:
    """Everything is made that can be made; what is not has one of the reasons that there are."""
    today = datetime.combine(days.today(left=120), datetime.min.time(), UTC)
    simulator = Simulator(delay=0.05)
    simulator.add_account(EU)
    _publish(simulator, today)
    async with serve(simulator):
        settings = service.make_settings(database_url, simulator, **_quick(overrides))
        async with running(settings) as life:
            assert life.url is not None
            found = Books(life.url, life.res, simulator, today)
            simulator.add_endpoint(f"{life.url}/webhooks/stripe", secrets=[service.WEBHOOK_SECRET])
            await _make_rules(found)
            await _lose_account(found)
            await _until_quiet(found)
            yield found


def _quick(overrides: dict[str, object]) -> dict[str, object]:
    return {
        "TALLYHOOK_MAX_PENDING_RUNS": 100,
        "TALLYHOOK_SIGNING_KEY": "a-signing-key-of-more-than-32-characters",
        "TALLYHOOK_TARGET_NETWORKS": "127.0.0.0/8",
        "STRIPE_ACCOUNTS": json.dumps({EU: {"api_key": EU_KEY, "webhook_secrets": ["whsec_not_this_one"]}}),
        **overrides,
    }


def _publish(simulator: Simulator, today: datetime) -> None:
    for name, account in [*((name, "default") for name in TYPES), (PAYOUTS, EU)]:
        kind = simulator.report_type(name, account=account)
        kind.data_available_start = int((today - HISTORY).timestamp())
        kind.data_available_end = int(today.timestamp())
    simulator.report_type(LATE).data_available_end = int((today - timedelta(days=4)).timestamp())


async def _make_rules(found: Books) -> None:
    day = (found.today - timedelta(days=45)).date()
    zoned = {"parameters": {"timezone": "America/Los_Angeles"}, "timezone": "America/Los_Angeles"}
    daily = {"cadence": "daily", "starts_on": day.isoformat()}
    async with found.api() as api:
        # One whole run of bad luck: each of its attempts fails at Stripe.
        found.simulator.inject("run_fails", match={"report_type": PAYOUTS}, times=3)
        deaf = {"name": "ledger", "kind": "webhook", "url": "http://127.0.0.1:9/", "message_types": ["run.failed"]}
        (await api.post("/v1/targets", json=deaf)).raise_for_status()
        await _begin_badly(found, api, "payouts-one-failed", PAYOUTS, "stripe_failed")
        refusal = {"status": 400, "message": "Invalid column: nett", "param": "parameters[columns]"}
        found.simulator.inject("status", match={"method": "POST", "report_type": BALANCE}, times=1, **refusal)
        await _begin_badly(found, api, "balance-one-rejected", BALANCE, "rejected")
        found.simulator.inject("report_extra_column", match={"report_type": ACTIVITY}, column="loyalty_tier")
        await _add(api, name="activity-los-angeles", report_type=ACTIVITY, **daily, **zoned)
        await _add(api, name="activity-monthly", report_type=MONTHLY, cadence="monthly", starts_on=_back(found, 400))
        await _add(api, name="reconciled-weekly", report_type=RECONCILED, cadence="weekly", starts_on=_back(found, 90))
        await _add(api, name="tokyo-data-late", report_type=LATE, timezone="Asia/Tokyo", **daily)
        await _add(api, name="no-such-type", report_type="payouts.itemised.5", **daily)
        for shop in SHOPS:
            found.simulator.connect_account(shop)
        shops = {"connected_accounts": list(SHOPS), "starts_on": _back(found, 12)}
        await _add(api, name="marketplace", report_type=CONNECTED, cadence="daily", **shops)
        await _add(api, name="switched-off", report_type=BALANCE, enabled=False, **daily)


async def _lose_account(found: Books) -> None:
    """Its key is revoked when its types are known already; what Stripe sends for it is signed with another secret."""
    await until_found(found.res, "select 1 from report_types where account = :account limit 1", account=EU)
    found.simulator.change_key(EU_KEY, revoked=True)
    found.simulator.add_endpoint(f"{found.url}/webhooks/stripe/{EU}", secrets=["whsec_another"], account=EU)
    async with found.api() as api:
        rule = {"account": EU, "cadence": "daily", "starts_on": _back(found, 10)}
        await _add(api, name="eu-payouts", report_type=PAYOUTS, **rule)
    found.simulator.advance(BALANCE, found.today, account=EU)
    await until_found(found.res, "select 1 from account_holds where account = :account", account=EU)


async def _begin_badly(found: Books, api: httpx.AsyncClient, name: str, report_type: str, kind: str) -> None:
    """A rule of which yesterday's report fails, and all days before are made."""
    await _add(api, name=name, report_type=report_type, cadence="daily", starts_on=_back(found, 1))
    await until_found(found.res, "select 1 from runs where error ->> 'kind' = :kind", kind=kind)
    change = {"starts_on": _back(found, 45)}
    (await api.patch(f"/v1/rules/{name}", json=change)).raise_for_status()


def _back(found: Books, days: int) -> str:
    return (found.today - timedelta(days=days)).date().isoformat()


async def _add(api: httpx.AsyncClient, **rule: object) -> None:
    (await api.post("/v1/rules", json=rule)).raise_for_status()


async def _until_quiet(found: Books) -> None:
    """Until everything that can be made is stored and loaded, and the first numbers are compared."""
    await until_found(
        found.res,
        """select 1 where not exists (select 1 from runs where state in ('requested', 'ready')
               or state = 'planned' and report_type <> 'payouts.itemised.5' and account <> 'eu')
           and not exists (select 1 from loads where state = 'due') and exists (select 1 from checks)
           and (select count(*) from runs where state = 'stored') > 80""",
    )
