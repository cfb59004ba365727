"""A stored file becomes rows that views show: whole, once, and never a part of it."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.inbox.intake import BUSY_EVENTS
from app.resources import Resources
from app.tables import loading, loads, removal
from app.tables.load_file import LOADER
from app.tables.reading import BATCH_ROWS
from app.upkeep.retention import remove_old_files
from tests.inbox.intake_events import accept, an_event
from tests.service import execute, fetch
from tests.tables.stored import (
    HEADER,
    at_its_last_step,
    claim_one,
    day,
    line,
    load_all,
    load_of,
    rows,
    rule,
    store,
    stored_and_loaded,
)

TABLE = "report_rows.balance_change_from_activity_itemized"
VIEW = "reports.balance_change_from_activity_itemized"


async def ids(res: Resources, view: str = VIEW) -> list[str]:
    return [
        row["balance_transaction_id"]
        for row in await fetch(res, f"select balance_transaction_id from {view} order by 1")
    ]


async def test_a_stored_file_is_rows_in_a_view_with_where_they_come_from(tables: Resources) -> None:
    load = await stored_and_loaded(tables, rows(line(1), line(2, "-3.50")), rule_id=await rule(tables))

    assert (load["state"], load["rows"], load["error"]) == ("loaded", 2, None)
    found = await fetch(tables, f"select * from {VIEW} order by _row")
    assert [(row["_rule"], row["_revision"], row["_row"], str(row["net"])) for row in found] == [
        ("daily", 1, 1, "9.00"),
        ("daily", 1, 2, "-3.50"),
    ]
    assert (found[0]["_interval_start"], found[0]["_timezone"], found[0]["_run_id"]) == (day(1), "UTC", load["run_id"])


async def test_the_sums_of_a_file_are_known(tables: Resources) -> None:
    load = await stored_and_loaded(
        tables, rows(line(1), line(2, "0.10", currency="eur"), line(2, "0.20", currency="eur"), "txn_9,,usd,1,1,5,fee")
    )

    sums = await fetch(tables, "select category, currency, rows, net, net_breaks from load_sums order by 1, 2")
    assert [(s["category"], s["currency"], s["rows"], str(s["net"]), s["net_breaks"]) for s in sums] == [
        ("charge", "eur", 2, "0.30", 0),
        ("charge", "usd", 1, "9.00", 0),
        ("fee", "usd", 1, "5", 1),
    ]
    assert (load["key_repeats"], load["net_breaks"]) == (1, 1)
    assert load["first_created"] == load["last_created"] == "2026-10-01 10:00:00"


async def take_many_events(res: Resources) -> None:
    """As many as make the intake busy."""
    for number in range(BUSY_EVENTS):
        await accept(res.intake, an_event(id=f"evt_{number}"))


async def copies(res: Resources) -> int:
    """How often rows were copied into the table of these tests, as the database counted."""
    (found,) = await fetch(res, "select count(*) as n from copied")
    return int(found["n"])


@pytest.mark.parametrize(("busy", "expected"), [(False, 1), (True, 3)], ids=["at once", "gently"])
async def test_a_file_is_loaded_in_one_go_and_by_turns_where_events_come_in(
    tables: Resources, busy: bool, expected: int
) -> None:
    await stored_and_loaded(tables, rows(line(1)), start=day(2))  # now the table exists
    await execute(tables, "create table copied (n int)")
    await execute(
        tables,
        "create function note_copy() returns trigger language plpgsql as"
        " 'begin insert into public.copied values (1); return null; end'",
    )
    await execute(
        tables,
        f"create trigger note_copy after insert on {TABLE} for each statement execute function note_copy()",
    )
    if busy:
        await take_many_events(tables)

    load = await stored_and_loaded(tables, rows(*(line(number) for number in range(2 * BATCH_ROWS + 10))))

    assert await copies(tables) == expected
    (found,) = await fetch(
        tables, f"select count(*) as n, count(distinct row_number) as d, min(row_number) as first,"
        f" max(row_number) as last, sum(net) as net from {TABLE} where load_id = :id", id=load["id"],
    )  # fmt: skip
    number = 2 * BATCH_ROWS + 10
    assert dict(found) == {"n": number, "d": number, "first": 1, "last": number, "net": 9 * number}


async def test_a_load_that_waited_for_its_turn_is_done_gently_if_events_come_in_by_then(tables: Resources) -> None:
    questions: list[Mapping[str, Any]] = []
    child = loading.child_of(tables)
    sound = child._send

    def send(process: asyncio.subprocess.Process, what: Mapping[str, Any]) -> None:
        questions.append(what)
        sound(process, what)

    child._send = send  # type: ignore[method-assign]
    await store(tables, rows(line(1)), start=day(1))
    claim = await claim_one(tables)
    async with child._free:  # another load is under way
        waiting = asyncio.create_task(loading.load(tables, claim))
        await take_many_events(tables)
    await waiting

    assert [question["gently"] for question in questions if "id" in question] == [True]


@pytest.mark.parametrize("busy", [False, True], ids=["at once", "gently"])
async def test_a_value_that_the_database_refuses_is_named_by_its_row_in_the_file(tables: Resources, busy: bool) -> None:
    await stored_and_loaded(tables, rows(line(1)), start=day(2))
    await execute(tables, "drop schema reports, reports_personal cascade")  # the views would be in the way
    await execute(tables, f"alter table {TABLE} alter currency type varchar(3)")
    if busy:
        await take_many_events(tables)
    lines = [line(number) for number in range(BATCH_ROWS)]

    load = await stored_and_loaded(tables, rows(*lines, line(1), line(2, currency="euro")))

    assert load["state"] == "failed"
    assert (load["error"]["row"], load["error"]["message"]) == (
        BATCH_ROWS + 2,
        "the database does not accept a value of this row",
    )


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (rows(line(1), "txn_2,2026-10-01,usd,NaN,0,1,x"), {"row": 2, "column": "gross", "expected": "decimal"}),
        (rows(line(1), "too,few"), {"row": 2, "column": None, "expected": None}),
        (b"", {"row": None, "column": None, "expected": None}),
    ],
)
async def test_a_file_that_does_not_fit_is_failed_with_its_row_and_nothing_of_it_shows(
    tables: Resources, content: bytes, error: dict[str, object]
) -> None:
    load = await stored_and_loaded(tables, content, rule_id=await rule(tables))

    assert (load["state"], load["loader"]) == ("failed", LOADER)
    assert {name: load["error"][name] for name in error} == error
    assert load["error"]["kind"] == "unloadable"
    assert await fetch(tables, "select 1 from load_sums") == []
    (run,) = await fetch(tables, "select state from runs")
    assert run["state"] == "stored"


async def test_a_new_column_is_added_and_an_unknown_one_set_aside(tables: Resources) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    wider = rows(line(2) + ",ch_1,secret", header=HEADER + ",charge_id,shoe_size")

    load = await stored_and_loaded(tables, wider, rule_id=rule_id, start=day(2))

    assert load["set_aside"] == ["shoe_size"]
    found = await fetch(tables, f"select balance_transaction_id, charge_id from {VIEW} order by 1")
    assert [tuple(row.values()) for row in found] == [("txn_1", None), ("txn_2", "ch_1")]
    (aside,) = await fetch(tables, "select * from table_columns where state = 'set_aside'")
    assert (aside["column_name"], aside["filled"], aside["longest"], aside["personal"]) == ("shoe_size", 1, 6, True)


async def test_personal_columns_are_loaded_by_name_and_shown_in_their_own_schema_only(tables: Resources) -> None:
    header = HEADER + ",customer_email,description,payment_metadata[order]"
    silent, asking = (
        await rule(tables, "silent"),
        await rule(
            tables,
            "asking",
            report_type="payouts.itemized.3",
            table_personal=["description", "payment_metadata[order]"],
        ),
    )
    await stored_and_loaded(tables, rows(line(1) + ",a@b.c,shoes,77", header=header), rule_id=silent)
    await stored_and_loaded(
        tables, rows(line(2) + ",a@b.c,boots,78", header=header), rule_id=asking, report_type="payouts.itemized.3"
    )

    assert "description" not in (await fetch(tables, "select * from reports.payouts_itemized"))[0]
    (found,) = await fetch(tables, "select * from reports_personal.payouts_itemized")
    assert (found["description"], found["_metadata"]) == ("boots", {"payment_metadata[order]": "78"})
    assert "customer_email" not in found
    columns = await fetch(
        tables, "select attname from pg_attribute where attrelid = 'report_rows.payouts_itemized'::regclass"
    )
    assert "customer_email" not in {column["attname"] for column in columns}
    (silent_row,) = await fetch(tables, "select * from reports_personal.balance_change_from_activity_itemized")
    assert not {"description", "customer_email", "_metadata"} & set(silent_row)


async def test_a_load_under_way_does_not_bring_in_a_column_that_its_rule_no_longer_names(tables: Resources) -> None:
    # Given a load that has read its rule
    rule_id = await rule(tables, table_personal=["description"])
    run_id = await store(tables, rows(line(1) + ",shoes", header=HEADER + ",description"), rule_id=rule_id)
    async with at_its_last_step(tables, rule_id, day(1), await claim_one(tables)) as (_, task):
        # When the rule no longer names the column
        await execute(tables, """update rules set "table" = jsonb_set("table", '{personal}', '[]')""")
        async with tables.sessions.begin() as session:
            await loads.again_of_rule(session, rule_id, ["description"])
    await task
    await load_all(tables)

    # Then it is loaded without it
    load = await load_of(tables, run_id)
    assert (load["state"], "description" in load["loaded_columns"]) == ("loaded", False)


async def test_the_newest_revision_shows_whatever_the_order_of_loading(tables: Resources) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1), line(2)), rule_id=rule_id, revision=2)
    await stored_and_loaded(tables, rows(line(1), line(3)), rule_id=rule_id, revision=1)

    assert await ids(tables) == ["txn_1", "txn_2"]
    assert await ids(tables, f"{VIEW}_all") == ["txn_1", "txn_1", "txn_2", "txn_3"]
    (diff,) = await fetch(tables, "select * from diffs")
    assert (diff["against_revision"], diff["added"], diff["removed"], diff["changed"]) == (1, 1, 1, 0)


async def test_where_the_newest_cannot_be_loaded_the_last_loaded_stays(tables: Resources) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    await stored_and_loaded(tables, rows("broken"), rule_id=rule_id, revision=2)

    assert await ids(tables) == ["txn_1"]


async def test_a_reader_with_an_open_transaction_sees_the_old_revision_and_the_next_one_the_new(
    tables: Resources,
) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1), line(2)), rule_id=rule_id)
    async with tables.sessions() as reader:
        await reader.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        before = (await reader.execute(text(f"select sum(net) from {VIEW}"))).scalar_one()

        await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id, revision=2)

        assert (await reader.execute(text(f"select sum(net) from {VIEW}"))).scalar_one() == before == 18
    assert await ids(tables) == ["txn_1"]


async def test_loading_again_changes_nothing_and_rows_stay_visible_meanwhile(tables: Resources) -> None:
    load = await stored_and_loaded(tables, rows(line(1), line(2)), rule_id=await rule(tables))

    async with tables.sessions.begin() as session:
        assert await loads.again(session, [load["id"]]) == 1

    assert await ids(tables) == ["txn_1", "txn_2"]
    await load_all(tables)
    assert await ids(tables, f"{VIEW}_all") == ["txn_1", "txn_2"]
    assert (await load_of(tables, load["run_id"]))["state"] == "loaded"


async def test_an_overtaken_loader_writes_nothing(tables: Resources) -> None:
    run_id = await store(tables, rows(line(1)), rule_id=await rule(tables))
    claim = await claim_one(tables)
    await execute(tables, "update loads set fence = fence + 1, lease_until = null")

    await loading.load(tables, claim)

    assert (await load_of(tables, run_id))["state"] == "due"
    assert await fetch(tables, "select 1 from pg_class where relname = 'balance_change_from_activity_itemized'") == []


async def test_a_child_that_is_killed_costs_a_try_and_leaves_nothing(tables: Resources) -> None:
    rule_id = await rule(tables)
    run_id = await store(tables, rows(line(1), line(2)), rule_id=rule_id)
    async with at_its_last_step(tables, rule_id, day(1), await claim_one(tables)) as (_, task):
        child = loading.child_of(tables)
        assert child.pid is not None
        await child.end()
    await task

    load = await load_of(tables, run_id)
    assert (load["state"], load["crashes"]) == ("due", 1)
    assert await ids(tables) == []
    await execute(tables, "update loads set due_at = now()")
    await load_all(tables)
    assert await ids(tables) == ["txn_1", "txn_2"]


async def test_a_child_that_hangs_is_ended_in_time_and_the_load_is_tried_again(
    tables: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored_and_loaded(tables, rows(line(1)), start=day(2))
    pid = loading.child_of(tables).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    run_id = await store(tables, rows(line(1)), rule_id=await rule(tables))
    with monkeypatch.context() as hasty:
        hasty.setattr("app.tables.child_process.ANSWER_SECONDS", 0.2)
        await loading.load(tables, await claim_one(tables))

    load = await load_of(tables, run_id)
    assert (load["state"], load["tries"], load["crashes"]) == ("due", 1, 0)
    await execute(tables, "update loads set due_at = now()")
    await load_all(tables)
    assert (await load_of(tables, run_id))["state"] == "loaded"


async def test_a_file_that_comes_just_as_the_idle_child_ends_is_loaded_by_another_one(
    tables: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tables.child_process.IDLE_SECONDS", 0.0)
    for number in range(1, 4):
        load = await stored_and_loaded(tables, rows(line(number)), start=day(number))
        assert (load["state"], load["crashes"]) == ("loaded", 0)
        await asyncio.sleep(0.01)  # its input is closed now, and it has not ended yet


async def test_a_load_that_is_cancelled_ends_its_child_and_can_be_done_again(tables: Resources) -> None:
    rule_id = await rule(tables)
    await store(tables, rows(line(1), line(2)), rule_id=rule_id)
    claim = await claim_one(tables)
    async with at_its_last_step(tables, rule_id, day(1), claim) as (_, task):
        assert loading.child_of(tables).pid is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert loading.child_of(tables).pid is None
    async with tables.sessions.begin() as session:
        await loads.release(session, claim)
    await load_all(tables)
    assert await ids(tables) == ["txn_1", "txn_2"]


async def test_a_load_waits_briefly_for_a_reader_in_the_way_of_a_new_column_and_is_done_later(
    tables: Resources,
) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    run_id = await store(tables, rows(line(2) + ",ch_1", header=HEADER + ",charge_id"), rule_id=rule_id, start=day(2))
    async with tables.sessions() as reader, reader.begin():
        await reader.execute(text(f"select 1 from {VIEW}"))

        await loading.load(tables, await claim_one(tables))

        load = await load_of(tables, run_id)
        assert (load["state"], load["tries"], load["crashes"]) == ("due", 1, 0)
    await execute(tables, "update loads set due_at = now()")
    await load_all(tables)
    assert await ids(tables) == ["txn_1", "txn_2"]


async def test_readers_do_not_wait_while_a_file_loads_into_a_table_that_needed_a_new_column(tables: Resources) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    await store(tables, rows(line(2) + ",ch_1", header=HEADER + ",charge_id"), rule_id=rule_id, start=day(2))
    async with at_its_last_step(tables, rule_id, day(2), await claim_one(tables)) as (session, task):
        await session.execute(text("set local lock_timeout = '100ms'"))
        found = (await session.execute(text(f"select balance_transaction_id, charge_id from {VIEW}"))).all()
        assert found == [("txn_1", None)]
    await task
    assert await ids(tables) == ["txn_1", "txn_2"]


async def test_rows_leave_with_their_file_and_an_older_revision_does_not_come_back(tables: Resources) -> None:
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    load = await stored_and_loaded(tables, rows(line(2)), rule_id=rule_id, revision=2)
    await execute(tables, "update rules set retention_days = 10")
    await execute(
        tables, "update files set stored_at = now() - interval '11 days' where run_id = :id", id=load["run_id"]
    )

    while await remove_old_files(tables):
        pass

    assert (await load_of(tables, load["run_id"]))["state"] == "removed"
    assert await ids(tables) == []
    assert [row["load_id"] for row in await fetch(
        tables, "select load_id from report_rows.balance_change_from_activity_itemized")] != [load["id"]]  # fmt: skip
    assert not await removal.purge(tables)


async def test_what_an_older_process_stores_beside_us_is_loaded_and_what_was_there_before_waits(
    tables: Resources,
) -> None:
    rule_id = await rule(tables)
    old = await store(tables, rows(line(1)), rule_id=rule_id, owed=False)
    await execute(tables, "update files set stored_at = now() - interval '1 day'")
    await store(tables, rows(line(2)), rule_id=rule_id, start=day(2), owed=False)

    await loading.look_for_loads(tables)
    await load_all(tables)

    assert await ids(tables) == ["txn_2"]
    async with tables.sessions.begin() as session:
        assert await loads.owe(session, [old]) == 1
    await load_all(tables)
    assert await ids(tables) == ["txn_1", "txn_2"]


async def test_an_upgrade_of_the_loader_tries_failed_loads_again(tables: Resources) -> None:
    load = await stored_and_loaded(tables, rows("broken"), rule_id=await rule(tables))
    await execute(tables, "update loads set loader = :older", older=LOADER - 1)

    await loading.look_for_loads(tables)

    assert (await load_of(tables, load["run_id"]))["state"] == "due"


async def test_an_unknown_report_makes_no_table_until_a_column_is_approved(tables: Resources) -> None:
    run_id = await store(tables, b"strange,net\na,1.00\n", report_type="unheard.of.1", rule_id=await rule(tables))
    await load_all(tables)

    load = await load_of(tables, run_id)
    assert (load["state"], load["rows"], load["set_aside"]) == ("loaded", 1, ["strange", "net"])
    assert await fetch(tables, "select to_regclass('reports.unheard_of') as there") == [{"there": None}]


async def test_ad_hoc_and_filtered_files_never_show_in_the_plain_view(tables: Resources) -> None:
    await stored_and_loaded(tables, rows(line(1)))
    await stored_and_loaded(
        tables,
        rows(line(2)),
        rule_id=await rule(tables, parameters={"currency": "usd"}),
        parameters={"currency": "usd"},
    )

    assert await ids(tables) == []
    assert await ids(tables, f"{VIEW}_all") == ["txn_1", "txn_2"]


async def test_the_views_say_what_each_column_means(tables: Resources) -> None:
    await stored_and_loaded(tables, rows(line(1)))

    comments = {
        row["attname"]: row["said"]
        for row in await fetch(
            tables,
            "select attname, col_description(attrelid, attnum) as said from pg_attribute"
            " where attrelid = 'reports.balance_change_from_activity_itemized'::regclass and attnum > 0",
        )
    }
    assert all(comments.values())
    assert comments["created"] == "When the balance transaction was made. (in the zone of the run (_timezone))"


async def test_an_analyst_reads_the_views_and_nothing_else(tables: Resources) -> None:
    await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))
    await execute(tables, "drop role if exists analyst")
    await execute(tables, "create role analyst")
    try:
        await execute(tables, "grant usage on schema reports to analyst")
        await execute(tables, "grant select on all tables in schema reports to analyst")
        async with tables.sessions() as session:
            await session.execute(text("set local role analyst"))
            assert (await session.execute(text(f"select sum(net) from {VIEW}"))).scalar_one() == 9
        for forbidden in (
            "report_rows.balance_change_from_activity_itemized",
            "reports_personal.balance_change_from_activity_itemized",
            "loads",
        ):
            async with tables.sessions() as session:
                await session.execute(text("set local role analyst"))
                with pytest.raises(ProgrammingError, match="permission denied"):
                    await session.execute(text(f"select * from {forbidden}"))
    finally:
        await execute(tables, "drop owned by analyst")
        await execute(tables, "drop role analyst")


async def test_amounts_stay_exact_to_the_last_digit(tables: Resources) -> None:
    exact = "12345678901234567890.123456789012345678"
    await stored_and_loaded(tables, rows(f"txn_1,,usd,{exact},0,{exact},charge"), rule_id=await rule(tables))

    (found,) = await fetch(tables, f"select net::text as net from {VIEW}")
    assert found["net"] == exact


async def test_what_a_value_holds_is_loaded_as_it_is(tables: Resources) -> None:
    odd = 'tab\t, quote ", back\\slash, \\N, \\., line\nbreak, \u2028, ü'
    content = rows(line(1) + ',"' + odd.replace('"', '""') + '"', header=HEADER + ",source_id")
    await stored_and_loaded(tables, content, rule_id=await rule(tables))

    (found,) = await fetch(tables, f"select source_id from {VIEW}")
    assert found["source_id"] == odd


async def test_the_child_ends_after_a_while_without_work(tables: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.tables.child_process.IDLE_SECONDS", 0.01)
    await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))
    process = loading.child_of(tables)._process
    assert process is not None

    await process.wait()

    await stored_and_loaded(tables, rows(line(2)), rule_id=await rule(tables, "b"), start=day(2))
    assert json.dumps(await ids(tables, f"{VIEW}_all")) == '["txn_1", "txn_2"]'


def test_a_load_may_take_longer_the_larger_its_file() -> None:
    from app.tables.load_file import _seconds

    assert (_seconds(0), _seconds(1024**3)) == (60, 60 + 256)
    assert timedelta(seconds=_seconds(1024**3)) > timedelta(minutes=5)
