"""File bytes: what goes in comes out, in any range, and nothing incomplete is ever visible."""

import asyncio
import hashlib
import uuid

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app import files
from app.errors import FileIsGone
from app.files import FileFacts
from app.files.chunker import CHUNK_BYTES, CODEC_PLAIN, CODEC_ZSTD, Chunk, Chunker, Digest
from app.files.database_writer import DatabaseWriter
from app.resources import Resources
from tests.files.stored import finish_all, metadata, one_run, store, write
from tests.service import execute, fetch


async def chunks_of(pieces: list[bytes]) -> tuple[list[Chunk], FileFacts]:
    """What a stream that arrived in these pieces is cut into."""
    chunker = Chunker()
    chunks = []
    for piece in pieces:
        chunks += await chunker.write(piece)
    assert chunker.received == sum(map(len, pieces))
    chunks += await chunker.flush()
    return chunks, chunker.facts()


async def file_id_of(res: Resources, run_id: uuid.UUID) -> uuid.UUID:
    (file,) = await fetch(res, "select id from files where run_id = :run_id", run_id=run_id)
    assert isinstance(file["id"], uuid.UUID)
    return file["id"]


async def read(res: Resources, run_id: uuid.UUID, start: int, stop: int) -> bytes:
    """The bytes of a part; never endless."""
    file_id = await file_id_of(res, run_id)
    async with asyncio.timeout(60):
        return b"".join([piece async for piece in res.files.read(file_id, None, start=start, stop=stop)])


@pytest.fixture
async def run_id(res: Resources) -> uuid.UUID:
    return await one_run(res)


def facts_of(content: bytes) -> FileFacts:
    lines = content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    return FileFacts(len(content), hashlib.sha256(content).hexdigest(), lines)


@given(pieces=st.lists(st.binary(max_size=30), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
async def test_the_facts_of_a_file_do_not_depend_on_the_pieces_it_came_in(pieces: list[bytes]) -> None:
    _, facts = await chunks_of(pieces)

    assert facts == facts_of(b"".join(pieces))


def test_an_empty_piece_at_the_end_adds_no_line() -> None:
    digest = Digest()

    for piece in (b"a,b\n", b"1,2\n", b""):
        digest.update(piece)

    assert digest.facts() == facts_of(b"a,b\n1,2\n")


CONTENTS = [
    b"",
    b"x",
    b"a,b\n1,2",
    b"a" * CHUNK_BYTES,
    b"a" * (CHUNK_BYTES - 1) + b"\n",
    b"ab\n" * CHUNK_BYTES,
    hashlib.shake_256(b"random").digest(3 * CHUNK_BYTES + 17),
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: f"{len(content)} bytes")
async def test_what_goes_in_comes_out(res: Resources, run_id: uuid.UUID, content: bytes) -> None:
    await store(res, run_id, content)

    assert await read(res, run_id, 0, len(content)) == content
    (file,) = await fetch(res, "select size, sha256, line_count from files")
    assert FileFacts(**file) == facts_of(content)


async def test_any_part_of_a_file_can_be_read(res: Resources, run_id: uuid.UUID) -> None:
    content = hashlib.shake_256(b"parts").digest(2 * CHUNK_BYTES + 1000)
    await store(res, run_id, content)

    for start, stop in [
        (0, 1), (0, CHUNK_BYTES), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (CHUNK_BYTES, 2 * CHUNK_BYTES),
        (5, len(content) - 5), (len(content) - 1, len(content)), (7, 7),
    ]:  # fmt: skip
        assert await read(res, run_id, start, stop) == content[start:stop]


async def test_every_new_chunk_is_a_zstd_frame_even_if_it_does_not_shrink() -> None:
    noise = hashlib.shake_256(b"noise").digest(CHUNK_BYTES)
    chunks, _ = await chunks_of([noise, b"text," * 50_000])

    assert [chunk.codec for chunk in chunks] == [CODEC_ZSTD, CODEC_ZSTD]
    assert zstandard.ZstdDecompressor().decompress(chunks[0].data) == noise
    assert len(chunks[0].data) < CHUNK_BYTES + 32
    assert len(chunks[1].data) < 5_000


async def test_chunks_that_330d95e_stored_plain_can_always_be_read(res: Resources, run_id: uuid.UUID) -> None:
    # The rows as that version writes them: noise as it is, text as a frame.
    noise, text = hashlib.shake_256(b"noise").digest(CHUNK_BYTES), b"a,b\n" * 1000
    await store(res, run_id, noise + text)
    await execute(
        res,
        "update file_chunks set codec = :plain, data = :noise where raw_start = 0",
        plain=CODEC_PLAIN,
        noise=noise,
    )

    assert await read(res, run_id, 0, CHUNK_BYTES + len(text)) == noise + text
    assert await read(res, run_id, CHUNK_BYTES - 3, CHUNK_BYTES + 3) == (noise + text)[CHUNK_BYTES - 3 :][:6]
    async with res.sessions() as session:
        assert await files.compressed_size(session, await file_id_of(res, run_id)) is None


async def test_a_file_is_invisible_until_it_is_finished_and_a_restart_removes_what_there_was(
    res: Resources, run_id: uuid.UUID
) -> None:
    await write(res, run_id, b"old\n")
    assert await fetch(res, "select 1 from files where stored_at is not null") == []
    assert len(await fetch(res, "select 1 from file_chunks")) == 1

    await store(res, run_id, b"new\n")

    assert await read(res, run_id, 0, 4) == b"new\n"
    assert [row["file_id"] for row in await fetch(res, "select file_id from file_chunks")] == [
        await file_id_of(res, run_id)
    ]


@pytest.mark.parametrize("kept", [1, CHUNK_BYTES, CHUNK_BYTES + 7, 3 * CHUNK_BYTES])
async def test_another_writer_resumes_where_the_first_one_stopped(res: Resources, run_id: uuid.UUID, kept: int) -> None:
    content = b"a,b\n" * CHUNK_BYTES
    await write(res, run_id, content[:kept])

    successor = DatabaseWriter(metadata(run_id), res.sessions.begin)
    await successor.resume(res.sessions, await file_id_of(res, run_id))
    assert successor.position == kept
    await successor.write(content[kept:])
    facts = await successor.facts()
    async with res.sessions.begin() as session:
        await finish_all(session, [successor])

    assert facts == facts_of(content)
    assert await read(res, run_id, 0, len(content)) == content


async def test_a_whole_file_is_neither_dropped_nor_finished_again(res: Resources, run_id: uuid.UUID) -> None:
    writer = await write(res, run_id, b"whole\n")
    await writer.facts()
    async with res.sessions.begin() as session:
        await finish_all(session, [writer])

    await writer.write(b"more\n")
    await writer.facts()
    async with res.sessions.begin() as session:
        await files.drop_partial(session, run_id)
        await finish_all(session, [writer])

    (file,) = await fetch(res, "select size from files")
    assert file["size"] == 6


async def test_a_run_has_one_file(res: Resources, run_id: uuid.UUID) -> None:
    await store(res, run_id, b"first\n")

    with pytest.raises(Exception, match="uq_files_run_id"):
        await store(res, run_id, b"second\n")


async def test_a_chunk_that_is_missing_is_an_error_and_not_an_endless_answer(res: Resources, run_id: uuid.UUID) -> None:
    content = bytes(3 * CHUNK_BYTES)
    await store(res, run_id, content)
    await execute(res, "delete from file_chunks where raw_start = :start", start=CHUNK_BYTES)

    with pytest.raises(FileIsGone, match="chunk"):
        await read(res, run_id, 0, len(content))


async def test_an_unknown_codec_is_named_as_one_of_a_newer_version(res: Resources, run_id: uuid.UUID) -> None:
    await store(res, run_id, b"text\n")
    async with res.sessions.begin() as session:
        await session.execute(text("update file_chunks set codec = 9"))

    with pytest.raises(ValueError, match="run the newer version"):
        await read(res, run_id, 0, 5)
