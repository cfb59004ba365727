"""A wrong rule can be repaired, and warns about what may be wrong with it."""

from datetime import date
from typing import Any

import httpx
import pytest

from app.report_types import nearest
from app.resources import Resources
from app.rules import rule
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.vocabulary import Cadence
from tests.service import REPORT_TYPE, add_rule, execute, fetch, only_run, request_due, work_off

NEW = {"name": "new", "report_type": REPORT_TYPE, "cadence": "daily", "starts_on": "2026-02-28"}


async def warned(api: httpx.AsyncClient, **changes: Any) -> dict[str, str]:
    answer = await api.post("/v1/rules", json={**NEW, **changes})
    assert answer.status_code == 201, answer.text
    return {warning["pointer"]: warning["detail"] for warning in answer.json()["warnings"]}


@pytest.mark.parametrize("by", ["retry", "retry_all", "backfill"])
async def test_a_run_that_failed_for_a_wrong_parameter_is_made_with_the_corrected_one(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator, by: str
) -> None:
    await reconcile(res)
    saved = await add_rule(res, starts_on=date(2026, 2, 28), parameters={"columns": ["no_such_column"]})
    await request_due(res)
    run = await only_run(res)
    assert run["state"] == "failed"

    changed = await api.patch(f"/v1/rules/{saved.id}", json={"parameters": {"columns": ["net"]}})
    calls = {
        "retry": (f"/v1/runs/{run['id']}/retry", None),
        "retry_all": ("/v1/runs/retry", None),
        "backfill": (f"/v1/rules/{saved.id}/backfill", {"from": "2026-02-28", "to": "2026-03-01"}),
    }
    answer = await api.post(calls[by][0], json=calls[by][1])
    await work_off(res)

    assert answer.status_code == 202, answer.text
    stored = await only_run(res)
    assert (stored["state"], stored["attempt"], stored["parameters"]["columns"]) == ("stored", 2, ["net"])
    assert {name: stored["parameters"][name] for name in ("interval_start", "interval_end")} == {
        name: run["parameters"][name] for name in ("interval_start", "interval_end")
    }
    moves = [move["reason"] for move in await fetch(res, "select reason from run_moves order by id")]
    assert "retried by admin, with the rule's current parameters" in moves
    details = [warning["detail"] for warning in changed.json()["warnings"] if warning["pointer"] == "/parameters"]
    assert details == ["1 failed or cancelled run gets the new parameters when retried or backfilled"]


async def test_a_stored_window_keeps_its_parameters_until_a_rerun_makes_a_new_revision(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    saved = await add_rule(res, starts_on=date(2026, 2, 28), parameters={"currency": "usd"})
    await work_off(res)

    changed = await api.patch(f"/v1/rules/{saved.id}", json={"parameters": {"currency": "eur"}})
    await api.post(f"/v1/rules/{saved.id}/backfill", json={"from": "2026-02-28", "to": "2026-03-01", "rerun": True})

    assert [warning["detail"].split(";")[0] for warning in changed.json()["warnings"]] == [
        "1 stored window keeps its old parameters"
    ]
    found = await fetch(res, "select revision, parameters ->> 'currency' as currency from runs order by revision")
    assert [(*one.values(),) for one in found] == [(1, "usd"), (2, "eur")]


async def test_a_retry_of_an_ad_hoc_run_changes_nothing_of_it(res: Resources, api: httpx.AsyncClient) -> None:
    interval = {"interval_start": "2026-02-01T00:00:00Z", "interval_end": "2026-02-02T00:00:00Z"}
    made = await api.post("/v1/runs", json={"report_type": REPORT_TYPE, **interval, "parameters": {"currency": "usd"}})
    await execute(res, "update runs set state = 'failed'")

    again = await api.post(f"/v1/runs/{made.json()['id']}/retry")

    assert again.json()["parameters"] == made.json()["parameters"]
    assert again.json()["history"][-1]["reason"] == "retried by admin"


async def test_a_mistyped_report_type_is_answered_with_the_one_that_was_probably_meant(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)

    found = await warned(api, report_type="balance_change_from_activty.itemized.7")

    assert found["/report_type"].endswith(f"did you mean {REPORT_TYPE}?")


def test_nothing_is_suggested_for_what_resembles_no_known_type() -> None:
    known = ["balance.summary.1", "balance.summary.2", "payouts.itemized.3"]

    assert nearest("balance.sumary.1", known) == "balance.summary.1"
    assert nearest("something.else.9", known) is None


@pytest.mark.parametrize("zone", ["localtime", "Factory", "posixrules", "posix/Europe/Berlin", "right/UTC"])
async def test_a_zone_that_only_one_machine_knows_is_refused(api: httpx.AsyncClient, zone: str) -> None:
    answer = await api.post("/v1/rules", json={**NEW, "timezone": zone})

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/timezone"]


@pytest.mark.parametrize("zone", ["UTC", "Etc/GMT+5", "Europe/Berlin", "America/Argentina/Ushuaia", "US/Pacific"])
async def test_a_zone_of_the_database_of_time_zones_is_taken(api: httpx.AsyncClient, zone: str) -> None:
    assert (await api.post("/v1/rules", json={**NEW, "timezone": zone})).status_code == 201


async def test_parameters_that_stripe_will_probably_refuse_are_warnings(api: httpx.AsyncClient) -> None:
    found = await warned(api, parameters={"currency": "USD", "timezone": "localtime"})

    assert "write 'usd'" in found["/parameters/currency"]
    assert "'localtime' is not an IANA time zone" in found["/parameters/timezone"]


async def test_a_word_that_an_older_living_process_cannot_read_is_refused_and_the_process_named(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule, "NEW_WORDS", {"cadence": {Cadence.WEEKLY: 2}})
    made = (await api.post("/v1/rules", json=NEW)).json()
    await execute(res, "insert into workers (id, host, pid, words) values (gen_random_uuid(), 'old-host', 77, 1)")

    refused = [
        await api.post("/v1/rules", json={**NEW, "name": "weekly", "cadence": "weekly"}),
        await api.patch(f"/v1/rules/{made['id']}", json={"cadence": "weekly"}),
    ]
    daily = await api.patch(f"/v1/rules/{made['id']}", json={"settle_hours": 1})
    await execute(res, "update workers set seen_at = now() - interval '2 minutes'")
    weekly = await api.patch(f"/v1/rules/{made['id']}", json={"cadence": "weekly"})

    assert [answer.status_code for answer in (*refused, daily, weekly)] == [409, 409, 200, 200]
    assert all("process 77 on old-host" in answer.json()["detail"] for answer in refused)


async def test_a_rule_is_reached_by_its_name(api: httpx.AsyncClient) -> None:
    made = (await api.post("/v1/rules", json={**NEW, "name": "täglich, UTC"})).json()

    shown = await api.get("/v1/rules/täglich, UTC")
    changed = await api.patch("/v1/rules/täglich, UTC", json={"settle_hours": 2})
    coverage = await api.get("/v1/rules/täglich, UTC/coverage")
    previewed = await api.post("/v1/rules/preview", json={"rule": "täglich, UTC"})
    gone = await api.delete("/v1/rules/täglich, UTC")

    assert [shown.json()["id"], changed.json()["id"]] == [made["id"], made["id"]]
    assert [coverage.status_code, previewed.status_code, gone.status_code] == [200, 200, 204]
    for name in ("täglich, UTC", "%00", "x" * 300, "%ED%A0%80"):
        assert (await api.get(f"/v1/rules/{name}")).status_code == 404, name
