"""Health says when numbers differ and when files cannot be loaded, unless somebody wrote a note."""

import re
from typing import Any

import httpx
import pytest

from app.resources import Resources
from app.tables.loads import MOST_CRASHES
from tests.service import execute
from tests.tables.stored import HEADER, day, line, load_all, load_of, rows, rule, store, stored_and_loaded
from tests.web.visiting import log_in, plain, visitor

TABLE = "balance_change_from_activity_itemized"


async def checks(api: httpx.AsyncClient) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["status"], one["detail"]) for one in (await api.get("/health")).json()["checks"]}


async def gauges(api: httpx.AsyncClient) -> str:
    return (await api.get("/metrics")).text


async def test_numbers_that_differ_degrade_until_they_are_noted(tables: Resources, api: httpx.AsyncClient) -> None:
    assert (await checks(api))["numbers"][0] == "ok"
    await stored_and_loaded(tables, rows("txn_1,,usd,10.00,1.00,9.50,charge"), rule_id=await rule(tables))

    assert (await checks(api))["numbers"] == ("degraded", "row_net of 2026-10-01 usd differs by 0.50")
    assert 'tallyhook_checks{name="row_net",verdict="differs"} 1.0' in await gauges(api)
    (found,) = (await api.get("/v1/checks", params={"verdict": "differs"})).json()["data"]
    await api.post(f"/v1/checks/{found['id']}/note", json={"note": "known"})
    assert (await checks(api))["numbers"][0] == "ok"
    assert 'verdict="differs"' not in await gauges(api)


async def test_a_file_that_cannot_be_loaded_degrades_and_says_what_is_shown(
    tables: Resources, api: httpx.AsyncClient
) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    monthly = await rule(tables, "monthly", cadence="monthly", connected_accounts=["acct_1"])
    october: dict[str, Any] = {"rule_id": monthly, "start": day(1), "end": day(32), "connected_account": "acct_1"}
    await stored_and_loaded(tables, rows(line(1)), **october)
    for revision in (2, 3):
        await store(tables, rows("broken"), revision=revision, **october)
    await store(tables, rows("broken"), rule_id=rule_id, revision=2)
    await load_all(tables)

    status, detail = (await checks(api))["loads"]
    assert status == "degraded"
    assert detail == (
        "3 files cannot be loaded; the tables show older revisions:"
        " monthly acct_1 2026-10-01 to 2026-10-31 shows revision 1 of 3, daily 2026-10-01 shows revision 1 of 2"
    )
    assert 'tallyhook_loads{state="failed"} 3.0' in await gauges(api)


@pytest.mark.parametrize("damage", ["delete from file_chunks", "update file_chunks set data = 'no frame'"])
async def test_a_file_that_is_damaged_or_lacks_a_part_cannot_be_loaded(
    tables: Resources, api: httpx.AsyncClient, damage: str
) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    run_id = await store(tables, rows(line(2)), rule_id=rule_id, revision=2)
    await execute(tables, f"{damage} where file_id = (select file_id from loads where run_id = :id)", id=run_id)

    for _ in range(MOST_CRASHES):
        await load_all(tables)
        await execute(tables, "update loads set due_at = now()")

    load = await load_of(tables, run_id)
    assert (load["state"], load["error"]["message"].partition(": ")[2]) == ("failed", "restore it from a backup")
    shown = "1 file cannot be loaded; the tables show older revisions: daily 2026-10-01 shows revision 1 of 2"
    assert (await checks(api))["loads"] == ("degraded", shown)
    answer = await api.get(f"/v1/runs/{run_id}/file?format=parquet")
    assert (answer.status_code, answer.json()["detail"]) == (500, load["error"]["message"])


async def test_unknown_columns_and_older_files_are_reported(tables: Resources, api: httpx.AsyncClient) -> None:
    rule_id = await rule(tables)
    await store(tables, rows(line(1)), rule_id=rule_id, owed=False)
    for stored in ("files", "runs"):
        await execute(tables, f"update {stored} set stored_at = now() - interval '1 day'")
    assert "not loaded: 1 file from before the tables existed" in (await checks(api))["loads"][1]
    for state, waits in (("off", False), ("auto", True)):
        await api.patch("/v1/rules/daily", json={"table": {"state": state}})
        assert ("from before the tables existed" in (await checks(api))["loads"][1]) == waits

    await stored_and_loaded(tables, rows(line(2) + ",43", header=HEADER + ",shoe_size"), rule_id=rule_id, start=day(2))

    status, detail = (await checks(api))["loads"]
    assert status == "degraded"
    assert detail.endswith("set aside: balance_change_from_activity_itemized.shoe_size")


async def test_columns_that_come_and_go_are_shown_without_targets_and_in_health_for_a_while(
    tables: Resources, api: httpx.AsyncClient
) -> None:
    rule_id, more = await rule(tables), HEADER + ",charge_id"
    for number, content in enumerate([rows(line(1)), rows(line(2) + ",x", header=more), rows(line(3))], 1):
        await stored_and_loaded(tables, content, rule_id=rule_id, start=day(number))
    await execute(tables, "update loads set checks_due = true")
    await load_all(tables)

    async def changes() -> list[tuple[Any, ...]]:
        found = (await api.get(f"/v1/tables/{TABLE}")).json()["changes"]
        return [(one["rule"], one["window"]["first"], one["added"], one["removed"]) for one in found]

    gone, new = "daily: removed column charge_id since 2026-10-03", "daily: new column charge_id since 2026-10-02"
    assert (await checks(api))["loads"] == ("ok", f"every stored file is loaded; columns changed: {gone}, {new}")
    assert await changes() == [("daily", "2026-10-03", [], ["charge_id"]), ("daily", "2026-10-02", ["charge_id"], [])]
    async with visitor(tables) as browser:
        await log_in(browser)
        page = plain((await browser.get(f"/tables/{TABLE}")).text)
    assert re.search("3 Oct 2026</a></td><td[^>]*>–</td><td[^>]*>charge_id</td>", page)

    # A new revision without the column: nothing changed there, and so the next file lacks nothing either.
    await stored_and_loaded(tables, rows(line(2)), rule_id=rule_id, start=day(2), revision=2)
    await execute(tables, "update loads set checks_due = true")
    await load_all(tables)
    assert await changes() == []

    await stored_and_loaded(tables, rows(line(4) + ",x", header=more), rule_id=rule_id, start=day(4))
    assert (await checks(api))["loads"][1].endswith("new column charge_id since 2026-10-04")
    await execute(tables, "update runs set stored_at = stored_at - interval '31 days'")
    assert (await checks(api))["loads"] == ("ok", "every stored file is loaded")
    assert len(await changes()) == 1
