"""`report_type` may end in `.latest`: the rule keeps that text, each run the version that was right for its window."""

from typing import Any

import httpx

from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.service import at, execute, fetch, turn, unpublished, work_off

FAMILY = "balance_change_from_activity.itemized"
LATEST, SIXTH, SEVENTH = f"{FAMILY}.latest", f"{FAMILY}.6", f"{FAMILY}.7"
NEW = {"name": "daily", "report_type": LATEST, "cadence": "daily", "starts_on": "2026-02-26"}


async def make(api: httpx.AsyncClient, **changed: Any) -> dict[str, Any]:
    answer = await api.post("/v1/rules", json={**NEW, **changed})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def types_by_day(res: Resources) -> dict[str, str]:
    rows = await fetch(res, "select window_key, report_type, revision from runs order by window_key, revision")
    return {f"{row['window_key']}/{row['revision']}": row["report_type"].rpartition(".")[2] for row in rows}


def only_sixth(simulator: Simulator, *, until: str) -> None:
    """No other version of the family has data yet."""
    for kind in simulator.world.account(None).report_types.values():
        if kind.id.startswith(FAMILY):
            kind.data_available_start = kind.data_available_end = int(at("2026-01-01").timestamp())
    unpublished(simulator, SIXTH, until=until)


async def test_a_new_version_starts_with_the_first_window_of_a_month_without_stored_ones(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    # given a rule whose family has only one version with data
    only_sixth(simulator, until="2026-02-28")
    await reconcile(res)
    rule = await make(api)
    await work_off(res)
    assert rule["report_type"] == LATEST
    assert rule["warnings"] == []

    # when a newer one comes, and both continue into the next month
    unpublished(simulator, SIXTH, until="2026-03-03")
    unpublished(simulator, SEVENTH, until="2026-03-03")
    await work_off(res)

    # then February has one version, and March begins with the new one
    assert await types_by_day(res) == {
        "2026-02-26/1": "6", "2026-02-27/1": "6", "2026-02-28/1": "6", "2026-03-01/1": "7", "2026-03-02/1": "7",
    }  # fmt: skip
    assert (await api.get(f"/v1/rules/{rule['id']}")).json()["report_type"] == LATEST

    # and a window that is made again keeps the version that it was made in; one of a month without any takes the newest
    asked = {"from": "2026-01-31", "through": "2026-02-26", "rerun": True}
    await api.post(f"/v1/rules/{rule['id']}/backfill", json=asked)
    await work_off(res)
    made = await types_by_day(res)
    assert (made["2026-01-31/1"], made["2026-02-01/1"], made["2026-02-26/2"]) == ("7", "6", "6")


async def test_an_advance_of_any_version_of_the_family_plans_the_rule(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    only_sixth(simulator, until="2026-02-27")
    unpublished(simulator, SEVENTH, until="2026-02-27")
    await reconcile(res)
    await make(api)
    await work_off(res)
    assert await types_by_day(res) == {"2026-02-26/1": "7"}, "the highest that has data wins"

    unpublished(simulator, SIXTH, until="2026-02-28")
    await reconcile(res)
    while await turn(res):
        pass

    (waiting,) = await fetch(res, "select state, report_type from runs where window_key = '2026-02-27'")
    assert dict(waiting) == {"state": "planned", "report_type": SEVENTH}, "it waits for its own version's data"


async def test_a_change_of_version_is_a_line_in_health_and_in_the_audit(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    only_sixth(simulator, until="2026-02-28")
    await reconcile(res)
    await make(api)
    assert await audited(api) == []

    unpublished(simulator, SEVENTH, until="2026-02-28")
    await reconcile(res)
    await reconcile(res)

    (entry,) = await audited(api)
    assert (entry["actor"], entry["subject"]) == ("tallyhook", LATEST)
    assert entry["before"] == {"report_type": SIXTH}
    assert entry["after"] == {"account": "default", "report_type": SEVENTH}
    checks = {check["name"]: check for check in (await api.get("/health")).json()["checks"]}
    assert checks["report_types"]["status"] == "ok"
    assert f"{LATEST} of default has been {SEVENTH} since " in checks["report_types"]["detail"]
    assert checks["report_types"]["detail"].endswith(f", {SIXTH} before")


async def audited(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/v1/audit?action=report_type.resolved")).json()["data"]
    return found


async def test_filters_match_the_name_in_the_rule_and_the_version_of_the_run(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    only_sixth(simulator, until="2026-01-01")
    unpublished(simulator, SEVENTH, until="2026-02-28")
    await reconcile(res)
    await make(api)
    await make(api, name="fixed", report_type=SEVENTH)

    async def found(report_type: str) -> int:
        return len((await api.get("/v1/runs", params={"report_type": report_type, "limit": 100})).json()["data"])

    latest, seventh = await found(LATEST), await found(SEVENTH)
    assert latest > 0
    assert seventh == 2 * latest
    listed = {one["id"] for one in (await api.get("/v1/report-types?limit=100")).json()["data"]}
    assert SEVENTH in listed
    assert LATEST not in listed


async def test_an_ad_hoc_run_is_resolved_when_it_is_made_and_the_same_request_stays_the_same(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    only_sixth(simulator, until="2026-03-01")
    window = {"interval_start": "2026-02-01T00:00:00Z", "interval_end": "2026-02-02T00:00:00Z"}
    asked, key = {"report_type": LATEST, **window}, {"Idempotency-Key": "one"}
    too_early = await api.post("/v1/runs", json=asked)
    await reconcile(res)
    first = await api.post("/v1/runs", json=asked, headers=key)

    unpublished(simulator, SEVENTH, until="2026-03-01")
    await reconcile(res)
    again = await api.post("/v1/runs", json=asked, headers=key)
    later = await api.post("/v1/runs", json=asked)

    assert too_early.json()["errors"] == [
        {
            "pointer": "/report_type",
            "detail": "no version of it has data for 'default' yet: name one, or see GET /v1/report-types",
        }
    ]
    assert (first.json()["report_type"], later.json()["report_type"]) == (SIXTH, SEVENTH)
    assert again.json()["id"] == first.json()["id"]


async def test_a_preview_of_a_rule_that_is_not_saved_knows_its_windows(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    only_sixth(simulator, until="2026-02-28")
    await reconcile(res)

    shown = (await api.post("/v1/rules/preview", json=NEW)).json()

    assert shown["now_total"] == 2


async def test_a_process_that_would_ask_stripe_for_the_text_itself_keeps_the_rule_out(
    res: Resources, api: httpx.AsyncClient
) -> None:
    """The previous version would plan runs of a type that does not exist (decision 0006)."""
    await execute(res, "insert into workers (id, host, pid) values (gen_random_uuid(), 'of-330d95e', 7)")

    refused = await api.post("/v1/rules", json=NEW)

    assert refused.status_code == 409
    assert "cannot read this rule" in refused.json()["detail"]
