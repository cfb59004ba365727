"""What people do to runs over HTTP: create, retry, cancel."""

import asyncio
import json
from datetime import date
from hashlib import sha256
from typing import Any

import httpx
import pytest

from app.resources import Resources, open_resources
from app.runs.request import request_run
from app.runs.request_claim import claim_requests
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.service import REPORT_TYPE, add_rule, execute, fetch, make_settings, only_run, request_due, work_off

DAY = {
    "report_type": REPORT_TYPE,
    "interval_start": "2026-02-27T00:00:00Z",
    "interval_end": "2026-02-28T00:00:00+00:00",
}


async def asked(api: httpx.AsyncClient, *, key: str | None = None, **changes: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {name: value for name, value in {**DAY, **changes}.items() if value != ...}
    return await api.post("/v1/runs", json=body, headers=headers)


async def test_an_ad_hoc_run_is_made_like_any_other(res: Resources, api: httpx.AsyncClient) -> None:
    made = await asked(api, parameters={"columns": ["net"]}, connected_account=None)
    await work_off(res)
    shown = (await api.get(made.headers["location"])).json()

    assert (made.status_code, made.json()["state"], made.json()["rule_id"]) == (201, "planned", None)
    assert shown["state"] == "stored"
    assert shown["parameters"] == {"columns": ["net"], "interval_start": 1772150400, "interval_end": 1772236800}
    assert (shown["interval_start"], shown["interval_end"]) == ("2026-02-27T00:00:00Z", "2026-02-28T00:00:00Z")
    assert shown["history"][0]["reason"] == "requested by admin"


async def test_a_run_beyond_the_data_waits_for_it(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await reconcile(res)

    made = await asked(api, interval_start="2026-03-01T00:00:00Z", interval_end="2026-03-02T00:00:00Z")

    assert made.json()["waiting"] == {"reason": "availability", "until": "2026-03-02T00:00:00Z"}
    assert await request_due(res) == 0
    assert await fetch(res, "select 1 from reconciliations where due_at <= now()") == []


async def test_a_type_that_was_never_announced_is_requested(res: Resources, api: httpx.AsyncClient) -> None:
    await asked(api)

    assert await fetch(res, "select 1 from reconciliations where due_at <= now()") != []


BAD: list[tuple[dict[str, Any], str]] = [
    ({"account": "other"}, "/account"),
    ({"report_type": "x"}, "/report_type"),
    ({"interval_start": ...}, "/interval_start"),
    ({"interval_end": ...}, "/interval_end"),
    ({"interval_end": "2026-02-27T00:00:00Z"}, "/interval_end"),
    ({"interval_start": "2026-02-27T00:00:00"}, "/interval_start"),
    ({"interval_start": "2026-02-27T00:00:00.5Z"}, "/interval_start"),
    ({"interval_start": "2026-02-27"}, "/interval_start"),
    ({"interval_start": 1772150400}, "/interval_start"),
    ({"interval_end": "9999-12-31T23:59:59-12:00"}, "/interval_end"),
    ({"interval_start": "1969-12-31T00:00:00Z"}, "/interval_start"),
    ({"parameters": {"interval_start": 1}}, "/parameters/interval_start"),
    ({"parameters": {"connected_account": "acct_1"}}, "/parameters/connected_account"),
    ({"connected_account": "x"}, "/connected_account"),
    ({"report_type": "payout_reconciliation.by_id.itemized.4", "interval_start": ..., "interval_end": ...},
     "/parameters/payout"),
    ({"report_type": "payout_reconciliation.by_id.itemized.4", "interval_start": ..., "parameters": {"payout": "po_1"}},
     "/interval_end"),
    ({"report_type": "ending_balance_reconciliation.itemized.4", "interval_end": ...}, "/interval_end"),
]  # fmt: skip


async def test_a_run_that_cannot_work_is_refused_with_a_pointer(res: Resources, api: httpx.AsyncClient) -> None:
    for changes, pointer in BAD:
        answer = await asked(api, **changes)
        assert answer.status_code == 422, (changes, answer.text)
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer], changes

    assert await fetch(res, "select 1 from runs") == []


async def test_each_type_is_sent_the_parameters_that_it_takes(res: Resources, api: httpx.AsyncClient) -> None:
    by_payout = await asked(
        api,
        report_type="payout_reconciliation.by_id.itemized.4",
        interval_start=...,
        interval_end=...,
        parameters={"payout": "po_1"},
    )
    end_only = await asked(api, report_type="ending_balance_reconciliation.itemized.4", interval_start=...)

    assert by_payout.json()["parameters"] == {"payout": "po_1"}
    assert end_only.json()["parameters"] == {"interval_end": 1772236800}


async def test_a_repeated_request_with_one_key_makes_one_run(res: Resources, api: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(asked(api, key="k-1") for _ in range(8)))
    other = await asked(api, key="k-2")
    without = [await asked(api) for _ in range(2)]

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.headers.get("idempotent-replayed", "") for answer in answers) == [""] + ["true"] * 7
    assert len({answer.json()["id"] for answer in (answers[0], other, *without)}) == 4
    assert len(await fetch(res, "select 1 from runs")) == 4


async def test_the_keys_of_two_tokens_are_never_the_same(database_url: str, simulator: Simulator) -> None:
    named = {"ci": "a/b", "ci/a": "b", "ci%2Fa": "b"}
    tokens = {name: f"{name}-token-for-tests-of-40-characters-here!" for name in named}
    known = {name: {"sha256": sha256(token.encode()).hexdigest(), "role": "admin"} for name, token in tokens.items()}
    settings = make_settings(database_url, simulator, TALLYHOOK_TOKENS=json.dumps(known))
    async with open_resources(settings) as res:
        made = []
        for name, key in named.items():
            async with client_of(res, tokens[name]) as api:
                made += [await asked(api, key=key), await asked(api, key=key)]

    assert [answer.headers.get("idempotent-replayed", "") for answer in made] == ["", "true"] * 3
    assert len({answer.json()["id"] for answer in made}) == 3


async def test_a_key_that_was_used_for_something_else_is_a_conflict(api: httpx.AsyncClient) -> None:
    await asked(api, key="k-1")

    answers = [
        await asked(api, key="k-1", **change)
        for change in (
            {"parameters": {"currency": "usd"}}, {"connected_account": "acct_1"},
            {"interval_start": "2026-02-26T00:00:00Z"}, {"report_type": "a.b"},
        )
    ]  # fmt: skip

    assert [answer.status_code for answer in answers] == [409] * 4


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ä"])
async def test_an_odd_key_is_refused(api: httpx.AsyncClient, key: str) -> None:
    answer = await api.post("/v1/runs", json=DAY, headers=[(b"Idempotency-Key", key.encode("latin-1"))])

    assert answer.status_code == 422


async def failed_run(res: Resources) -> Any:
    await reconcile(res)
    await add_rule(res, starts_on=date(2026, 2, 28), parameters={"columns": ["no_such_column"]})
    await work_off(res)
    return await only_run(res)


async def test_a_failed_run_is_tried_again_with_all_its_attempts(res: Resources, api: httpx.AsyncClient) -> None:
    run = await failed_run(res)
    assert run["state"] == "failed"

    answer = await api.post(f"/v1/runs/{run['id']}/retry")

    assert (answer.status_code, answer.json()["state"], answer.json()["attempt"]) == (202, "planned", 2)
    assert answer.json()["error"] is None
    assert answer.json()["history"][-1]["reason"] == "retried by admin"
    assert (await only_run(res))["attempts_granted"] == 1 + res.settings.max_run_attempts
    await execute(res, "update runs set parameters = parameters - 'columns'")
    await work_off(res)
    assert (await only_run(res))["state"] == "stored"


async def test_only_what_failed_or_was_cancelled_can_be_retried(res: Resources, api: httpx.AsyncClient) -> None:
    await asked(api)
    url = f"/v1/runs/{(await only_run(res))['id']}"

    statuses = {}
    for state in ("planned", "requested", "ready", "stored", "failed", "cancelled"):
        await execute(res, "update runs set state = :state", state=state)
        statuses[state] = (await api.post(f"{url}/retry")).status_code

    assert statuses == {
        "planned": 409, "requested": 409, "ready": 409, "stored": 409, "failed": 202, "cancelled": 202,
    }  # fmt: skip


async def test_only_what_is_not_stored_can_be_cancelled(res: Resources, api: httpx.AsyncClient) -> None:
    await asked(api)
    url = f"/v1/runs/{(await only_run(res))['id']}"

    statuses = {}
    for state in ("planned", "requested", "ready", "stored", "failed", "cancelled"):
        await execute(res, "update runs set state = :state", state=state)
        statuses[state] = (await api.post(f"{url}/cancel")).status_code

    assert statuses == {
        "planned": 200, "requested": 200, "ready": 200, "stored": 409, "failed": 200, "cancelled": 409,
    }  # fmt: skip


async def test_retrying_and_cancelling_a_missing_run_is_404(api: httpx.AsyncClient) -> None:
    for action in ("retry", "cancel"):
        answer = await api.post(f"/v1/runs/01a1fc8f-3f8a-7128-9132-0f4c9613f5cb/{action}")
        assert answer.status_code == 404


async def test_cancelling_wins_over_a_create_in_flight(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    run_id = (await asked(api)).json()["id"]
    (claim,) = await claim_requests(res, 1)

    await api.post(f"/v1/runs/{run_id}/cancel")
    await request_run(res, claim)
    await work_off(res)

    run = (await api.get(f"/v1/runs/{run_id}")).json()
    assert (run["state"], run["file"]) == ("cancelled", None)
    assert run["stripe_run_id"].startswith("frr_")
    (attempt,) = await fetch(res, "select outcome, ended_at from attempts")
    assert attempt["outcome"] == "cancelled"


async def test_all_that_match_are_retried(res: Resources, api: httpx.AsyncClient) -> None:
    for number in range(6):
        await asked(api, account="default", connected_account=f"acct_{number % 2}")
    await execute(res, "update runs set state = 'failed'")
    await execute(
        res, "update runs set state = 'cancelled' where id in (select id from runs order by id limit 1)"
    )  # of acct_0

    by_query = await api.post("/v1/runs/retry?connected_account=acct_0")
    by_body = await api.post("/v1/runs/retry", json={"connected_account": "acct_1"})
    cancelled = await api.post("/v1/runs/retry?state=cancelled")
    nothing = await api.post("/v1/runs/retry")

    answers = (by_query, by_body, cancelled, nothing)
    assert [(answer.status_code, answer.json()["retried"]) for answer in answers] == [
        (202, 2),
        (202, 3),
        (202, 1),
        (202, 0),
    ]
    assert {run["state"] for run in await fetch(res, "select state from runs")} == {"planned"}


@pytest.mark.parametrize("query", ["?state=stored", "?state=planned", "?limit=1", "?bogus=1", "?rule_id=x"])
async def test_bad_filters_retry_nothing(api: httpx.AsyncClient, query: str) -> None:
    assert (await api.post(f"/v1/runs/retry{query}")).status_code == 422
