"""A broken download resumes where it stopped if the server cooperates, and otherwise starts again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Overtaken
from app.resources import Resources
from app.runs import manual
from app.runs.download import download
from app.simulator import Simulator
from tests.runs.ready import claim_download, content, one_ready_run
from tests.runs.stories import (
    another_process,
    attempts,
    everything_is_due,
    leases_run_out,
    one_due_run,
    stored_bytes,
)
from tests.service import REPORT_TYPE, download_due, execute, fetch, look_up_due, only_run, request_due, work_off

SIZE = 3_000_000
CUT = 700_001


async def one_ready_file(res: Resources, simulator: Simulator, *, size: int = SIZE) -> None:
    """A ready run whose file has this many bytes."""
    await one_due_run(res, simulator)
    simulator.add_report_type(REPORT_TYPE, bytes=size)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)


async def pieces(res: Resources) -> int:
    """How many bytes of partial files there are."""
    query = "select coalesce(sum(raw_size), 0) as bytes from file_chunks"
    (found,) = await fetch(res, query)
    return int(found["bytes"])


async def try_again(res: Resources) -> None:
    await everything_is_due(res)
    await download_due(res)


@dataclass(slots=True)
class FilesHost:
    """Stands before the simulator's files: notes the requested ranges, and may answer something else."""

    url: str = ""
    asked: list[str | None] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    behind: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        ranges = [line[7:] for line in head.decode().split("\r\n") if line.lower().startswith("range: ")]
        self.asked.append(ranges[0] if ranges else None)
        if self.answers:
            writer.write(self.answers.pop(0))
        else:
            await self._pass_on(head, writer)
        writer.close()

    async def _pass_on(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        host, port = self.behind.removeprefix("http://").split(":")
        upstream, to_upstream = await asyncio.open_connection(host, int(port))
        to_upstream.write(head[:-2] + b"Connection: close\r\n\r\n")
        while data := await upstream.read(65536):
            writer.write(data)
            await writer.drain()
        to_upstream.close()


@asynccontextmanager
async def files_host(res: Resources, simulator: Simulator) -> AsyncIterator[FilesHost]:
    """The simulator's files, through another host."""
    host = FilesHost(behind=simulator.base_url)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    res.stripe._files_base = host.url
    async with server:
        yield host


async def test_a_broken_download_fetches_only_the_rest(res: Resources, simulator: Simulator) -> None:
    await one_ready_file(res, simulator)
    async with files_host(res, simulator) as host:
        simulator.inject("file_cut", bytes=CUT)
        await download_due(res)
        assert (await only_run(res))["state"] == "ready"
        assert await pieces(res) == CUT
        await try_again(res)

    assert host.asked == [None, f"bytes={CUT}-"]
    assert await stored_bytes(res) == content(simulator)


async def test_a_download_with_much_progress_is_resumed_at_once(res: Resources, simulator: Simulator) -> None:
    await one_ready_file(res, simulator, size=20_000_000)
    async with files_host(res, simulator) as host:
        simulator.inject("file_cut", bytes=5_000_000, times=2)
        await download_due(res)

    assert host.asked == [None, "bytes=5000000-", "bytes=10000000-"]
    assert await stored_bytes(res) == content(simulator)


async def test_a_connection_that_breaks_at_the_same_place_every_time_waits_longer_each_time(
    res: Resources, simulator: Simulator
) -> None:
    simulator.configure(ranges=False)
    await one_ready_file(res, simulator, size=20_000_000)
    simulator.inject("file_cut", bytes=5_000_000, times=None)

    for _ in range(3):
        await try_again(res)

    run = await only_run(res)
    # The first connection brought something new; after that, what came was no longer new.
    assert (run["state"], run["tries"]) == ("ready", 3)
    assert simulator.world.journal.counts["file_contents"] == 4


async def test_another_process_resumes_where_the_first_one_stopped(res: Resources, simulator: Simulator) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=CUT)
    await download_due(res)

    async with another_process(res, simulator) as other, files_host(other, simulator) as host:
        await try_again(other)

    assert host.asked == [f"bytes={CUT}-"]
    assert await stored_bytes(res) == content(simulator)


async def test_a_server_that_sends_the_whole_file_instead_of_the_rest_is_accepted(
    res: Resources, simulator: Simulator
) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=CUT)
    await download_due(res)
    simulator.configure(ranges=False)

    async with files_host(res, simulator) as host:
        await try_again(res)

    assert host.asked == [f"bytes={CUT}-"]
    assert await stored_bytes(res) == content(simulator)
    assert await pieces(res) == SIZE


BODY = b"content-length: 9\r\n\r\n,,,,,,,,,"
UNFIT = {
    "another start": b"HTTP/1.1 206 P\r\ncontent-range: bytes 5-%d/%d\r\n" % (SIZE - 1, SIZE) + BODY,
    "another size": b"HTTP/1.1 206 P\r\ncontent-range: bytes %d-%d/%d\r\n" % (CUT, SIZE, SIZE + 1) + BODY,
    "not to the end": b"HTTP/1.1 206 P\r\ncontent-range: bytes %d-%d/%d\r\n" % (CUT, CUT + 8, SIZE) + BODY,
    "no range": b"HTTP/1.1 206 P\r\n" + BODY,
    "compressed": b"HTTP/1.1 206 P\r\ncontent-encoding: gzip\r\ncontent-range: bytes %d-%d/%d\r\n"
    % (CUT, SIZE - 1, SIZE)
    + BODY,
    "outside": b"HTTP/1.1 416 R\r\ncontent-range: bytes */5\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("unfit", UNFIT)
async def test_an_answer_that_is_not_the_rest_restarts_the_file(
    res: Resources, simulator: Simulator, unfit: str
) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=CUT)
    await download_due(res)

    async with files_host(res, simulator) as host:
        host.answers.append(UNFIT[unfit])
        await try_again(res)
        assert await fetch(res, "select 1 from files") == []
        assert await pieces(res) == 0
        assert (await attempts(res))[0]["mismatches"] == 0
        await try_again(res)

    assert host.asked == [f"bytes={CUT}-", None]
    assert await stored_bytes(res) == content(simulator)


async def test_another_file_at_stripe_starts_again(res: Resources, simulator: Simulator) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=CUT)
    await download_due(res)
    await execute(res, "update files set stripe_file_id = 'file_of_an_earlier_run'")

    async with files_host(res, simulator) as host:
        await try_again(res)

    assert host.asked == [None]
    assert await stored_bytes(res) == content(simulator)
    assert await pieces(res) == SIZE


SHORT = b"HTTP/1.1 206 P\r\ncontent-range: bytes %d-%d/%d\r\n" % (CUT, SIZE - 1, SIZE) + BODY


@pytest.mark.parametrize("wrong", ["short", "long"])
async def test_a_file_whose_rest_has_the_wrong_size_starts_again(
    res: Resources, simulator: Simulator, wrong: str
) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=CUT)
    await download_due(res)

    async with files_host(res, simulator) as host:
        if wrong == "short":
            host.answers.append(SHORT)
        else:
            simulator.inject("file_long")
        await try_again(res)
        assert await pieces(res) == 0
        assert (await attempts(res))[0]["mismatches"] == 1
        await try_again(res)

    assert host.asked == [f"bytes={CUT}-", None]
    assert await stored_bytes(res) == content(simulator)


async def test_a_successor_of_a_worker_that_kept_all_the_bytes_requests_none(
    res: Resources, simulator: Simulator
) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=SIZE)
    await download_due(res)
    await execute(res, "update runs set state = 'ready', stored_at = null")
    await execute(res, "update files set stored_at = null, size = null, sha256 = null")

    async with files_host(res, simulator) as host:
        await try_again(res)

    assert host.asked == []
    assert await stored_bytes(res) == content(simulator)


@pytest.mark.parametrize("status", [503, 429, 401])
async def test_a_failure_in_between_loses_nothing_of_what_came(
    res: Resources, simulator: Simulator, status: int
) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=CUT)
    await download_due(res)
    simulator.inject("status", status=status, match={"path": "/contents$"})
    await try_again(res)
    assert await pieces(res) == CUT

    async with files_host(res, simulator) as host:
        await try_again(res)

    assert host.asked == [f"bytes={CUT}-"]
    assert await stored_bytes(res) == content(simulator)


async def test_pieces_of_a_download_that_was_cancelled_are_gone(res: Resources, simulator: Simulator) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=CUT)
    await download_due(res)
    assert await pieces(res) == CUT

    async with res.sessions.begin() as session:
        await manual.cancel(session, (await only_run(res))["id"], by="a test")

    assert await fetch(res, "select 1 from files") == []
    assert await pieces(res) == 0


async def test_a_slow_worker_adds_nothing_to_the_pieces_that_its_successor_continues(
    res: Resources, simulator: Simulator
) -> None:
    await one_ready_file(res, simulator)
    simulator.inject("file_cut", bytes=CUT)
    await download_due(res)
    await everything_is_due(res)
    slow = await claim_download(res)
    await leases_run_out(res)
    successor = await claim_download(res)

    simulator.inject("file_cut", bytes=1000)
    with pytest.raises(Overtaken):
        await download(res, slow)
    assert await pieces(res) == CUT
    await download(res, successor)

    assert await stored_bytes(res) == content(simulator)


@given(cuts=st.lists(st.integers(0, 60_000), max_size=6), ranges=st.lists(st.booleans(), min_size=7, max_size=7))
@settings(max_examples=25)
async def test_however_often_and_wherever_it_breaks_the_file_is_stripes(
    res: Resources, simulator: Simulator, cuts: list[int], ranges: list[bool]
) -> None:
    for table in ("run_moves", "attempts", "file_chunks", "files", "runs", "rule_progress", "rules"):
        await execute(res, f"delete from {table}")
    simulator.reset()
    await one_ready_run(res, simulator)
    for cut, honoured in zip(cuts, ranges, strict=False):
        simulator.configure(ranges=honoured)
        simulator.inject("file_cut", bytes=cut)
        await try_again(res)
    simulator.configure(ranges=ranges[-1])

    await everything_is_due(res)
    await work_off(res)

    assert await stored_bytes(res) == content(simulator)
    assert await pieces(res) == simulator.files[-1].size
