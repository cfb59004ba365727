"""Files in an object store: the same promises, on a folder and on a server that speaks S3."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import Overtaken, SettingsError
from app.files import objects
from app.files.backends import backend_of
from app.files.store import FileStore
from app.resources import Resources, open_resources
from app.runs import manual
from app.runs.download import download
from app.simulator import Simulator
from app.stripe_api.file_answers import OpenFile
from app.upkeep.retention import remove_old_files
from tests.api.conftest import client_of
from tests.files.stores import BUCKET, Store, environ_of, s3_server
from tests.runs.ready import claim_download, content, one_ready_run
from tests.runs.stories import database_of, everything_is_due, leases_run_out, one_due_run, stored_bytes
from tests.service import (
    REPORT_TYPE,
    download_due,
    execute,
    fetch,
    look_up_due,
    make_settings,
    only_run,
    request_due,
    until_found,
    work_off,
)

BIG = 20_000_000


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    objects._store.cache_clear()
    if request.param == "folder":
        yield Store(f"file://{tmp_path}/files")
    else:
        endpoint = request.getfixturevalue("s3")
        for name, value in environ_of(endpoint).items():
            monkeypatch.setenv(name, value)
        yield Store(f"s3://{BUCKET}/{uuid.uuid4().hex}", endpoint)
    objects._store.cache_clear()


@pytest.fixture
async def res(database_url: str, simulator: Simulator, store: Store) -> AsyncIterator[Resources]:
    settings = make_settings(database_url, simulator, TALLYHOOK_FILE_STORE=store.url)
    async with open_resources(settings, random=lambda: 0.0) as res:
        yield res


async def one_ready_file(res: Resources, simulator: Simulator, *, size: int) -> None:
    await one_due_run(res, simulator)
    simulator.add_report_type(REPORT_TYPE, bytes=size)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)


async def swept(res: Resources) -> None:
    """A day later, whatever was given up has been swept."""
    await remove_old_files(res)
    await execute(res, "update dropped_objects set dropped_at = dropped_at - interval '25 hours'")
    await remove_old_files(res)
    assert await fetch(res, "select 1 from dropped_objects") == []


async def test_a_report_lies_plain_under_a_readable_key(res: Resources, simulator: Simulator, store: Store) -> None:
    await one_due_run(res, simulator)
    await work_off(res)

    ((key, stored),) = store.objects().items()
    (file,) = await fetch(res, "select * from files")
    name = f"{REPORT_TYPE}_default_2026-03-01_2026-03-01_UTC_{file['run_id'].hex[-12:]}"
    assert key == f"default/{REPORT_TYPE}/{name}.{file['id']}.csv"
    assert stored == content(simulator)
    assert file["location"] == f"{store.url}/{key}"
    assert (file["size"], file["line_count"]) == (len(stored), stored.count(b"\n"))
    assert await fetch(res, "select 1 from file_chunks") == []


async def test_the_api_serves_it_as_before(res: Resources, simulator: Simulator, store: Store) -> None:
    await one_ready_file(res, simulator, size=BIG)
    await download_due(res)
    run = await only_run(res)
    url = f"/v1/runs/{run['id']}/file"

    async with client_of(res) as api:
        whole = await api.get(url, headers={"Accept-Encoding": "zstd"})
        part = await api.get(url, headers={"Range": "bytes=4194300-4194310"})
        outside = await api.get(url, headers={"Range": f"bytes={BIG}-"})
        head = await api.head(url)
        shown = (await api.get(f"/v1/runs/{run['id']}")).json()

    assert (whole.status_code, whole.content) == (200, content(simulator))
    assert "content-encoding" not in whole.headers
    assert (part.status_code, part.content) == (206, content(simulator)[4194300:4194311])
    assert outside.status_code == 416
    assert head.headers["content-length"] == str(BIG)
    assert shown["file"]["location"].startswith(store.url)


async def test_an_empty_file_is_an_empty_object(res: Resources, simulator: Simulator, store: Store) -> None:
    await one_ready_run(res, simulator)
    await execute(res, "update attempts set file_size = 0")
    simulator.inject("file_empty")

    await download_due(res)

    assert list(store.objects().values()) == [b""]
    assert await stored_bytes(res) == b""


async def test_a_download_with_much_progress_is_resumed(res: Resources, simulator: Simulator, store: Store) -> None:
    await one_ready_file(res, simulator, size=BIG)
    simulator.inject("file_cut", bytes=5_000_000, times=3)

    await download_due(res)

    assert list(store.objects().values()) == [content(simulator)]
    await swept(res)
    assert store.unfinished() == 0


@pytest.mark.parametrize("fault", ["file_cut", "file_short", "file_long"])
async def test_a_broken_write_starts_again_and_leaves_nothing(
    res: Resources, simulator: Simulator, store: Store, fault: str
) -> None:
    await one_ready_file(res, simulator, size=BIG)
    if fault == "file_cut":
        simulator.inject("file_cut", bytes=12_000_000)
        simulator.inject("file_cut", bytes=0)
    else:
        simulator.inject(fault)  # type: ignore[arg-type]
    await download_due(res)
    assert (await only_run(res))["state"] == "ready"
    assert store.objects() == {}
    assert store.unfinished() == 0

    await everything_is_due(res)
    await download_due(res)
    await swept(res)

    assert list(store.objects().values()) == [content(simulator)]
    assert await stored_bytes(res) == content(simulator)


async def test_a_server_that_sends_the_whole_file_again_is_accepted(
    res: Resources, simulator: Simulator, store: Store
) -> None:
    simulator.configure(ranges=False)
    await one_ready_file(res, simulator, size=BIG)
    simulator.inject("file_cut", bytes=12_000_000)

    await download_due(res)
    await swept(res)

    assert list(store.objects().values()) == [content(simulator)]


async def test_a_writer_stopped_or_killed_in_the_middle_leaves_nothing(
    res: Resources, simulator: Simulator, store: Store
) -> None:
    await one_ready_file(res, simulator, size=BIG)
    simulator.inject("file_slow", seconds=0.02, bytes=256 * 1024)
    stopped = asyncio.create_task(download(res, await claim_download(res)))
    await until_found(res, "select 1 from files")
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    assert store.unfinished() == 0
    # A worker that is killed has time for nothing: what it leaves is its row, and perhaps an object.
    (file,) = await fetch(res, "select location from files")
    await backend_of(file["location"]).put(file["location"], b"as far as it came", media_type="text/csv")

    await leases_run_out(res)
    await download_due(res)
    await swept(res)

    assert list(store.objects().values()) == [content(simulator)]


def _left_by_a_kill(location: str) -> tuple[Path, Path]:
    """A folder's writer renames its file at the end; a killed one leaves it under another name. And beside it a file
    that is not ours."""
    left = Path(f"{location.removeprefix('file://')}#1")
    beside = left.with_name(left.name + "-of-somebody-else")
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"as far as it came")
    beside.write_bytes(b"not ours")
    return left, beside


@pytest.mark.parametrize("store", ["folder"], indirect=True)
async def test_what_a_killed_upload_leaves_in_a_folder_is_swept(
    res: Resources, simulator: Simulator, store: Store
) -> None:
    await one_ready_file(res, simulator, size=BIG)
    simulator.inject("file_slow", seconds=0.02, bytes=256 * 1024)
    stopped = asyncio.create_task(download(res, await claim_download(res)))
    await until_found(res, "select 1 from files")
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    (file,) = await fetch(res, "select location from files")
    left, beside = _left_by_a_kill(file["location"])

    await leases_run_out(res)
    await download_due(res)
    assert os.path.exists(left)  # noqa: ASYNC240
    await swept(res)

    assert (os.path.exists(left), os.path.exists(beside)) == (False, True)  # noqa: ASYNC240
    assert await stored_bytes(res) == content(simulator)


async def test_an_unknown_kind_of_store_is_refused_with_the_known_ones(res: Resources) -> None:
    with pytest.raises(
        SettingsError, match=r"TALLYHOOK_FILE_STORE: ftp:// is not supported .* s3://, gs://, az://, file://"
    ):
        FileStore(res.sessions, "ftp://host/files")


async def test_what_was_cancelled_leaves_nothing(res: Resources, simulator: Simulator, store: Store) -> None:
    await one_ready_run(res, simulator)
    run = await only_run(res)
    claim = await claim_download(res)
    async with res.sessions.begin() as session:
        await manual.cancel(session, run["id"], by="a test")

    with pytest.raises(Overtaken):
        await download(res, claim)
    await swept(res)

    assert store.objects() == {}


def opening_slowly(res: Resources, at_work: asyncio.Event, go_on: asyncio.Event) -> Callable[..., Any]:
    """As `open_file`, but after the first piece nothing comes until `go_on` is set."""
    open_file = res.stripe.open_file

    async def slowly(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece
            at_work.set()
            await go_on.wait()

    @asynccontextmanager
    async def opening(*what: Any, **how: Any) -> AsyncIterator[OpenFile]:
        async with open_file(*what, **how) as stream:
            yield replace(stream, pieces=slowly(stream.pieces))

    return opening


async def test_a_slow_writer_neither_overwrites_its_successor_nor_leaves_anything(
    res: Resources, simulator: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_ready_run(res, simulator)
    slow = await claim_download(res)
    at_work, go_on = asyncio.Event(), asyncio.Event()
    slowly = asyncio.create_task(download(res, slow))
    with monkeypatch.context() as held:
        held.setattr(res.stripe, "open_file", opening_slowly(res, at_work, go_on))
        await at_work.wait()
    await leases_run_out(res)
    successor = await claim_download(res)
    await download(res, successor)
    go_on.set()
    with pytest.raises(Overtaken):
        await slowly
    await swept(res)

    assert list(store.objects().values()) == [content(simulator)]
    assert await stored_bytes(res) == content(simulator)


async def test_an_object_that_comes_after_the_first_sweep_goes_with_the_second(res: Resources, store: Store) -> None:
    where = f"{store.url}/default/late.csv"
    await execute(res, "insert into dropped_objects (location) values (:where)", where=where)
    await remove_old_files(res)
    await backend_of(where).put(where, b"late", media_type="text/csv")

    await remove_old_files(res)
    assert len(store.objects()) == 1
    await swept(res)

    assert store.objects() == {}


async def test_retention_deletes_the_object(res: Resources, simulator: Simulator, store: Store) -> None:
    await one_due_run(res, simulator, retention_days=7)
    await work_off(res)
    await execute(res, "update files set stored_at = now() - interval '8 days'")

    await remove_old_files(res)

    assert store.objects() == {}
    (file,) = await fetch(res, "select purged_at, sha256 from files")
    assert file["purged_at"] is not None
    assert file["sha256"] is not None
    async with client_of(res) as api:
        assert (await api.get(f"/v1/runs/{(await only_run(res))['id']}/file")).status_code == 410


async def test_older_files_stay_readable_wherever_new_ones_go(
    res: Resources, simulator: Simulator, store: Store
) -> None:
    await one_ready_run(res, simulator)
    await download_due(res)

    async with open_resources(make_settings(database_of(res), simulator)) as without:
        assert without.files.base is None
        assert await stored_bytes(without) == content(simulator)
        async with client_of(without) as api:
            answer = await api.get(f"/v1/runs/{(await only_run(res))['id']}/file")
    assert answer.content == content(simulator)


async def test_pieces_in_the_database_are_dropped_where_the_file_now_goes_elsewhere(
    res: Resources, simulator: Simulator, store: Store
) -> None:
    await one_ready_run(res, simulator)
    simulator.inject("file_cut", bytes=1000)
    async with open_resources(make_settings(database_of(res), simulator), random=lambda: 0.0) as without:
        await download_due(without)
    assert len(await fetch(res, "select 1 from file_chunks")) == 1

    await everything_is_due(res)
    await download_due(res)

    assert list(store.objects().values()) == [content(simulator)]
    assert await fetch(res, "select 1 from file_chunks") == []


@pytest.mark.parametrize("store", ["s3"], indirect=True)
@pytest.mark.parametrize("size", [1_000_000, BIG])
async def test_a_run_waits_for_a_store_that_is_away(
    res: Resources, simulator: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    await one_ready_file(res, simulator, size=size)
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
        objects._store.cache_clear()
        await download_due(res)
        run = await only_run(res)
        assert (run["state"], run["attempt"], run["tries"], run["crashes"]) == ("ready", 1, 1, 0)
        assert (await fetch(res, "select mismatches from attempts"))[0]["mismatches"] == 0
    objects._store.cache_clear()

    await everything_is_due(res)
    await download_due(res)

    assert list(store.objects().values()) == [content(simulator)]


@pytest.mark.parametrize("store", ["s3"], indirect=True)
async def test_a_reader_gets_503_while_the_store_is_away(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_ready_run(res, simulator)
    await download_due(res)
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    objects._store.cache_clear()

    async with client_of(res) as api:
        answer: httpx.Response = await api.get(f"/v1/runs/{(await only_run(res))['id']}/file")

    assert (answer.status_code, answer.json()["detail"]) == (503, "the file store is not answering; try again")
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("store", ["folder"], indirect=True)
async def test_without_the_extra_the_start_says_what_to_install(
    res: Resources, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    objects._store.cache_clear()

    with pytest.raises(SettingsError, match=r"TALLYHOOK_FILE_STORE: needs obstore.*requirements/run\.txt"):
        FileStore(res.sessions, store.url)
