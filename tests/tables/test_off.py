"""`table.state: off`: a rule's files are not loaded, and what was loaded is removed, for as long as it says so."""

import uuid
from typing import Any

import httpx
import pytest

from app.resources import Resources
from app.tables import loading, removal
from tests.service import execute, fetch
from tests.tables.stored import HEADER, at_its_last_step, day, line, load_all, rows, rule, store, stored_and_loaded

TABLE = "balance_change_from_activity_itemized"


async def given(api: httpx.AsyncClient, **table: Any) -> None:
    """What the rule says of its table from now on; what is left out is as by default."""
    assert (await api.patch("/v1/rules/daily", json={"table": table})).status_code == 200


async def say_off(res: Resources, rule_id: uuid.UUID) -> None:
    """The rule is `off`, and the process that changed it did not see its loads."""
    wanted = """update rules set "table" = jsonb_set("table", '{state}', '"off"') where id = :id"""
    await execute(res, wanted, id=rule_id)


async def states(res: Resources) -> dict[str, int]:
    return {
        row["state"]: row["loads"] for row in await fetch(res, "select state, count(*) as loads from loads group by 1")
    }


async def every_row(res: Resources) -> list[str]:
    """The rows that the widest view shows."""
    found = await fetch(res, f"select balance_transaction_id as id from reports.{TABLE}_all order by 1")
    return [row["id"] for row in found]


async def test_off_removes_what_is_loaded_though_the_rule_names_no_personal_columns_any_more(
    tables: Resources, api: httpx.AsyncClient
) -> None:
    rule_id = await rule(tables, table_personal=["description"])
    await stored_and_loaded(tables, rows(f"{line(1)},shoes", header=f"{HEADER},description"), rule_id=rule_id)

    await given(api, state="off")
    await load_all(tables)

    assert await states(tables) == {"removed": 1}
    assert await every_row(tables) == []
    while await removal.purge(tables):
        pass
    assert await fetch(tables, f"select 1 from report_rows.{TABLE}") == []


async def test_nothing_that_loads_files_again_loads_those_of_a_rule_that_is_off(
    tables: Resources, api: httpx.AsyncClient
) -> None:
    content = rows(f"{line(1)},43", header=f"{HEADER},shoe_size")
    load = await stored_and_loaded(tables, content, rule_id=await rule(tables))
    await given(api, state="off")

    for wanted in ({}, {"again": True}, {"rule": "daily"}, {"table": TABLE}):
        assert (await api.post("/v1/loads", json=wanted)).json() == {"loads": 0}
    assert (await api.post(f"/v1/runs/{load['run_id']}/load")).status_code == 409

    await given(api, state="auto")
    assert (await api.post("/v1/loads", json={})).json() == {"loads": 1}
    await load_all(tables)
    assert await every_row(tables) == ["txn_1"]


async def test_rows_of_which_some_are_already_deleted_show_again_once_all_are_loaded(
    tables: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "ROWS_AT_ONCE", 1)
    load = await stored_and_loaded(tables, rows(line(1), line(2)), rule_id=await rule(tables))
    await given(api, state="off")
    await removal.purge(tables)

    await given(api, state="auto")
    await api.post("/v1/loads", json={})

    assert await every_row(tables) == []
    assert await fetch(tables, f"select 1 from reports.{TABLE}") == []
    assert (await api.get(f"/v1/runs/{load['run_id']}/facts")).status_code == 409
    await load_all(tables)
    assert await every_row(tables) == ["txn_1", "txn_2"]
    assert len(await fetch(tables, f"select 1 from reports.{TABLE}")) == 2


@pytest.mark.parametrize("state", ["loaded", "failed"])
async def test_what_another_version_brought_back_is_not_loaded_again_but_removed(
    tables: Resources, api: httpx.AsyncClient, state: str
) -> None:
    # Given files of two rules, of which one is off, and was loaded again all the same
    rule_id, other = await rule(tables), await rule(tables, name="other")
    content = rows(f"{line(1)},43", header=f"{HEADER},shoe_size")
    await stored_and_loaded(tables, content, rule_id=rule_id)
    await stored_and_loaded(tables, rows(line(2)), rule_id=other)
    await execute(tables, "update loads set state = :state, loader = -1 where rule_id = :id", state=state, id=rule_id)
    await say_off(tables, rule_id)

    approved = await api.post(f"/v1/tables/{TABLE}/columns/shoe_size", json={"state": "approved"})
    await loading.look_for_loads(tables)

    assert approved.json() == {"loads": 0}
    assert await states(tables) == {"loaded": 1, "removed": 1}
    assert await every_row(tables) == ["txn_2"]


async def test_a_load_under_way_when_its_rule_goes_off_brings_nothing_in(
    tables: Resources, api: httpx.AsyncClient
) -> None:
    # Given a load whose rows are written, and one that has only been claimed
    rule_id = await rule(tables, table_personal=["description"])
    for number in (1, 2):
        await store(tables, rows(line(number)), rule_id=rule_id, start=day(number))
    first, second = await loading.claim_loads(tables, 10)

    async with at_its_last_step(tables, rule_id, day(1), first) as (_, task):
        await given(api, state="off")
    await task
    await loading.load(tables, second)

    assert await states(tables) == {"removed": 2}
    assert await every_row(tables) == []


async def test_a_file_that_is_stored_just_as_its_rule_goes_off_is_not_loaded(tables: Resources) -> None:
    # Given a load that was made and claimed before the change, which did not see it
    rule_id = await rule(tables)
    await store(tables, rows(line(1)), rule_id=rule_id)
    (claim,) = await loading.claim_loads(tables, 10)
    await say_off(tables, rule_id)

    await loading.load(tables, claim)
    assert await states(tables) == {"due": 1}
    await loading.look_for_loads(tables)

    assert await states(tables) == {"removed": 1}
