"""Tables, loads, files and checks in the admin API."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.api.http.paging import make_cursor
from app.resources import Resources
from app.tables import manual
from tests.api.conftest import client_of
from tests.service import ADMIN_TOKEN, READ_TOKEN, execute, fetch
from tests.tables.stored import ACTIVITY, HEADER, day, line, load_all, rows, rule, store, stored_and_loaded

TABLE = "balance_change_from_activity_itemized"


@pytest.fixture
async def client(tables: Resources) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(tables, ADMIN_TOKEN) as client:
        yield client


async def test_a_run_shows_the_state_of_its_rows(tables: Resources, client: httpx.AsyncClient) -> None:
    run_id = await store(tables, rows(line(1)), rule_id=await rule(tables))
    before = (await client.get(f"/v1/runs/{run_id}")).json()["load"]
    await load_all(tables)

    after = (await client.get(f"/v1/runs/{run_id}")).json()["load"]

    assert (before["state"], before["rows"]) == ("due", None)
    assert (after["state"], after["table"], after["rows"], after["error"]) == ("loaded", TABLE, 1, None)


async def test_a_failed_load_says_which_row_and_column(tables: Resources, client: httpx.AsyncClient) -> None:
    load = await stored_and_loaded(tables, rows("txn_1,today,usd,1,0,1,charge"), rule_id=await rule(tables))

    shown = (await client.get(f"/v1/runs/{load['run_id']}")).json()["load"]
    listed = (await client.get("/v1/loads", params={"state": "failed"})).json()["data"]

    assert shown["error"] == {
        "kind": "unloadable",
        "message": "a value is not a time such as 2026-10-01 08:30:00",
        "row": 1,
        "column": "created",
        "expected": "timestamp",
    }
    assert [one["run_id"] for one in listed] == [str(load["run_id"])]


async def test_facts_of_a_file_are_exact_texts(tables: Resources, client: httpx.AsyncClient) -> None:
    load = await stored_and_loaded(tables, rows(line(1, "0.10"), line(2, "0.20")), rule_id=await rule(tables))

    facts = (await client.get(f"/v1/runs/{load['run_id']}/facts")).json()

    assert facts["sums"] == [
        {"category": "charge", "currency": "usd", "rows": 2, "gross": "2.30", "fee": "2.00", "net": "0.30"}
    ]
    assert (facts["rows"], facts["key_unique"], facts["net_breaks"]) == (2, True, 0)
    assert facts["header"] == HEADER.split(",")


async def test_rows_are_paged_and_without_personal_columns(tables: Resources, client: httpx.AsyncClient) -> None:
    header = HEADER + ",description"
    lines = [line(number) + ",shoes" for number in range(3)]
    load = await stored_and_loaded(
        tables, rows(*lines, header=header), rule_id=await rule(tables, table_personal=["description"])
    )
    route = f"/v1/runs/{load['run_id']}/rows"

    first = (await client.get(route, params={"limit": 2})).json()
    second = (await client.get(route, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    personal = (await client.get(route, params={"personal": True, "limit": 1})).json()

    assert [row["row"] for row in first["data"] + second["data"]] == [1, 2, 3]
    assert second["next_cursor"] is None
    assert "description" not in first["data"][0]["values"]
    assert personal["data"][0]["values"]["description"] == "shoes"
    async with client_of(tables, READ_TOKEN) as reader:
        assert (await reader.get(route, params={"personal": True})).status_code == 403
        assert (await reader.get(route)).status_code == 200


async def test_a_diff_says_what_was_restated(tables: Resources, client: httpx.AsyncClient) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1), line(2), line(3)), rule_id=rule_id)
    load = await stored_and_loaded(tables, rows(line(1), line(2, "8.00"), line(4)), rule_id=rule_id, revision=2)
    route = f"/v1/runs/{load['run_id']}/diff"

    summed = (await client.get(route)).json()
    changed = (await client.get(route, params={"rows": "changed"})).json()["data"]
    added = (await client.get(route, params={"rows": "added"})).json()["data"]
    odd = [
        (await client.get(route, params={"rows": "added", "cursor": make_cursor("diff", position)})).status_code
        for position in ("txn_1", "1", '"\\u0000"', '"\\ud800"')
    ]

    assert odd == [422] * 4
    assert (summed["against"], summed["added"], summed["removed"], summed["changed"]) == (1, 1, 1, 1)
    assert summed["columns"] == {"gross": 1, "net": 1}
    assert summed["sums"] == [{"currency": "usd", "gross": "-1.00", "fee": "0.00", "net": "-1.00"}]
    assert [(row["before"]["net"], row["after"]["net"]) for row in changed] == [("9.00", "8.00")]
    assert [(row["before"], row["after"]["balance_transaction_id"]) for row in added] == [(None, "txn_4")]


async def test_a_first_revision_has_nothing_to_differ_from(tables: Resources, client: httpx.AsyncClient) -> None:
    load = await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))

    assert (await client.get(f"/v1/runs/{load['run_id']}/diff")).status_code == 404


async def test_an_unknown_column_is_approved_and_its_files_loaded_again(
    tables: Resources, client: httpx.AsyncClient
) -> None:
    await stored_and_loaded(tables, rows(line(1) + ",43", header=HEADER + ",shoe_size"), rule_id=await rule(tables))
    route = f"/v1/tables/{TABLE}/columns/shoe_size"

    answer = await client.post(route, json={"state": "approved", "kind": "integer", "personal": False})
    await load_all(tables)

    assert (answer.status_code, answer.json()) == (202, {"loads": 1})
    assert await fetch(tables, f"select shoe_size from reports.{TABLE}") == [{"shoe_size": 43}]
    shown = (await client.get(f"/v1/tables/{TABLE}")).json()
    assert shown["set_aside"] == []
    assert {c["name"]: c["state"] for c in shown["columns"]}["shoe_size"] == "approved"
    assert (await client.post(route, json={"state": "approved", "kind": "text"})).status_code == 409
    assert (await client.get("/v1/audit", params={"action": "column.approved"})).json()["data"] != []


async def test_an_ignored_column_is_no_longer_set_aside(tables: Resources, client: httpx.AsyncClient) -> None:
    content = rows(line(1) + ",43", header=HEADER + ",shoe_size")
    rule_id = await rule(tables)
    await stored_and_loaded(tables, content, rule_id=rule_id)

    await client.post(f"/v1/tables/{TABLE}/columns/shoe_size", json={"state": "ignored"})
    load = await stored_and_loaded(tables, content, rule_id=rule_id, start=day(2))

    assert load["set_aside"] == []


async def test_an_unknown_report_has_a_table_once_a_column_is_approved(
    tables: Resources, client: httpx.AsyncClient
) -> None:
    await stored_and_loaded(tables, b"strange,net\na,1.00\n", report_type="unheard.of.1", rule_id=await rule(tables))

    for column, kind in (("strange", "text"), ("net", "decimal")):
        await client.post(
            f"/v1/tables/unheard_of/columns/{column}", json={"state": "approved", "kind": kind, "personal": False}
        )
    await load_all(tables)

    (found,) = await fetch(tables, "select strange, net from reports.unheard_of_all")
    assert (found["strange"], str(found["net"])) == ("a", "1.00")


async def test_a_table_says_what_its_columns_mean_and_who_leads(tables: Resources, client: httpx.AsyncClient) -> None:
    await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))

    (listed,) = (await client.get("/v1/tables?limit=1")).json()["data"]
    assert (await client.get("/v1/tables?limit=0")).status_code == 422
    shown = (await client.get(f"/v1/tables/{TABLE}")).json()

    assert (listed["name"], listed["rows"], listed["files"]) == (TABLE, 1, 1)
    assert [(leader["rule"], leader["ends_at"]) for leader in shown["leaders"]] == [("daily", None)]
    net = next(column for column in shown["columns"] if column["name"] == "net")
    assert (net["kind"], net["meaning"]) == (
        "decimal",
        "Gross minus fee: the amount by which the line changes the balance.",
    )
    assert (await client.get("/v1/tables/nothing")).status_code == 404


async def test_what_was_stored_before_there_were_tables_is_loaded_on_demand(
    tables: Resources, client: httpx.AsyncClient
) -> None:
    rule_id = await rule(tables)
    old = await store(tables, rows(line(1)), rule_id=rule_id, owed=False)
    await store(tables, rows(line(2)), rule_id=rule_id, start=day(2), report_type="payouts.itemized.3", owed=False)

    assert (await client.get(f"/v1/runs/{old}")).json()["load"] is None
    assert (await client.get(f"/v1/runs/{old}/facts")).status_code == 409
    assert (await client.post("/v1/loads", json={"table": TABLE})).json() == {"loads": 1}
    assert (await client.post("/v1/loads", json={})).json() == {"loads": 1}
    await load_all(tables)
    assert (await client.post("/v1/loads", json={})).json() == {"loads": 0}
    assert (await client.post("/v1/loads", json={"again": True})).json() == {"loads": 2}


async def test_one_request_loads_all_that_match_however_many_files_there_are(
    tables: Resources, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more files than a transaction takes, of two tables
    monkeypatch.setattr(manual, "BATCH", 2)
    for report_type, number in (("payouts.itemized.3", 5), (ACTIVITY, 5)):
        rule_id = await rule(tables, name=report_type, report_type=report_type)
        for day_of in range(1, number + 1):
            start = day(day_of)
            await store(tables, rows(), rule_id=rule_id, report_type=report_type, start=start, owed=False)

    # Then one request has all of a table loaded, or all that have failed, or all that are left
    async def asked(**wanted: Any) -> int:
        answer: int = (await client.post("/v1/loads", json=wanted)).json()["loads"]
        return answer

    assert (await asked(table="payouts_itemized"), await asked(table="payouts_itemized")) == (5, 0)
    await execute(tables, "update loads set state = 'failed'")
    assert (await asked(table=TABLE, state="failed"), await asked(state="failed"), await asked()) == (0, 5, 5)
    await execute(tables, "update loads set state = 'removed'")
    assert await asked() == 10

    # And the audit log says so
    noted = (await client.get("/v1/audit", params={"action": "loads.asked"})).json()["data"]
    assert sum(one["after"]["loads"] for one in noted) == 25


async def test_what_is_loaded_is_loaded_again_only_where_that_is_asked_for(
    tables: Resources, client: httpx.AsyncClient
) -> None:
    await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))

    assert (await client.post("/v1/loads", json={"state": "loaded"})).json() == {"loads": 0}
    assert (await client.post("/v1/loads", json={"state": "failed", "again": True})).json() == {"loads": 0}
    assert (await client.post("/v1/loads", json={"state": "loaded", "again": True})).json() == {"loads": 1}


async def test_one_file_is_loaded_again_by_hand(tables: Resources, client: httpx.AsyncClient) -> None:
    load = await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))

    answer = await client.post(f"/v1/runs/{load['run_id']}/load")

    assert (answer.status_code, answer.json()["load"]["state"]) == (202, "due")
    await execute(tables, "update files set removed_at = now()")
    assert (await client.post(f"/v1/runs/{load['run_id']}/load")).status_code == 410


async def test_checks_are_listed_by_their_newest_verdict_and_noted(
    tables: Resources, client: httpx.AsyncClient
) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows("txn_1,,usd,10.00,1.00,9.50,charge"), rule_id=rule_id)

    (differs,) = (await client.get("/v1/checks", params={"verdict": "differs"})).json()["data"]
    await client.post(f"/v1/checks/{differs['id']}/note", json={"note": "known"})
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id, revision=2)

    assert (differs["name"], differs["left"], differs["right"], differs["difference"]) == (
        "row_net", "9.50", "9.00", "0.50",
    )  # fmt: skip
    assert (await client.get(f"/v1/checks/{differs['id']}")).json()["note"] == "known"
    assert (await client.get("/v1/checks", params={"verdict": "differs"})).json()["data"] == []
    history = (await client.get("/v1/checks", params={"name": "row_net", "history": True})).json()["data"]
    assert [one["verdict"] for one in history] == ["agrees", "differs"]
    assert (differs["window"]["first"], differs["window"]["last"]) == ("2026-10-01", "2026-10-01")
    in_october = {"from": "2026-10-01", "through": "2026-10-01", "name": "row_net"}
    assert len((await client.get("/v1/checks", params=in_october)).json()["data"]) == 1
    assert (await client.get("/v1/checks", params={"to": "2026-10-01"})).json()["data"] == []


async def test_a_run_shows_the_newest_verdicts_that_compare_its_file_even_where_another_revision_has_newer_ones(
    tables: Resources, client: httpx.AsyncClient
) -> None:
    rule_id, other = await rule(tables), await rule(tables, name="other")
    breaks = rows("txn_1,,usd,10.00,1.00,9.50,charge")
    first = await stored_and_loaded(tables, breaks, rule_id=rule_id)
    again = await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id, revision=2)
    unchecked = await store(tables, rows(line(1)), rule_id=other)
    await execute(
        tables, "insert into checks (subject, name, verdict, account, currency, left_value, load_ids, rule_ids)"
        " select subject, name, verdict, account, currency, 7, load_ids, rule_ids from checks where name = 'row_net'",
    )  # fmt: skip

    async def listed(run_id: object, **asked: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await client.get("/v1/checks", params={"run_id": str(run_id), **asked})).json()[
            "data"
        ]
        return found

    for load, verdict in ((first, "differs"), (again, "agrees")):
        about = await listed(load["run_id"])
        shown = {(one["name"], one["verdict"], one["left"] == "7") for one in about}
        assert shown == {("row_net", verdict, True), ("key_unique", "agrees", False)}
        assert len(about) == 2
        assert all(one["loads"] == [load["id"]] for one in about)
        assert (await client.get(f"/v1/runs/{load['run_id']}")).json()["checks"] == about
    assert [one["name"] for one in await listed(first["run_id"], verdict="differs")] == ["row_net"]
    assert await listed(unchecked) == []
    assert (await client.get(f"/v1/runs/{unchecked}")).json()["checks"] == []
    assert (await client.get("/v1/checks", params={"run_id": "daily"})).status_code == 422


async def test_loads_and_checks_are_listed_by_the_name_of_their_rule(
    tables: Resources, client: httpx.AsyncClient
) -> None:
    rules = {name: str(await rule(tables, name=name)) for name in ("daily", "monthly")}
    for rule_id in rules.values():
        await stored_and_loaded(tables, rows(line(1)), rule_id=uuid.UUID(rule_id))

    async def listed(route: str, **asked: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = (await client.get(route, params=asked)).json()["data"]
        return found

    for route in ("/v1/loads", "/v1/checks"):
        assert await listed(route, rule="daily") == await listed(route, rule_id=rules["daily"]) != []
        assert (await client.get(route, params={"rule": "weekly"})).status_code == 404
    assert len(await listed("/v1/loads")) == 2
    assert await listed("/v1/checks", rule="monthly") == []  # it does not lead
    assert (await client.post("/v1/loads", json={"rule": "daily", "again": True})).json() == {"loads": 1}
