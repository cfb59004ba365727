"""Who changed what, and when: one entry per write, in the write's transaction, without secrets, forever."""

import json
import re
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit, handlers
from app.main import build_app
from app.observability import logs
from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.api.deliveries import event
from tests.runs.stories import days_due, deliver_value, one_due_run
from tests.service import REPORT_TYPE, add_rule, execute, fetch, only_run, work_off

RULE = {"name": "mine", "report_type": REPORT_TYPE, "cadence": "daily", "starts_on": "2026-03-01"}
AD_HOC = {
    "report_type": REPORT_TYPE,
    "interval_start": "2026-02-27T00:00:00Z",
    "interval_end": "2026-02-28T00:00:00Z",
}


async def entries(api: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    """All entries that match, oldest first."""
    answer = await api.get(f"/v1/audit{query}")
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["data"]))


async def test_the_life_of_a_rule_is_recorded_with_what_differs(res: Resources, api: httpx.AsyncClient) -> None:
    rule = (await api.post("/v1/rules", json=RULE)).json()
    await api.patch(f"/v1/rules/{rule['id']}", json={"settle_hours": 6.0, "name": "mine"})
    await api.patch(f"/v1/rules/{rule['id']}", json={"settle_hours": 6.0})
    await api.delete(f"/v1/rules/{rule['id']}")

    made, changed, deleted = await entries(api)

    assert {one["actor"] for one in (made, changed, deleted)} == {"admin"}
    assert {one["subject"] for one in (made, changed, deleted)} == {rule["id"]}
    assert (made["action"], made["before"], made["after"]["starts_on"]) == ("rule.created", None, "2026-03-01")
    assert (changed["action"], changed["before"], changed["after"]) == (
        "rule.changed", {"settle_hours": 0.0}, {"settle_hours": 6.0},
    )  # fmt: skip
    assert (deleted["action"], deleted["before"]["name"], deleted["after"]) == ("rule.deleted", "mine", None)


async def test_what_is_done_to_runs_is_recorded(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    run = await only_run(res)

    await api.post(f"/v1/runs/{run['id']}/cancel")
    await api.post(f"/v1/runs/{run['id']}/retry")
    made = (await api.post("/v1/runs", json=AD_HOC, headers={"Idempotency-Key": "k"})).json()
    await api.post("/v1/runs", json=AD_HOC, headers={"Idempotency-Key": "k"})

    found = await entries(api)
    assert [(one["action"], one["subject"]) for one in found] == [
        ("run.cancelled", str(run["id"])), ("run.retried", str(run["id"])), ("run.created", made["id"]),
    ]  # fmt: skip
    assert found[-1]["after"]["interval_end"] == "2026-02-28T00:00:00Z"


async def test_a_retry_of_many_names_every_run(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await days_due(res, simulator, 3)
    await execute(res, "update runs set state = 'failed' where window_key > '2026-03-01'")

    await api.post(f"/v1/runs/retry?report_type={REPORT_TYPE}")
    await api.post(f"/v1/runs/retry?report_type={REPORT_TYPE}")

    (entry,) = await entries(api)
    failed = await fetch(res, "select id from runs where window_key > '2026-03-01' order by id")
    assert entry["action"] == "runs.retried"
    assert entry["after"]["run_ids"] == [str(run["id"]) for run in failed]
    assert entry["after"]["filters"] == {"state": "failed", "report_type": REPORT_TYPE}


async def test_backfill_refresh_and_replay_are_recorded(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    rule = await add_rule(res)
    await deliver_value(res, event("evt_1"))
    await handlers.drain(res)

    await api.post(f"/v1/rules/{rule.id}/backfill", json={"from": "2026-02-01", "to": "2026-02-03"})
    await api.post("/v1/report-types/refresh")
    await api.post("/v1/events/evt_1/replay")

    backfilled, refreshed, replayed = await entries(api)
    assert (backfilled["action"], backfilled["subject"]) == ("rule.backfilled", str(rule.id))
    assert backfilled["after"] == {
        "from": "2026-02-01", "to": "2026-02-03", "rerun": False, "made": {"planned": 2, "retried": 0, "rerun": 0},
    }  # fmt: skip
    assert (refreshed["action"], refreshed["subject"]) == ("report_types.refreshed", None)
    assert (replayed["action"], replayed["before"]["status"]) == ("event.replayed", "handled")


async def test_a_refused_change_leaves_no_entry(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    await work_off(res)
    run = await only_run(res)

    answers = [
        await api.post("/v1/rules", json={**RULE, "account": "other"}),
        await api.post("/v1/rules", json={**RULE, "name": (await api.get("/v1/rules")).json()["data"][0]["name"]}),
        await api.post(f"/v1/runs/{run['id']}/cancel"),
        await api.post(f"/v1/runs/{run['id']}/retry"),
        await api.patch(f"/v1/rules/{run['rule_id']}", json={"timezone": "Europe/Berlin"}),
        await api.delete(f"/v1/rules/{run['rule_id']}", headers={"If-Match": '"7"'}),
    ]

    assert [answer.status_code for answer in answers] == [422, 409, 409, 409, 409, 412]
    assert await entries(api) == []


async def test_an_entry_that_cannot_be_written_takes_the_change_with_it(res: Resources, api: httpx.AsyncClient) -> None:
    await execute(res, "alter table audit rename to elsewhere")

    answer = await api.post("/v1/rules", json=RULE)

    assert answer.status_code == 500
    assert await fetch(res, "select 1 from rules") == []


async def test_entries_are_narrowed_and_paged_newest_first(res: Resources, api: httpx.AsyncClient) -> None:
    rule = (await api.post("/v1/rules", json=RULE)).json()
    for hours in (1.0, 2.0, 3.0):
        await api.patch(f"/v1/rules/{rule['id']}", json={"settle_hours": hours})
    await api.post("/v1/report-types/refresh")

    first = (await api.get("/v1/audit?limit=2&action=rule.changed")).json()
    await api.patch(f"/v1/rules/{rule['id']}", json={"settle_hours": 4.0})
    second = (await api.get(f"/v1/audit?limit=2&action=rule.changed&cursor={first['next_cursor']}")).json()

    shown = [entry["after"]["settle_hours"] for entry in first["data"] + second["data"]]
    assert (shown, second["next_cursor"]) == ([3.0, 2.0, 1.0], None)
    assert len(await entries(api, f"?subject={rule['id']}")) == 5
    assert len(await entries(api, "?actor=admin")) == 6
    assert await entries(api, "?actor=nobody") == []


@pytest.mark.parametrize("query", ["cursor=x", "cursor=ZXZlbnRzCjE", "actor=%00", "limit=0", "colour=red"])
async def test_a_bad_filter_is_refused(api: httpx.AsyncClient, query: str) -> None:
    assert (await api.get(f"/v1/audit?{query}")).status_code == 422


async def test_no_route_changes_an_entry(res: Resources) -> None:
    paths = build_app(res).openapi()["paths"]

    assert {path: list(methods) for path, methods in paths.items() if "audit" in path} == {"/v1/audit": ["get"]}


async def test_every_write_of_the_api_is_known_to_this_test(res: Resources) -> None:
    """A new route that writes must be audited, and listed here."""
    paths = build_app(res).openapi()["paths"]
    writes = {
        f"{method} {path}" for path, methods in paths.items() for method in methods
        if method != "get" and not path.startswith("/webhooks/")
    }  # fmt: skip

    assert writes == {
        "post /v1/rules", "patch /v1/rules/{rule_id}", "delete /v1/rules/{rule_id}",
        "post /v1/rules/{rule_id}/backfill", "post /v1/rules/preview",  # the last one changes nothing
        "post /v1/rules/apply",  # tests/api/test_rules_as_code.py
        "post /v1/runs", "post /v1/runs/retry", "post /v1/runs/{run_id}/retry", "post /v1/runs/{run_id}/cancel",
        "post /v1/report-types/refresh", "post /v1/events/{event_id}/replay",
        # tests/api/test_kept_accounts.py
        "post /v1/accounts", "patch /v1/accounts/{account}", "delete /v1/accounts/{account}",
        # tests/targets/test_api.py
        "post /v1/targets", "patch /v1/targets/{target_id}", "delete /v1/targets/{target_id}",
        "post /v1/targets/{target_id}/test", "post /v1/targets/{target_id}/rotate",
        "post /v1/targets/{target_id}/secret", "post /v1/targets/{target_id}/recover",
        "post /v1/deliveries/{message_id}/{target_id}/retry",
        # tests/upkeep/test_remove_manually.py, tests/web
        "post /v1/runs/{run_id}/file/remove", "post /v1/login-links",
        # tests/tables/test_api.py
        "post /v1/loads", "post /v1/runs/{run_id}/load", "post /v1/tables/{table}/columns/{column}",
        "post /v1/checks/{check_id}/note",
    }  # fmt: skip


@pytest.mark.parametrize("change", ["update audit set actor = 'nobody'", "delete from audit", "truncate audit"])
async def test_an_entry_is_neither_changed_nor_removed_at_the_database_either(
    res: Resources, api: httpx.AsyncClient, change: str
) -> None:
    await api.post("/v1/rules", json=RULE)

    with pytest.raises(DBAPIError, match="neither changed nor removed"):
        await execute(res, change)

    assert [entry["actor"] for entry in await entries(api)] == ["admin"]


async def noted(session: AsyncSession, secret: str) -> None:
    after = {"parameters": {"columns": [f"Bearer {secret}"], secret: 1}}
    await audit.note(session, actor="admin", action="rule.created", after=after)


@pytest.mark.parametrize("secret", ["sk_live_4242424242424242", "whsec_canary_in_a_rule", "plain-canary-value"])
async def test_a_secret_in_what_was_changed_is_not_kept(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setattr(logs._KnownSecrets, "pattern", re.compile("plain-canary-value"))
    async with res.sessions.begin() as session:
        await noted(session, secret)

    (entry,) = await entries(api)
    (row,) = await fetch(res, "select after from audit")
    assert secret not in json.dumps(entry) + json.dumps(row["after"])
    assert entry["after"]["parameters"]["[redacted]"] == 1
