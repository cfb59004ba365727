"""The bytes of a file over HTTP: whole, in ranges, and not at all."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import date

import httpx
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.files.chunker import CHUNK_BYTES
from app.resources import POOL_SIZE, Resources
from tests.api.conftest import client_of, listening
from tests.files import stored
from tests.files.stored import one_run
from tests.service import ADMIN_TOKEN, add_rule, execute, fetch, only_run, until_found, work_off

# Three chunks and a bit, whose boundaries matter.
CONTENT = os.urandom(CHUNK_BYTES) + b"a,b\n" * CHUNK_BYTES
SIZE = len(CONTENT)
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


async def store(res: Resources, content: bytes) -> str:
    """A run whose file holds these bytes; returns its URL."""
    run_id = await one_run(res)
    await stored.store(res, run_id, content)
    return f"/v1/runs/{run_id}/file"


@pytest.fixture
async def api(res: Resources) -> AsyncIterator[httpx.AsyncClient]:
    """A client that says nothing about encodings."""
    async with client_of(res) as client:
        del client.headers["accept-encoding"]
        yield client


@pytest.fixture
async def url(res: Resources) -> str:
    return await store(res, CONTENT)


async def test_the_whole_file_is_sent_with_all_headers_that_a_client_needs(api: httpx.AsyncClient, url: str) -> None:
    answer = await api.get(url)

    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["etag"] == ETAG
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="a.b_default.csv"'


async def test_a_real_report_has_a_readable_name(res: Resources, api: httpx.AsyncClient) -> None:
    await add_rule(res, starts_on=date(2026, 2, 28))
    await work_off(res)
    run = await only_run(res)

    answer = await api.get(f"/v1/runs/{run['id']}/file")

    name = f"balance_change_from_activity.itemized.7_default_2026-02-28_2026-02-28_UTC_{run['id'].hex[-12:]}.csv"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert hashlib.sha256(answer.content).hexdigest() == answer.headers["etag"].strip('"')


async def test_head_sends_the_same_headers_without_the_bytes(api: httpx.AsyncClient, url: str) -> None:
    got, asked = await api.get(url), await api.head(url, headers={"Range": "bytes=0-1"})

    assert (asked.status_code, asked.content) == (200, b"")
    different = {"x-request-id"}
    assert {name: value for name, value in asked.headers.items() if name not in different} == {
        name: value for name, value in got.headers.items() if name not in different
    }


def sliced(header: str, size: int) -> tuple[int, int] | None:
    """What RFC 9110 makes of `bytes=…`, written differently from the code: (first, last), or None."""
    wanted = header.removeprefix("bytes=")
    if wanted.startswith("-"):
        numbers = range(size)[-int(wanted[1:]) :] if int(wanted[1:]) else range(0)
    else:
        first, last = wanted.split("-")
        numbers = range(size)[int(first) : int(last) + 1 if last else size]
    return (numbers[0], numbers[-1]) if numbers else None


edges = st.sampled_from([0, 1, 2, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, SIZE - 1, SIZE, SIZE + 1, 10**17])
numbers = st.one_of(edges, st.integers(0, SIZE + 10))
ranges = st.one_of(
    st.tuples(numbers, numbers).map(lambda pair: f"bytes={min(pair)}-{max(pair)}"),
    numbers.map(lambda first: f"bytes={first}-"),
    numbers.map(lambda last: f"bytes=-{last}"),
)


@settings(max_examples=100)
@given(header=ranges)
@example(header="bytes=0-0")
@example(header="bytes=-0")
async def test_a_range_is_a_slice(api: httpx.AsyncClient, url: str, header: str) -> None:
    answer = await api.get(url, headers={"Range": header})

    expected = sliced(header, SIZE)
    if expected is None:
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{SIZE}")
        return
    first, last = expected
    assert (answer.status_code, answer.content) == (206, CONTENT[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["content-length"] == str(last - first + 1)


async def test_an_empty_file_is_served_and_has_no_range(res: Resources, api: httpx.AsyncClient) -> None:
    url = await store(res, b"")

    whole = await api.get(url)
    part = await api.get(url, headers={"Range": "bytes=0-"})

    assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, b"", "0")
    assert part.status_code == 416


async def test_anything_but_a_single_range_is_answered_with_the_whole_file(api: httpx.AsyncClient, url: str) -> None:
    for header in (
        "bytes=5-2",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes 0-1",
        "bytes=" + "9" * 99 + "-",
    ):
        answer = await api.get(url, headers={"Range": header})
        assert (answer.status_code, len(answer.content)) == (200, SIZE), header


async def test_a_range_is_sent_only_from_the_same_file(api: httpx.AsyncClient, url: str) -> None:
    for tag, status in ((ETAG, 206), ('"other"', 200), (f"W/{ETAG}", 200), ("Sat, 21 Nov 2026 00:00:00 GMT", 200)):
        answer = await api.get(url, headers={"Range": "bytes=0-1", "If-Range": tag})
        assert answer.status_code == status, tag


async def test_a_file_that_the_client_has_is_not_sent_again(api: httpx.AsyncClient, url: str) -> None:
    for tags, status in ((ETAG, 304), (f"W/{ETAG}", 304), (f'"a", {ETAG}', 304), ("*", 304), ('"a"', 200)):
        answer = await api.get(url, headers={"If-None-Match": tags})
        assert (answer.status_code, answer.headers["etag"]) == (status, ETAG), tags
        assert answer.content == (b"" if status == 304 else CONTENT)


async def test_a_run_without_a_file_says_its_state(res: Resources, api: httpx.AsyncClient, url: str) -> None:
    await execute(res, "update runs set state = 'ready'")
    await execute(res, "update files set stored_at = null")
    partial = await api.get(url)
    await execute(res, "update files set stored_at = now(), removed_at = now()")
    removed = await api.get(url)

    assert (partial.status_code, removed.status_code) == (409, 410)
    assert "ready" in partial.json()["detail"]


@pytest.mark.parametrize("accept", ["", "Accept-Encoding: zstd\r\n"], ids=["plain", "zstd"])
async def test_readers_that_stall_hold_no_connection(res: Resources, api: httpx.AsyncClient, accept: str) -> None:
    url = await store(res, b"a,b\n" + os.urandom(16 * 2**20))  # more than the buffers of a socket take
    request = f"GET {url} HTTP/1.1\r\nHost: x\r\n{accept}Authorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode()
    async with listening(res) as port:
        stalled = [await asyncio.open_connection("127.0.0.1", port, limit=1024) for _ in range(3 * POOL_SIZE)]
        for reader, writer in stalled:
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")

        # More readers than connections, and still one connection for everybody else.
        assert len(await fetch(res, "select 1 from runs")) == 1
        assert (await api.get(url, headers={"Range": "bytes=0-3"})).content == b"a,b\n"
        for _, writer in stalled:
            writer.transport.abort()


# --- Accept-Encoding: zstd ---

ZSTD = f'{ETAG[:-1]}-zstd"'


async def raw(api: httpx.AsyncClient, url: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer, and its bytes as they came over the wire."""
    async with api.stream(
        "GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()}
    ) as got:
        return got, b"".join([piece async for piece in got.aiter_raw()])


async def test_the_stored_form_is_passed_on_to_clients_that_accept_it(
    res: Resources, api: httpx.AsyncClient, url: str
) -> None:
    answer, body = await raw(api, url, accept_encoding="zstd")

    assert (answer.status_code, answer.headers["content-encoding"]) == (200, "zstd")
    assert answer.headers["content-length"] == str(len(body))
    assert (answer.headers["etag"], answer.headers["vary"]) == (ZSTD, "Accept-Encoding")
    assert len(body) < SIZE
    with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
        assert reader.read() == CONTENT
    stored = await fetch(res, "select data from file_chunks where codec = 1 order by raw_start")
    assert body.endswith(b"".join(bytes(chunk["data"]) for chunk in stored)), "as they are, not compressed again"


async def test_clients_that_decode_it_automatically_see_the_file(api: httpx.AsyncClient, url: str) -> None:
    answer = await api.get(url, headers={"Accept-Encoding": "zstd, gzip;q=0.5"})

    assert answer.headers["content-encoding"] == "zstd"
    assert answer.content == CONTENT


async def test_the_head_of_the_compressed_file_is_that_of_its_bytes(api: httpx.AsyncClient, url: str) -> None:
    got, _ = await raw(api, url, accept_encoding="zstd")
    asked = await api.head(url, headers={"Accept-Encoding": "zstd"})

    for name in ("content-length", "content-encoding", "etag", "vary"):
        assert asked.headers[name] == got.headers[name]


async def test_each_form_has_a_tag_of_its_own(api: httpx.AsyncClient, url: str) -> None:
    for encoding, tag, status in (
        ("zstd", ZSTD, 304),
        ("zstd", ETAG, 200),
        ("gzip", ETAG, 304),
        ("gzip", ZSTD, 200),
    ):
        answer, _ = await raw(api, url, accept_encoding=encoding, if_none_match=tag)
        assert (answer.status_code, answer.headers["vary"]) == (status, "Accept-Encoding"), (encoding, tag)


async def test_a_part_is_a_part_of_the_original(api: httpx.AsyncClient, url: str) -> None:
    part, body = await raw(api, url, accept_encoding="zstd", range="bytes=1-5")
    other, whole = await raw(api, url, accept_encoding="zstd", range="bytes=1-5", if_range=ZSTD)

    assert (part.status_code, body, part.headers["etag"]) == (206, CONTENT[1:6], ETAG)
    assert (other.status_code, whole) == (200, CONTENT)
    assert "content-encoding" not in part.headers
    assert "content-encoding" not in other.headers


async def test_an_empty_file_is_not_compressed(res: Resources, api: httpx.AsyncClient) -> None:
    answer, body = await raw(api, await store(res, b""), accept_encoding="zstd")

    assert (answer.headers["content-length"], body) == ("0", b"")
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("compressed", [False, True])
async def test_readers_that_leave_in_the_middle_leave_nothing_behind(res: Resources, compressed: bool) -> None:
    url = await store(res, os.urandom(8 * 2**20))
    accept = "Accept-Encoding: zstd\r\n" if compressed else ""
    request = f"GET {url} HTTP/1.1\r\nHost: x\r\n{accept}Authorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode()
    async with listening(res) as port:
        for _ in range(2 * POOL_SIZE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()

        await until_found(
            res, "select 1 where not exists (select 1 from pg_stat_activity"
            " where datname = current_database() and state like 'idle in%')",
        )  # fmt: skip
    assert res.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # the pool's own count
