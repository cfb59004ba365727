"""Accounts that are kept in rows: added, changed and removed while everything runs, their keys as ciphertext only."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from app.accounts import kept
from app.background import beside
from app.errors import NotNow, RejectedDelivery, SettingsError
from app.observability import logs
from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.simulator.webhooks.signatures import signature_header
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.api.deliveries import delivery, event
from tests.runs.stories import another_process
from tests.service import (
    REPORT_TYPE,
    add_rule,
    at,
    execute,
    fetch,
    make_settings,
    request_due,
    unpublished,
    until_found,
    work_off,
    working,
)
from tests.until import until

OLD, NEW = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
SECRET = "whsec_ofTheRow"


@pytest.fixture
def key(simulator: Simulator) -> str:
    """The key of a second company's account, which nobody knows at the start."""
    simulator.add_account("eu")
    simulator.report_type(REPORT_TYPE, account="eu").data_available_end = int(at("2026-03-02").timestamp())
    return simulator.world.account("eu").keys[0].secret


@pytest.fixture
async def sealing(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    async with open_resources(make_settings(database_url, simulator, TALLYHOOK_KEY_ENCRYPTION_KEY=OLD)) as res:
        yield res


@pytest.fixture
async def api(sealing: Resources) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(sealing) as client:
        yield client


@asynccontextmanager
async def following(res: Resources) -> AsyncIterator[None]:
    """As every process does, with or without lanes."""
    async with beside(listen=res.wakeups.listen(res.direct_url), accounts=kept.follow(res)):
        await until(lambda: res.wakeups.listening)
        yield


async def accepted(res: Resources, secret: str, slug: str = "eu") -> bool:
    """Whether this process takes an event signed with this secret."""
    account = res.intake.account(slug)
    if account is None:
        return False
    body = json.dumps(event("evt_1")).encode()
    try:
        await res.intake.accept(body, signature_header(body, [secret], at=int(time.time())), account)
    except RejectedDelivery:
        return False
    return True


async def test_an_account_is_used_by_every_process_as_soon_as_it_is_added_and_no_longer_once_it_is_removed(
    sealing: Resources, api: httpx.AsyncClient, simulator: Simulator, key: str
) -> None:
    # Given a worker and a web server beside the process that serves the API
    unpublished(simulator, until="2026-03-02")
    sealed_by = {"TALLYHOOK_KEY_ENCRYPTION_KEY": OLD}
    async with (
        another_process(sealing, simulator, **sealed_by) as web,
        another_process(sealing, simulator, **sealed_by) as worker,
        following(web),
        working(worker),
    ):
        # When an account comes, and a rule for it
        answer = await api.post("/v1/accounts", json={"account": "eu", "api_key": key, "webhook_secrets": [SECRET]})
        assert (answer.status_code, answer.headers["Location"]) == (201, "/v1/accounts/eu")
        assert (answer.json()["kept_in"], answer.json()["has_key"], answer.json()["webhook_secrets"]) == (
            "rows",
            True,
            1,
        )
        assert key not in answer.text
        rule = (await api.post("/v1/rules", json=RULE)).json()

        # Then its reports come in, its events are taken, and its name is bound to its account
        await until_found(sealing, "select 1 from runs where account = 'eu' and state = 'stored'")
        assert await accepted(sealing, SECRET)
        await until(lambda: web.intake.account("eu") is not None)
        assert await accepted(web, SECRET)
        assert (await api.get("/v1/accounts/eu")).json()["stripe_account_id"] == simulator.account("eu").id

        # And it goes only when no rule names it
        assert (await api.delete("/v1/accounts/eu")).status_code == 409
        await api.delete(f"/v1/rules/{rule['id']}")
        assert (await api.delete("/v1/accounts/eu")).status_code == 204
        await until(lambda: web.intake.account("eu") is None)
        await until(lambda: "eu" not in worker.stripe.accounts)
        with pytest.raises(NotNow, match="no longer has an API key"):
            await worker.stripe.read_account_id("eu")
    shown = (await api.get("/v1/accounts/eu")).json()
    assert (shown["kept_in"], shown["has_key"]) == (None, False)


RULE = {
    "name": "theirs", "account": "eu", "report_type": REPORT_TYPE, "cadence": "daily",
    "starts_on": "2026-03-01",
}  # fmt: skip


async def test_a_change_without_a_wake_up_is_found_by_looking(
    sealing: Resources, api: httpx.AsyncClient, simulator: Simulator, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LOOK_SECONDS", 0.05)
    async with (
        another_process(sealing, simulator, TALLYHOOK_KEY_ENCRYPTION_KEY=OLD) as deaf,
        beside(accounts=kept.follow(deaf)),
    ):
        await api.post("/v1/accounts", json={"account": "eu", "api_key": key, "webhook_secrets": [SECRET]})
        await until(lambda: deaf.intake.account("eu") is not None)
        await api.patch("/v1/accounts/eu", json={"webhook_secrets": ["whsec_next"]})

        async def follows() -> bool:
            return await accepted(deaf, "whsec_next")

        await until(follows)
        assert not await accepted(deaf, SECRET)


async def test_no_table_no_log_and_no_answer_holds_what_was_given(
    sealing: Resources,
    api: httpx.AsyncClient,
    simulator: Simulator,
    logging_as_it_was: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # As in a process that was started with settings that know nothing of the new account.
    logs.configure_logs(json=True, secrets=[])
    # A key that has no key's shape: only its being known redacts it
    shapeless, shop = "tlk-0a9b8c7d6e5f4a3b2c1d", "acct_1Shop"
    simulator.connect_account(shop)
    simulator.add_key(shapeless)
    given = {"account": "eu", "api_key": shapeless, "webhook_secrets": [SECRET, "plainsecret0123"]}

    answers = [
        await api.post("/v1/accounts", json=given),
        await api.post("/v1/accounts", json=given),
        await api.patch("/v1/accounts/eu", json={"api_key": shapeless, "webhook_secrets": [SECRET]}),
        await api.get("/v1/accounts"),
        await api.get("/v1/audit"),
    ]
    structlog.get_logger().warning("somebody.says", it=f"key {shapeless}")

    assert [answer.status_code for answer in answers] == [201, 409, 200, 200, 200]
    stored = "".join([row["text"] for table in await tables_of(sealing) for row in await fetch(
        sealing, f'select t::text as text from "{table}" as t')])  # fmt: skip
    said = "".join(answer.text for answer in answers) + capsys.readouterr().err
    assert "account.added" in stored
    assert "key [redacted]" in said
    for secret in (shapeless, SECRET, "plainsecret0123"):
        assert secret not in stored
        assert secret.encode().hex() not in stored
        assert secret not in said
    (changed, added) = answers[-1].json()["data"]
    assert (added["action"], added["after"]) == ("account.added", {"given": ["api_key", "webhook_secrets"]})
    assert changed["action"] == "account.changed"


async def tables_of(res: Resources) -> list[str]:
    found = await fetch(
        res, "select tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
    )
    assert len(found) > 20
    return [row["tablename"] for row in found]


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"api_key": "pk_live_canary"}, "/api_key"),
        ({"api_key": "whsec_canary"}, "/api_key"),
        ({"api_key": "sk_org_live_canary"}, "/"),
        ({"api_key": "rk_live_canary", "webhook_secrets": ["sk_live_canary"]}, "/webhook_secrets/0"),
        ({"api_key": "rk_live_canary", "stripe_account": "canary"}, "/stripe_account"),
        ({"api_key": "rk_live_canary", "stripe_account": "acct_1", "stripe_context": "acct_2"}, "/"),
        ({}, "/"),
        ({"api_key": "rk_live_canary", "key": "canary"}, "/key"),
        ({"api_key": "'rk_live_canary'"}, "/api_key"),
    ],
)
async def test_what_is_refused_at_start_is_refused_here_and_not_repeated(
    sealing: Resources, api: httpx.AsyncClient, given: dict[str, Any], pointer: str
) -> None:
    answer = await api.post("/v1/accounts", json={"account": "eu", **given})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer.rstrip("/"))
    assert "canary" not in answer.text
    assert await fetch(sealing, "select 1 from account_keys") == []


async def test_without_an_encryption_key_the_answer_says_what_to_set(
    res: Resources, simulator: Simulator, key: str
) -> None:
    async with client_of(res) as client:
        answer = await client.post("/v1/accounts", json={"account": "eu", "api_key": key})

    assert answer.status_code == 422
    assert "TALLYHOOK_KEY_ENCRYPTION_KEY" in answer.text


async def test_a_name_of_the_settings_is_refused_here_and_a_name_of_a_row_is_refused_at_start(
    sealing: Resources, api: httpx.AsyncClient, database_url: str, simulator: Simulator, key: str
) -> None:
    taken = await api.post("/v1/accounts", json={"account": "default", "api_key": key})
    changed = await api.patch("/v1/accounts/default", json={"api_key": key})
    removed = await api.delete("/v1/accounts/default")
    unknown = await api.delete("/v1/accounts/nobody")
    assert [one.status_code for one in (taken, changed, removed, unknown)] == [409, 409, 409, 404]

    await api.post("/v1/accounts", json={"account": "eu", "api_key": key})
    both = make_settings(
        database_url, simulator, STRIPE_ACCOUNTS=json.dumps({"eu": {"api_key": key}}), TALLYHOOK_KEY_ENCRYPTION_KEY=OLD
    )

    with pytest.raises(SettingsError, match="the settings and the API both have an account eu"):
        async with open_resources(both):
            pass


async def test_a_key_of_another_company_holds_the_account_and_the_right_one_lets_it_continue(
    sealing: Resources, api: httpx.AsyncClient, simulator: Simulator, key: str
) -> None:
    unpublished(simulator, until="2026-03-02")
    await api.post("/v1/accounts", json={"account": "eu", "api_key": key})
    await reconcile(sealing)
    await add_rule(sealing, account="eu")

    simulator.add_account("other")
    await api.patch("/v1/accounts/eu", json={"api_key": simulator.world.account("other").keys[0].secret})
    assert await request_due(sealing) == 0, "a changed key is not used before Stripe has said whose it is"
    with pytest.raises(NotNow, match="bound to"):
        await reconcile(sealing)
    assert await request_due(sealing) == 0

    await api.patch("/v1/accounts/eu", json={"api_key": key})
    await work_off(sealing)
    assert len(await fetch(sealing, "select 1 from runs where state = 'stored'")) == 1


async def test_the_encryption_key_is_replaced_without_a_moment_in_which_an_account_is_missing(
    sealing: Resources, database_url: str, simulator: Simulator, key: str
) -> None:
    # Given an account that a process with the old key uses
    async with client_of(sealing) as client:
        await client.post("/v1/accounts", json={"account": "eu", "api_key": key})

    # When a process with both comes, and seals with the new one
    both = make_settings(database_url, simulator, TALLYHOOK_KEY_ENCRYPTION_KEY=f"{NEW},{OLD}")
    async with open_resources(both) as next_, client_of(next_) as client:
        assert await found_by_health(client) == ("ok", "an older encryption key is still needed for 1 of 1 account")
        assert not await kept.seal_again(next_)
        assert await found_by_health(client) == (
            "ok",
            "1 account is sealed with the first encryption key, and none with another",
        )
        assert (await client.get("/health")).text.count("the other keys can go") == 1

    # Then the one with the old key still has it, and the new key alone is enough
    await kept.take_up(sealing)
    assert "eu" in sealing.stripe.accounts
    alone = make_settings(database_url, simulator, TALLYHOOK_KEY_ENCRYPTION_KEY=NEW)
    async with open_resources(alone) as last:
        assert "eu" in last.stripe.accounts

    # And without its key health says so, the others continue, and its keys can be given again
    lost = make_settings(database_url, simulator, TALLYHOOK_KEY_ENCRYPTION_KEY=OLD)
    async with open_resources(lost) as wrong, client_of(wrong) as client:
        assert wrong.stripe.accounts == {"default"}
        assert await found_by_health(client) == ("failing", "1 account cannot be opened")
        assert "does not hold" in (await client.get("/v1/accounts/eu")).json()["trouble"]
        assert (await client.patch("/v1/accounts/eu", json={"api_key": key})).status_code == 409
        assert (await client.delete("/v1/accounts/eu")).status_code == 204
        assert (await client.post("/v1/accounts", json={"account": "eu", "api_key": key})).status_code == 201


async def found_by_health(client: httpx.AsyncClient) -> tuple[str, str]:
    checks = (await client.get("/health")).json()["checks"]
    (found,) = [one for one in checks if one["name"] == "account_keys"]
    return found["status"], found["detail"].partition(";")[0].partition(": ")[0]


async def test_advice_about_its_keys_leads_to_the_api_and_not_to_the_settings(
    sealing: Resources, api: httpx.AsyncClient, key: str
) -> None:
    await api.post("/v1/accounts", json={"account": "eu", "api_key": key, "webhook_secrets": [SECRET]})
    for path in ("/webhooks/stripe/eu", "/webhooks/stripe"):
        assert (await api.post(path, **delivery(secret="whsec_another"))).status_code == 400
    await sealing.intake.refused.keep(sealing.engine)

    checks = {one["name"]: one["advice"] for one in (await api.get("/health")).json()["checks"]}
    assert "to STRIPE_WEBHOOK_SECRET, beside" in checks["deliveries_refused"]
    assert "to `webhook_secrets` with PATCH /v1/accounts/eu, beside" in checks["deliveries_refused"]
    places = sealing.settings.accounts
    assert places.only(["eu"]).place_of("eu", "api_key") == "`api_key` with PATCH /v1/accounts/eu"
    assert places.place_of("us", "api_key") == "`api_key` of `us` in STRIPE_ACCOUNTS"


async def test_a_row_that_was_put_under_another_name_is_not_believed(
    sealing: Resources, api: httpx.AsyncClient, key: str
) -> None:
    await api.post("/v1/accounts", json={"account": "eu", "api_key": key})
    await execute(sealing, "insert into accounts (slug) values ('us')")
    with capture_logs() as lines:
        await execute(
            sealing, "insert into account_keys (account, sealed, sealed_with)"
            " select 'us', sealed, sealed_with from account_keys",
        )  # fmt: skip
        await asyncio.gather(kept.take_up(sealing))

    assert "us" not in sealing.settings.accounts
    (line,) = [line for line in lines if line["event"] == "account.cannot_be_used"]
    assert (line["account"], line["error"]) == ("us", "its row was changed, or written by a newer version")
