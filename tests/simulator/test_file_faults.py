"""Files over the wire: whole, in parts, and broken in every way that a client has to notice."""

import gzip
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.simulator import Simulator
from app.simulator.reports.csv_files import Content, Stretch
from tests.simulator.asking import ITEMIZED, a_day, finished


@pytest.fixture
async def result(client: httpx.AsyncClient, simulator: Simulator) -> httpx.URL:
    """Where a finished report's file is."""
    return httpx.URL((await finished(client, a_day(simulator, report_type=ITEMIZED)))["result"]["url"])


def whole(simulator: Simulator) -> bytes:
    return simulator.content(simulator.files[0])


async def collect(answer: httpx.Response, pieces: list[bytes]) -> None:
    async for piece in answer.aiter_bytes():
        pieces.append(piece)


async def test_a_file_comes_whole_with_its_length(
    client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL
) -> None:
    answer = await client.get(result)

    assert answer.content == whole(simulator)
    assert answer.headers["Content-Length"] == str(simulator.files[0].size)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=5-99999999", slice(5, None)),
    ],
)
async def test_a_range_can_be_requested(
    client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL, wanted: str, part: slice
) -> None:
    answer = await client.get(result, headers={"Range": wanted})

    size = simulator.files[0].size
    start, stop, _ = part.indices(size)
    assert answer.status_code == 206
    assert answer.content == whole(simulator)[part]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"


async def test_a_part_behind_the_end_is_416(client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL) -> None:
    size = simulator.files[0].size

    answer = await client.get(result, headers={"Range": f"bytes={size}-"})

    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")


async def test_a_part_of_another_file_is_not_continued(client: httpx.AsyncClient, result: httpx.URL) -> None:
    first = await client.get(result, headers={"Range": "bytes=0-9"})
    same = {"Range": "bytes=10-", "If-Range": first.headers["ETag"]}
    other = {"Range": "bytes=10-", "If-Range": '"file_other"'}

    assert (await client.get(result, headers=same)).status_code == 206
    assert (await client.get(result, headers=other)).status_code == 200


async def test_ranges_can_be_switched_off(client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL) -> None:
    simulator.configure(ranges=False)

    answer = await client.get(result, headers={"Range": "bytes=0-9"})

    assert (answer.status_code, answer.content) == (200, whole(simulator))


async def test_a_cut_file_promises_more_than_it_sends(
    client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL
) -> None:
    simulator.inject("file_cut", bytes=100)
    got: list[bytes] = []

    async with client.stream("GET", result) as answer:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await collect(answer, got)

    assert answer.headers["Content-Length"] == str(simulator.files[0].size)
    assert b"".join(got) == whole(simulator)[:100]


async def test_the_rest_of_a_cut_file_can_be_fetched(
    client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL
) -> None:
    simulator.inject("file_cut", bytes=50)
    simulator.inject("file_cut", bytes=0)

    for headers in ({"Range": "bytes=20-"}, {"Range": "bytes=70-"}):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(result, headers=headers)
    rest = await client.get(result, headers={"Range": "bytes=70-"})

    assert rest.content == whole(simulator)[70:]


async def test_a_silently_cut_file_looks_complete(
    client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL
) -> None:
    simulator.inject("file_cut_silently", bytes=100)

    answer = await client.get(result)

    assert "Content-Length" not in answer.headers
    assert answer.content == whole(simulator)[:100]
    assert (await client.get(result)).content == whole(simulator)


async def test_a_file_may_be_shorter_longer_or_empty(
    client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL
) -> None:
    simulator.inject("file_short", bytes=99)
    simulator.inject("file_long", bytes=7, after=1)
    simulator.inject("file_empty", after=2)

    short, long, empty = [await client.get(result) for _ in range(3)]

    assert [len(answer.content) for answer in (short, long, empty)] == [99, simulator.files[0].size + 7, 0]
    assert [answer.headers["Content-Length"] for answer in (short, empty)] == ["99", "0"]
    assert long.content.startswith(whole(simulator))


async def test_a_file_may_come_in_chunks_without_a_length(
    client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL
) -> None:
    simulator.inject("file_chunked")

    answer = await client.get(result)

    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers
    assert answer.content == whole(simulator)


async def test_a_file_may_be_squeezed_on_the_wire(
    client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL
) -> None:
    simulator.inject("file_gzip")

    async with client.stream("GET", result, headers={"Accept-Encoding": "identity"}) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])

    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(raw) == whole(simulator)


async def test_a_file_may_be_gone(client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL) -> None:
    simulator.inject("file_gone")

    assert [(await client.get(result)).status_code for _ in range(2)] == [404, 200]


async def test_a_redirect_names_the_place(client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL) -> None:
    simulator.inject("file_redirect", url="http://127.0.0.1:9/elsewhere")

    answer = await client.get(result)

    assert (answer.status_code, answer.headers["Location"]) == (302, "http://127.0.0.1:9/elsewhere")


async def test_a_slow_file_trickles(client: httpx.AsyncClient, simulator: Simulator, result: httpx.URL) -> None:
    size = simulator.files[0].size
    simulator.inject("file_slow", bytes=size // 4 + 1, seconds=0.1)

    started = time.monotonic()
    answer = await client.get(result)

    assert answer.content == whole(simulator)
    assert time.monotonic() - started >= 0.4


@given(
    head=st.binary(max_size=9),
    block=st.binary(min_size=1, max_size=5),
    per_group=st.integers(1, 4),
    copies=st.integers(0, 12),
    tail=st.binary(max_size=9),
    data=st.data(),
)
def test_any_part_of_repeated_content_is_the_part_of_the_whole(
    head: bytes, block: bytes, per_group: int, copies: int, tail: bytes, data: st.DataObject
) -> None:
    middle = Stretch(block * per_group, len(block) * copies)
    content = Content((Stretch.of(head), middle, Stretch.of(tail)))
    everything = head + block * copies + tail
    start = data.draw(st.integers(0, len(everything)))
    end = data.draw(st.integers(start, len(everything)))

    assert content.size == len(everything)
    assert b"".join(content.chunks(start, end)) == everything[start:end]
