"""Parquet out: the same sums as the view, read back by another engine; one object per window, replaced in place."""

import asyncio
import os
import tempfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.files import objects
from app.ids import uuid7
from app.main import build_app
from app.resources import Resources
from app.tables import exporting, loading, loads, publishing
from app.upkeep.retention import remove_old_files
from tests.service import ADMIN_TOKEN, execute, fetch
from tests.tables.stored import HEADER, day, line, load_all, rows, rule, store, stored_and_loaded
from tests.until import PATIENCE_SECONDS

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")
VIEW = "reports.balance_change_from_activity_itemized"


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A Parquet store in a folder."""
    return tmp_path / "warehouse"


@pytest.fixture
def tables(tables: Resources, warehouse: Path, request: pytest.FixtureRequest) -> Resources:
    """The service's resources, with that store where a test names it."""
    if "warehouse" not in request.node.function.__code__.co_varnames:
        return tables
    return replace(tables, settings=tables.settings.model_copy(update={"parquet_store": f"file://{warehouse}"}))


async def publish_all(res: Resources) -> None:
    await load_all(res)
    while await publishing.publish_due(res):
        pass


def read(folder: Path, question: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers about all objects of the store."""
    source = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    found: list[tuple[Any, ...]] = duckdb.sql(question.format(store=source)).fetchall()
    return found


def objects_of(folder: Path) -> list[Path]:
    return list(folder.rglob("*.parquet"))


async def test_another_engine_reads_the_same_sums_as_the_view(tables: Resources, warehouse: Path) -> None:
    rule_id = await rule(tables)
    exact = "12345678901234567890.123456789012345678"
    await store(tables, rows(line(1), line(2, "0.10", currency="eur")), rule_id=rule_id)
    await store(tables, rows(f"txn_3,2026-10-02 08:00,usd,{exact},,{exact},charge"), rule_id=rule_id, start=day(2))
    await publish_all(tables)

    seen = await fetch(tables, f"select currency, sum(net) as net, count(*) as rows from {VIEW} group by 1 order by 1")
    question = "select currency, sum(net), count(*) from {store} where report = {name} group by 1 order by 1"
    found = read(warehouse, question.replace("{name}", "'balance_change_from_activity_itemized'"))

    assert [tuple(row.values()) for row in seen] == found
    question = "select distinct tallyhook_account, tallyhook_connected, tallyhook_window::text from {store}"
    places = read(warehouse, question)
    assert sorted(places) == [("default", "none", "2026-10-01"), ("default", "none", "2026-10-02")]
    assert read(warehouse, "select _rule, _revision, _row, _timezone from {store} order by net limit 1") == [
        ("daily", 1, 2, "UTC")
    ]


async def test_a_window_is_replaced_in_place_and_leaves_with_its_rows(tables: Resources, warehouse: Path) -> None:
    rule_id = await rule(tables)
    await store(tables, rows(line(1), line(2)), rule_id=rule_id)
    await publish_all(tables)
    await store(tables, rows(line(1)), rule_id=rule_id, revision=2)
    await publish_all(tables)

    assert read(warehouse, "select count(*), max(_revision) from {store}") == [(1, 2)]
    assert len(objects_of(warehouse)) == 1

    await execute(tables, "update rules set retention_days = 10")
    await execute(tables, "update files set stored_at = now() - interval '11 days'")
    while await remove_old_files(tables):
        pass
    await publish_all(tables)
    assert objects_of(warehouse) == []


class Killed(BaseException):
    """What the kernel does to a process."""


@pytest.mark.parametrize(("step", "left"), [("put_file", 1), ("_record", 2)])
async def test_a_process_killed_while_it_publishes_leaves_the_old_object_or_the_new_one(
    tables: Resources, warehouse: Path, monkeypatch: pytest.MonkeyPatch, step: str, left: int
) -> None:
    async def killed(*_: object, **__: object) -> None:
        raise Killed

    rule_id = await rule(tables)
    await store(tables, rows(line(1), line(2)), rule_id=rule_id)
    await publish_all(tables)
    await store(tables, rows(line(1)), rule_id=rule_id, revision=2)
    await load_all(tables)
    await publishing.publish_due(tables)  # the superseded one has its own turn, and leaves the object as it is
    with monkeypatch.context() as patched:
        patched.setattr(objects if step == "put_file" else publishing, step, killed)
        with pytest.raises(Killed):
            await publishing.publish_due(tables)
    assert read(warehouse, "select distinct _revision from {store}") == [(left,)]

    await execute(tables, "update loads set lease_until = null")
    await publish_all(tables)
    assert read(warehouse, "select count(*), max(_revision) from {store}") == [(1, 2)]
    assert len(objects_of(warehouse)) == 1


async def test_a_window_that_becomes_due_while_it_is_written_is_written_again(
    tables: Resources, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a writer that has read what is shown, and puts it only after the rule leaves an account out
    type_ = "connected_account_balance_change_from_activity.itemized.3"
    rule_id = await rule(tables, report_type=type_)
    header = "connected_account,balance_transaction_id,currency,net"
    content = rows("acct_2,txn_2,usd,2.00", "acct_1,txn_1,usd,1.00", header=header)
    await store(tables, content, rule_id=rule_id, report_type=type_)
    await load_all(tables)
    put_file = objects.put_file

    async def put_late(*given: Any, **named: Any) -> None:
        await execute(tables, "update rules set excepted = '{acct_2}'")
        async with tables.sessions.begin() as session:
            await loads.show_again(session, rule_id)
        assert await publishing.publish_due(replace(tables, worker_id=uuid7())) == 0, "no second writer meanwhile"
        await put_file(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(objects, "put_file", put_late)
        await publishing.publish_due(tables)
    assert read(warehouse, "select count(*) from {store}") == [(2,)]

    # When the lane looks again
    await publish_all(tables)

    # Then the object has what the view shows
    assert read(warehouse, "select connected_account from {store}") == [("acct_1",)]
    assert await fetch(tables, "select 1 from loads where object_due") == []


async def test_a_writer_that_puts_its_object_after_the_file_was_erased_leaves_nothing(
    tables: Resources, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))
    put_file = objects.put_file

    async def put_late(*given: Any, **named: Any) -> None:
        await execute(tables, "update rules set retention_days = 10")
        await execute(tables, "update files set stored_at = now() - interval '11 days'")
        while await remove_old_files(tables):
            pass
        assert await publishing.publish_due(replace(tables, worker_id=uuid7())) == 1, "the object is removed"
        await put_file(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(objects, "put_file", put_late)
        await publishing.publish_due(tables)
    await publish_all(tables)

    assert objects_of(warehouse) == []
    assert await fetch(tables, "select state, object_due from loads") == [{"state": "removed", "object_due": False}]


async def test_an_object_whose_writer_is_stopped_is_written_by_the_next_one_half_a_minute_later(
    tables: Resources, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a writer that is stopped while it puts its object
    await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))
    putting = asyncio.Event()

    async def put_for_ever(*given: Any, **named: Any) -> None:
        putting.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(objects, "put_file", put_for_ever)
        writer = asyncio.create_task(publishing.publish_due(tables))
        await putting.wait()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    # When what it sent can no longer replace anything, then the next writer has its turn
    assert len(await fetch(tables, "select 1 from loads where lease_until is not null")) == 1
    await execute(tables, "update loads set lease_until = lease_until - interval '30 s'")
    assert await publishing.publish_due(tables) == 1
    assert read(warehouse, "select count(*) from {store}") == [(1,)]


async def test_an_unknown_report_without_approved_columns_is_written_as_what_is_known_of_it(
    tables: Resources, warehouse: Path
) -> None:
    unknown = "coffee.itemized.1"
    await store(tables, rows(line(1)), rule_id=await rule(tables, report_type=unknown), report_type=unknown)
    await publish_all(tables)

    assert read(warehouse, "select _report_type, _row from {store}") == [(unknown, 1)]


async def test_what_no_rule_shows_is_not_published_and_personal_columns_only_by_name(
    tables: Resources, warehouse: Path
) -> None:
    header = HEADER + ",description,customer_email"
    content = rows(line(1) + ",shoes,a@b.c", header=header)
    await store(tables, content, rule_id=await rule(tables, table_personal=["description"]))
    await store(tables, rows(line(9)), rule_id=await rule(tables, "kept", table_state="kept"), start=day(2))
    await store(tables, rows(line(8)), start=day(3))
    await publish_all(tables)

    (found,) = read(warehouse, "select * from {store}")
    names = [column[0] for column in duckdb.sql(
        f"describe select * from read_parquet('{warehouse}/**/*.parquet')").fetchall()]  # fmt: skip
    assert "description" in names
    assert "customer_email" not in names
    assert "shoes" in found


async def test_lines_of_accounts_that_a_rule_leaves_out_are_not_published(
    tables: Resources, warehouse: Path, tmp_path: Path
) -> None:
    type_ = "connected_account_balance_change_from_activity.itemized.3"
    rule_id = await rule(tables, report_type=type_)
    await execute(tables, "update rules set excepted = '{acct_2}'")
    header = "connected_account,balance_transaction_id,currency,net"
    content = rows("acct_2,txn_2,usd,2.00", "acct_1,txn_1,usd,1.00", header=header)
    await store(tables, content, rule_id=rule_id, report_type=type_)
    await publish_all(tables)

    assert read(warehouse, "select connected_account, _row, net from {store}") == [("acct_1", 2, Decimal("1.00"))]
    assert await exporting.export(tables, f"file://{tmp_path}/export", check=True) == 1


async def test_the_file_route_gives_all_columns_as_parquet(
    tables: Resources, api: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = HEADER + ",customer_email,shoe_size"
    load = await stored_and_loaded(tables, rows(line(1) + ",a@b.c,43", header=header), rule_id=await rule(tables))
    route = f"/v1/runs/{load['run_id']}/file"

    answer = await api.get(route, params={"format": "parquet"})

    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    (tmp_path / "file.parquet").write_bytes(answer.content)
    query = f"select net, customer_email, shoe_size from '{tmp_path}/file.parquet'"
    assert duckdb.sql(query).fetchall() == [(Decimal("9"), "a@b.c", "43")]
    monkeypatch.setattr("app.tables.parquet.find_spec", lambda name: None)
    missing = await api.get(route, params={"format": "parquet"})
    assert missing.status_code == 406
    assert "EXTRAS=parquet" in missing.json()["detail"]
    assert (await api.get(route, params={"format": "csv"})).headers["content-type"].startswith("text/csv")


@pytest.mark.parametrize(("form", "prefix"), [("parquet", "tallyhook-parquet-answer-"), ("xlsx", "xlsx-")])
async def test_nothing_is_left_of_a_file_whose_sending_is_cut_or_whose_process_was_killed(
    tables: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, prefix: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spool"))
    tables = replace(tables, settings=tables.settings.model_copy(update={"data_dir": tmp_path}))
    load = await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))
    killed, other = tmp_path / "spool" / f"{prefix}killed", tmp_path / "spool" / f"{prefix}other"
    for folder in (killed, other):
        folder.mkdir(parents=True)
    os.utime(killed, (0, 0))
    begun = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()  # a client that neither sends nor takes anything
        return {}

    async def send(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    scope = asked(f"/v1/runs/{load['run_id']}/file", f"format={form}")
    sending = asyncio.create_task(build_app(tables)(scope, receive, send))
    await asyncio.wait_for(begun.wait(), PATIENCE_SECONDS)
    made = set((tmp_path / "spool").iterdir())
    sending.cancel()
    await asyncio.wait([sending])

    assert len(made) == 2
    assert killed not in made
    assert set((tmp_path / "spool").iterdir()) == {other}


async def test_the_next_writer_removes_the_folder_of_one_that_was_killed(
    tables: Resources, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    killed, other = folder / "tallyhook-parquet-object-killed", folder / "tallyhook-parquet-object-other"
    for one in (killed, other):
        one.mkdir(parents=True)
        (one / "part.parquet").write_bytes(b"half of it")
    os.utime(killed, (0, 0))
    await store(tables, rows(line(1)), rule_id=await rule(tables))

    await publish_all(tables)

    assert len(objects_of(warehouse)) == 1
    assert list(folder.iterdir()) == [other]


def asked(path: str, query: str) -> dict[str, Any]:
    """A request as a server hands it on."""
    return {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {ADMIN_TOKEN}".encode())],
    }  # fmt: skip


async def test_a_file_that_is_not_a_report_is_not_made_into_parquet(tables: Resources, api: httpx.AsyncClient) -> None:
    load = await stored_and_loaded(tables, rows("broken"), rule_id=await rule(tables))

    answer = await api.get(f"/v1/runs/{load['run_id']}/file", params={"format": "parquet"})

    assert answer.status_code == 406
    assert "(row 1)" in answer.json()["detail"]
    await loading.end_child(tables)


async def test_everything_that_is_shown_can_be_exported_and_is_read_back(tables: Resources, tmp_path: Path) -> None:
    rule_id = await rule(tables)
    for number in (1, 2, 3):
        await store(tables, rows(line(number)), rule_id=rule_id, start=day(number))
    await load_all(tables)

    written = await exporting.export(tables, f"file://{tmp_path}/out", check=True)

    assert written == 3
    assert read(tmp_path / "out", "select sum(net), count(*) from {store}") == [(27, 3)]


async def test_both_ways_to_read_a_file_write_the_same_parquet(
    tables: Resources, api: httpx.AsyncClient, tmp_path: Path
) -> None:
    odd = (
        'txn_1,2026-10-01 10:00,usd,1.10,,1.10,"two\nlines, ""quoted"""',
        "txn_2,2026-10-01,jpy,100,0,100,ü\u2028x",
        ',,,"",,,""',
        "txn_4,2026-10-01 23:59:59,kwd,-0.123456789012345678,0.5,-0.6,NULL",
    )
    load = await stored_and_loaded(tables, b"\xef\xbb\xbf" + rows(*odd), rule_id=await rule(tables))
    route = f"/v1/runs/{load['run_id']}/file?format=parquet"

    by_arrow = (await api.get(route)).content
    await execute(tables, "update loads set state = 'failed'")
    by_us = (await api.get(route)).content

    for name, content in (("arrow", by_arrow), ("us", by_us)):
        (tmp_path / f"{name}.parquet").write_bytes(content)
    arrow, ours = (duckdb.sql(f"from '{tmp_path}/{name}.parquet'").fetchall() for name in ("arrow", "us"))
    assert arrow == ours
    assert len(ours) == 4


async def test_a_row_that_is_longer_than_pyarrow_reads_at_once_is_written_too(
    tables: Resources, api: httpx.AsyncClient, tmp_path: Path
) -> None:
    long = "\n".join(["x" * 900] * 1000)
    more = ("charge_id", "customer_id", "invoice_id", "source_id", "payment_intent_id", "subscription_id", "card_brand",
            "card_country", "dispute_reason", "regulatory_tag")  # fmt: skip
    header = ",".join([HEADER, *more])
    long_row = ",".join([line(1), *[f'"{long}"'] * len(more)])
    content = rows(long_row, line(2) + "," * len(more), header=header)
    load = await stored_and_loaded(tables, content, rule_id=await rule(tables))

    (tmp_path / "long.parquet").write_bytes((await api.get(f"/v1/runs/{load['run_id']}/file?format=parquet")).content)

    found = duckdb.sql(f"select count(*), sum(net), max(length(charge_id)) from '{tmp_path}/long.parquet'").fetchall()
    assert found == [(2, Decimal("18.00"), len(long))]
