"""A file is erased by hand, with its rows and its chunks; the reason is kept."""

import uuid
from typing import Any

import pytest

from app.resources import Resources
from app.upkeep.retention import remove_old_files
from tests.api.conftest import bearer, client_of
from tests.service import READ_TOKEN, execute, fetch
from tests.tables.stored import line, load_all, rows, store

REASON = {"reason": "erasure asked for in ticket 4711"}


async def left(res: Resources) -> dict[str, int]:
    """How much there is of files' bytes and rows."""
    tables = {"chunks": "file_chunks", "rows": "report_rows.balance_transactions"}
    exists = await fetch(res, "select to_regclass('report_rows.balance_transactions') is not null as there")
    if not exists[0]["there"]:
        tables["rows"] = (await fetch(
            res, "select 'report_rows.' || quote_ident(relname) as name from pg_class join pg_namespace n"
            " on n.oid = relnamespace where nspname = 'report_rows' and relkind in ('r', 'p') limit 1",
        ))[0]["name"]  # fmt: skip
    return {
        name: (await fetch(res, f"select count(*) as count from {table}"))[0]["count"] for name, table in tables.items()
    }


async def remove(res: Resources, run_id: uuid.UUID, body: Any = REASON, **headers: Any) -> Any:
    async with client_of(res) as api:
        return await api.post(f"/v1/runs/{run_id}/file/remove", json=body, **headers)


async def test_bytes_and_rows_are_erased_and_the_reason_stays(res: Resources) -> None:
    run_id = await store(res, rows(line(1), line(2)))
    await load_all(res)
    before = await left(res)

    answer = await remove(res, run_id)
    async with client_of(res) as api:
        asked = await api.get(f"/v1/runs/{run_id}/file")
        (entry,) = (await api.get("/v1/audit?action=file.removed")).json()["data"]
    (due,) = await fetch(res, "select due_at <= now() as due from timetable where name = 'retention'")
    await remove_old_files(res)

    assert before == {"chunks": 1, "rows": 2}
    assert (answer.status_code, answer.json()["state"]) == (202, "stored")
    assert answer.json()["file"]["removed_reason"] == REASON["reason"]
    assert asked.status_code == 410
    assert asked.json()["detail"].endswith(": erasure asked for in ticket 4711")
    assert (entry["actor"], entry["subject"], entry["after"]) == ("admin", str(run_id), REASON)
    assert due["due"], "the bytes do not wait for the next hour"
    assert await left(res) == {"chunks": 0, "rows": 0}


async def test_a_file_is_removed_once_and_only_if_it_is_stored(res: Resources) -> None:
    run_id = await store(res, rows(line(1)))
    await remove(res, run_id)

    again, unknown = await remove(res, run_id), await remove(res, uuid.uuid4())
    await execute(res, "update files set stored_at = null, removed_at = null")
    await execute(res, "update runs set state = 'ready'")
    unfinished = await remove(res, run_id)

    assert [again.status_code, unknown.status_code, unfinished.status_code] == [410, 404, 409]
    assert len(await fetch(res, "select 1 from audit where action = 'file.removed'")) == 1


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": 5}])
async def test_a_reason_has_to_be_given(res: Resources, body: Any) -> None:
    assert (await remove(res, await store(res, rows(line(1))), body)).status_code == 422


async def test_a_read_only_token_erases_nothing(res: Resources) -> None:
    run_id = await store(res, rows(line(1)))

    answer = await remove(res, run_id, headers=bearer(READ_TOKEN))

    assert answer.status_code == 403
    assert await fetch(res, "select 1 from files where removed_at is null")
