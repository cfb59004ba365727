"""Retention: bytes go when their time is over, the record stays, and a reader meanwhile gets no wrong byte."""

import asyncio
import os
import uuid
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import Gone, NotNow
from app.files import database, removal
from app.files.chunker import CHUNK_BYTES
from app.health.judge import judge
from app.resources import Resources
from app.simulator import Simulator
from app.upkeep import retention
from app.upkeep.retention import remove_old_files
from tests.api.conftest import client_of, listening
from tests.files.stored import one_run, store
from tests.files.test_files import read
from tests.runs.stories import another_process
from tests.service import ADMIN_TOKEN, add_rule, execute, fetch, only_run, timetable_due, work_off

CONTENT = os.urandom(3 * CHUNK_BYTES)


async def stored_days_ago(res: Resources, days: int, *, rule_id: uuid.UUID | None = None) -> uuid.UUID:
    """A run whose file is so old."""
    run_id = await one_run(res)
    await execute(res, "update runs set rule_id = :rule_id, window_key = :key where id = :id", rule_id=rule_id,
                  key=str(run_id), id=run_id)  # fmt: skip
    await store(res, run_id, CONTENT, rule_id=rule_id)
    await older(res, run_id, days)
    return run_id


async def older(res: Resources, run_id: uuid.UUID, days: int) -> None:
    await execute(
        res,
        "update files set stored_at = now() - make_interval(days => :days) where run_id = :id",
        days=days,
        id=run_id,
    )


async def removed(res: Resources) -> set[uuid.UUID]:
    return {row["run_id"] for row in await fetch(res, "select run_id from files where removed_at is not null")}


async def chunks_left(res: Resources) -> int:
    return len(await fetch(res, "select 1 from file_chunks"))


async def test_by_default_everything_is_kept(res: Resources) -> None:
    await stored_days_ago(res, 10_000)

    assert await remove_old_files(res) is False

    assert await removed(res) == set()
    assert await chunks_left(res) == 3


async def test_the_rules_retention_overrides_the_settings(res: Resources, simulator: Simulator) -> None:
    short = await add_rule(res, name="short", retention_days=5)
    silent = await add_rule(res, name="silent")
    long = await add_rule(res, name="long", retention_days=400)
    files = {
        (rule.name if rule else None, days): await stored_days_ago(res, days, rule_id=rule.id if rule else None)
        for rule in (short, silent, long, None)
        for days in (4, 6, 29, 31, 401)
    }

    async with another_process(res, simulator, TALLYHOOK_RETENTION_DAYS=30) as with_setting:
        await remove_old_files(with_setting)

    gone = {which for which, run_id in files.items() if run_id in await removed(res)}
    assert gone == {
        *(("short", days) for days in (6, 29, 31, 401)),
        *((name, days) for name in ("silent", None) for days in (31, 401)),
        ("long", 401),
    }
    assert await chunks_left(res) == 3 * (len(files) - len(gone))
    reasons = {row["removed_reason"] for row in await fetch(res, "select removed_reason from files")}
    assert reasons == {
        None, "kept for 5 days, as its rule says", "kept for 400 days, as its rule says",
        "kept for 30 days, as TALLYHOOK_RETENTION_DAYS says",
    }  # fmt: skip


async def test_the_record_stays_and_says_why(res: Resources) -> None:
    await add_rule(res, starts_on=date(2026, 2, 28), retention_days=7)
    await work_off(res)
    run = await only_run(res)
    async with client_of(res) as api:
        before = (await api.get(f"/v1/runs/{run['id']}")).json()
        await older(res, run["id"], 8)
        await remove_old_files(res)
        after = (await api.get(f"/v1/runs/{run['id']}")).json()
        bytes_asked = await api.get(f"/v1/runs/{run['id']}/file")
        (entry,) = (await api.get("/v1/audit?action=file.removed")).json()["data"]
        scraped = (await api.get("/metrics")).text

    changed = {name for name, value in after["file"].items() if value != before["file"][name]}
    assert changed == {"stored_at", "removed_at", "removed_reason"}, "the test itself made it older"
    assert (after["state"], after["history"]) == ("stored", before["history"])
    assert bytes_asked.status_code == 410
    assert "kept for 7 days, as its rule says" in bytes_asked.json()["detail"]
    assert (entry["actor"], entry["subject"]) == ("retention", str(run["id"]))
    assert entry["before"]["sha256"] == before["file"]["sha256"]
    assert 'tallyhook_removed_files_total{account="default"} 1.0' in scraped
    assert f'tallyhook_removed_bytes_total{{account="default"}} {before["file"]["size"]}' in scraped
    assert "tallyhook_file_chunks_bytes" in scraped


async def test_the_file_of_a_deleted_rule_goes_when_the_rule_said(res: Resources) -> None:
    rule = await add_rule(res, retention_days=7)
    run_id = await stored_days_ago(res, 8, rule_id=rule.id)
    await execute(res, "update rules set deleted_at = now(), enabled = false")

    await remove_old_files(res)

    assert await removed(res) == {run_id}


async def test_retention_leaves_partial_files_alone(res: Resources) -> None:
    rule = await add_rule(res, retention_days=1)
    run_id = await stored_days_ago(res, 8, rule_id=rule.id)
    await execute(res, "update files set stored_at = null, started_at = now() - interval '8 days'")

    await remove_old_files(res)

    assert await removed(res) == set()
    assert await read(res, run_id, 0, len(CONTENT)) == CONTENT


async def test_a_process_that_dies_after_the_mark_leaves_the_rest_to_the_next(
    res: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = await add_rule(res, retention_days=7)
    await stored_days_ago(res, 8, rule_id=rule.id)
    monkeypatch.setattr(removal, "CHUNKS_AT_ONCE", 1)

    class Killed(Exception):
        pass

    async def die(*_: Any, **__: Any) -> int:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(database, "delete", die)
        with pytest.raises(Killed):
            await remove_old_files(res)
    assert len(await removed(res)) == 1
    assert await chunks_left(res) == 3
    await remove_old_files(res)

    assert await chunks_left(res) == 0
    (file,) = await fetch(res, "select purged_at from files")
    assert file["purged_at"] is not None
    assert len(await fetch(res, "select 1 from audit where action = 'file.removed'")) == 1


async def test_much_of_it_is_done_in_turns(res: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = await add_rule(res, retention_days=7)
    for _ in range(3):
        await stored_days_ago(res, 8, rule_id=rule.id)
    monkeypatch.setattr(retention, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(retention, "SECONDS_AT_ONCE", 0.0)
    await execute(res, "insert into timetable (name, due_at) values ('retention', now())")

    turns = 0
    while await timetable_due(res):
        turns += 1

    assert turns > 3
    assert await chunks_left(res) == 0
    assert len(await removed(res)) == 3
    (entry,) = await fetch(res, "select due_at > now() + interval '59 minutes' as later from timetable"
                                " where name = 'retention'")  # fmt: skip
    assert entry["later"]


async def in_health(res: Resources, name: str) -> tuple[str, str]:
    (found,) = [one for one in (await judge(res.sessions, res.settings)).checks if one.name == name]
    return found.status, found.detail


async def placed(res: Resources, run_id: uuid.UUID, location: str) -> None:
    await execute(res, "update files set location = :location where run_id = :id", location=location, id=run_id)


async def test_a_store_that_does_not_delete_holds_up_nothing_else(
    res: Resources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retention, "FILES_AT_ONCE", 2)
    rule = await add_rule(res, retention_days=7)
    away, works = tmp_path / "away", tmp_path / "works"
    away.write_text("not a folder")
    works.mkdir()
    (works / "a.csv").write_bytes(b"a")
    (works / "dropped.csv").write_bytes(b"dropped")
    stuck = [await stored_days_ago(res, 90, rule_id=rule.id) for _ in range(5)]
    elsewhere, inside, later = [await stored_days_ago(res, 8, rule_id=rule.id) for _ in range(3)]
    for run_id in stuck:
        await placed(res, run_id, f"file://{away}/{run_id}.csv")
    await placed(res, elsewhere, f"file://{works}/a.csv")
    await execute(
        res,
        "update files set removed_at = now() - interval '5 hours' where run_id = any(:ids)",
        ids=[*stuck, elsewhere, inside],
    )
    await execute(
        res,
        "insert into dropped_objects (location) values (:away), (:works)",
        away=f"file://{away}/dropped.csv",
        works=f"file://{works}/dropped.csv",
    )

    with pytest.raises(NotNow, match="the file store failed"):
        await remove_old_files(res)

    purged = await fetch(res, "select run_id from files where purged_at is not null")
    assert {row["run_id"] for row in purged} == {elsewhere, inside, later}
    assert list(works.iterdir()) == []
    swept = await fetch(res, "select location from dropped_objects where deleted_at is not null")
    assert [row["location"] for row in swept] == [f"file://{works}/dropped.csv"]
    assert await in_health(res, "removed_files") == (
        "degraded", "the bytes of 5 removed files are still there, the oldest was removed 5 hours ago"
    )  # fmt: skip

    away.unlink()
    assert await remove_old_files(res) is False
    assert await in_health(res, "removed_files") == ("ok", "the bytes of every removed file are deleted")


async def kept_by_its_store(res: Resources, store: Path, *, number: int) -> list[Path]:
    """Removed files and abandoned objects that a store refuses to delete, and newer ones that it deletes: these."""
    rule = await add_rule(res, retention_days=7)
    files, dropped = store / "files", store / "dropped"
    for folder in (files, dropped):
        folder.mkdir()
        for name in range(number):
            (folder / f"{name}.csv").mkdir()
        (folder / "last.csv").write_bytes(b"erased")
    for name in (*range(number), "last"):
        run_id = await stored_days_ago(res, 1, rule_id=rule.id)
        await placed(res, run_id, f"file://{files}/{name}.csv")
        await execute(
            res,
            "update files set removed_at = clock_timestamp() - interval '5 hours' where run_id = :run_id",
            run_id=run_id,
        )
        await execute(res, "insert into dropped_objects (location) values (:at)", at=f"file://{dropped}/{name}.csv")
    return [files / "last.csv", dropped / "last.csv"]


async def test_objects_that_a_store_refuses_to_delete_keep_no_other_from_being_removed(
    res: Resources, tmp_path: Path
) -> None:
    deletable = await kept_by_its_store(res, tmp_path, number=4)

    with pytest.raises(NotNow, match="the file store failed"):
        await remove_old_files(res)

    assert not any(path.exists() for path in deletable)
    assert len(await fetch(res, "select 1 from files where purged_at is not null")) == 1


async def test_a_round_does_not_begin_with_what_the_store_kept_in_the_last_one(
    res: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletable = await kept_by_its_store(res, tmp_path, number=2)
    monkeypatch.setattr(removal, "MOST_REFUSED", 1)
    monkeypatch.setattr(removal, "OBJECTS_AT_ONCE", 1)
    monkeypatch.setattr(retention, "FILES_AT_ONCE", 1)

    for _ in range(200):
        with pytest.raises(NotNow):
            await remove_old_files(res)
        if not any(path.exists() for path in deletable):
            return
    pytest.fail("something that can be deleted is still there")


async def test_a_store_that_costs_much_time_is_asked_no_more_in_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "MOST_SECONDS", 0.0)
    away, works = tmp_path / "away", tmp_path / "works"
    for folder in (away, works):
        folder.mkdir()
        (folder / "a.csv").write_bytes(b"a")
    (away / "stuck.csv").mkdir()
    deleter = removal.Deleter()

    deleted = [await deleter.delete(f"file://{tmp_path}/{name}") for name in ("away/stuck.csv", "away/a.csv")]

    assert (deleted, (away / "a.csv").exists()) == ([False, False], True)
    assert deleter.skipped == [f"file://{away}/"]  # queries compare each file with all of these
    assert await deleter.delete(f"file://{works}/a.csv")


async def test_two_processes_at_once_remove_each_file_once(res: Resources, simulator: Simulator) -> None:
    rule = await add_rule(res, retention_days=7)
    for _ in range(10):
        await stored_days_ago(res, 8, rule_id=rule.id)

    async with another_process(res, simulator) as other:
        await asyncio.gather(remove_old_files(res), remove_old_files(other))

    assert len(await fetch(res, "select 1 from audit where action = 'file.removed'")) == 10
    assert await chunks_left(res) == 0


async def test_a_file_that_is_removed_while_it_is_read_ends_in_a_clean_cut(res: Resources) -> None:
    rule = await add_rule(res, retention_days=7)
    run_id = await one_run(res)
    content = os.urandom(40 * 2**20)  # more than is on its way at once
    await store(res, run_id, content, rule_id=rule.id)

    async with listening(res) as port:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        url = f"http://127.0.0.1:{port}/v1/runs/{run_id}/file"
        received = b""
        async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", url, headers=headers) as answer:
            pieces = answer.aiter_raw()
            received += await anext(pieces)
            await older(res, run_id, 8)
            await remove_old_files(res)
            with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - what came before the cut is looked at
                async for piece in pieces:
                    received += piece

    assert len(received) < len(content)
    assert content.startswith(received)


async def test_a_reader_in_this_process_gets_an_error(res: Resources) -> None:
    rule = await add_rule(res, retention_days=7)
    run_id = await stored_days_ago(res, 8, rule_id=rule.id)
    await remove_old_files(res)

    with pytest.raises(Gone, match="removed while it was being read"):
        await read(res, run_id, 0, 10)


async def test_what_is_due_is_found_by_the_index_however_much_is_kept(res: Resources) -> None:
    rule = await add_rule(res, retention_days=7)
    await execute(res, """
        with runs as (
            insert into runs (id, account, report_type, parameters, state, attempts_granted, rule_id, window_key)
            select gen_random_uuid(), 'default', 'a.b', '{}', 'stored', 3, :rule_id, number::text
            from generate_series(1, 20000) as number returning id, rule_id
        )
        insert into files (id, run_id, rule_id, account, stripe_file_id, filename, media_type, size, stored_at)
        select gen_random_uuid(), id, rule_id, 'default', 'file_1', 'a.csv', 'text/csv', 1, now() from runs
    """, rule_id=rule.id)  # fmt: skip
    await execute(res, "analyze files")

    async with res.sessions.begin() as session:
        query = retention._DUE.text.replace(":days", "null").replace(":limit", "100")
        plan = (await session.connection()).exec_driver_sql(f"explain (analyze, costs off, timing off) {query}")
        lines = [row[0] for row in (await plan).all()]

    assert any("ix_files_kept" in line for line in lines)
    assert not any("Seq Scan on files" in line for line in lines), lines
