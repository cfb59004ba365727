"""A group of chunks is committed while the next one arrives: one at a time, in order, and its failure is not lost."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Overtaken
from app.files import database_writer
from app.files.chunker import BLOCK_BYTES, CHUNK_BYTES
from app.files.database_writer import DatabaseWriter
from app.resources import Resources
from tests.files.stored import finish_all, metadata, one_run
from tests.service import fetch

# What has to be written before a group of this many bytes begins to be committed: blocks are compressed meanwhile.
GROUP = database_writer.CHUNKS_PER_COMMIT * CHUNK_BYTES
PIECE = b"a,b\n" * (BLOCK_BYTES // 4)


class Gate:
    """Transactions that wait, before they commit, until they may."""

    def __init__(self, res: Resources) -> None:
        self._res = res
        self.opened = asyncio.Event()
        self.begun = asyncio.Event()
        self.at_once = self.most_at_once = 0
        self.error: Exception | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """As `fenced` gives one to a writer."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            async with self._res.sessions.begin() as session:
                yield session
                self.begun.set()
                await self.opened.wait()
                if self.error is not None:
                    raise self.error
        finally:
            self.at_once -= 1


@pytest.fixture
def gate(res: Resources) -> Gate:
    return Gate(res)


async def write_until_committing(writer: DatabaseWriter, gate: Gate) -> bytes:
    """Write until a group is being committed; what was written."""
    written = b""
    while writer._committing is None:
        await writer.write(PIECE)
        written += PIECE
    await gate.begun.wait()
    return written


async def one_writer(res: Resources, gate: Gate) -> tuple[uuid.UUID, DatabaseWriter]:
    run_id = await one_run(res)
    return run_id, DatabaseWriter(metadata(run_id), gate.transaction)


async def test_the_next_group_fills_while_one_is_committed_and_waits_for_it_at_the_end(
    res: Resources, gate: Gate
) -> None:
    run_id, writer = await one_writer(res, gate)
    content = await write_until_committing(writer, gate)

    for _ in range(GROUP // len(PIECE) - 1):  # nothing holds these up
        await writer.write(PIECE)
        content += PIECE
    third = asyncio.create_task(writer.write(PIECE * 2))
    await asyncio.sleep(0)
    assert not third.done()
    gate.opened.set()
    await third
    await writer.facts()
    async with res.sessions.begin() as session:
        await finish_all(session, [writer])

    content += PIECE * 2
    (file,) = await fetch(res, "select id, size, run_id from files where stored_at is not null")
    pieces = [piece async for piece in res.files.read(file["id"], None, start=0, stop=file["size"])]
    assert (b"".join(pieces) == content, file["run_id"], gate.most_at_once) == (True, run_id, 1)


@pytest.mark.parametrize("then", ["write", "checkpoint", "facts", "restart"])
async def test_a_commit_that_failed_shows_at_whatever_is_done_next(res: Resources, gate: Gate, then: str) -> None:
    _, writer = await one_writer(res, gate)
    await write_until_committing(writer, gate)
    gate.error = Overtaken("another worker has it")
    gate.opened.set()

    with pytest.raises(Overtaken):
        await {
            "write": lambda: writer.write(PIECE * (GROUP // len(PIECE))),
            "checkpoint": writer.checkpoint,
            "facts": writer.facts,
            "restart": writer.restart,
        }[then]()

    await writer.abort()
    assert await fetch(res, "select 1 from files") == []


async def test_a_writer_that_is_given_up_leaves_nothing_of_a_commit_under_way_and_holds_nothing_open(
    res: Resources, gate: Gate
) -> None:
    _, writer = await one_writer(res, gate)
    await write_until_committing(writer, gate)

    await writer.abort()

    assert gate.at_once == 0
    assert await fetch(res, "select 1 from files") == []
    assert res.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # the pool in use counts


async def test_a_restarted_file_follows_the_commit_under_way(res: Resources, gate: Gate) -> None:
    with patch.object(database_writer, "CHUNKS_PER_COMMIT", 1):
        _, writer = await one_writer(res, gate)
        await write_until_committing(writer, gate)
        gate.opened.set()

        await writer.restart()
        await writer.write(b"new\n")
        await writer.facts()
        async with res.sessions.begin() as session:
            await finish_all(session, [writer])

    assert [row["raw_size"] for row in await fetch(res, "select raw_size from file_chunks")] == [4]
