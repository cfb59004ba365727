"""File chunks in PostgreSQL: append, read, and find out how far a partial file has come."""

import asyncio
import struct
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db.batch import Batch
from app.db.engine import autocommit_session, raw_connection
from app.errors import FileIsGone, Gone
from app.files.chunker import CODEC_ZSTD, NO_CHUNK, Chunk, Digest, decompress, in_thread, in_thread_if_large

Sessions = async_sessionmaker[AsyncSession]

# Read in one query: few round trips, and at most 4 MiB for a stalled reader (these and the next ones).
READ_AT_ONCE = 8

_COPY = "copy file_chunks (file_id, raw_start, raw_size, codec, data) from stdin (format binary)"
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_TRAILER = b"\xff\xff"
_INSERT = text("""
insert into file_chunks (file_id, raw_start, raw_size, codec, data)
select * from unnest(cast(:file_ids as uuid[]), cast(:raw_starts as bigint[]), cast(:raw_sizes as int[]),
    cast(:codecs as smallint[]), cast(:datas as bytea[]))
""")


async def append(session: AsyncSession, chunks: Sequence[tuple[uuid.UUID, Chunk]]) -> None:
    """Store these chunks of these files (binary COPY, inside the session's transaction)."""
    if not chunks:
        return
    async with raw_connection(session) as raw, raw.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(_COPY_HEADER)
        for file_id, chunk in chunks:
            await copy.write(_row(file_id, chunk))
        await copy.write(_COPY_TRAILER)


def add_few(batch: Batch, chunks: Sequence[tuple[uuid.UUID, Chunk]]) -> None:
    """Have the batch store these chunks, all in one message: only for as many as fit easily."""
    if not chunks:
        return
    columns = ("raw_start", "raw_size", "codec", "data")
    values = {f"{name}s": [getattr(chunk, name) for _, chunk in chunks] for name in columns}
    batch.add(_INSERT, {"file_ids": [file_id for file_id, _ in chunks], **values})


def _row(file_id: uuid.UUID, chunk: Chunk) -> bytes:
    numbers = struct.pack(">iqiiih", 8, chunk.raw_start, 4, chunk.raw_size, 2, chunk.codec)
    return b"".join((struct.pack(">hi", 5, 16), file_id.bytes, numbers, struct.pack(">i", len(chunk.data)), chunk.data))


async def read(sessions: Sessions, file_id: uuid.UUID, *, start: int, stop: int) -> AsyncIterator[bytes]:
    """The original bytes [start, stop), in pieces. Raises Gone, and FileIsGone where they are damaged."""
    async with aclosing(_stored(sessions, file_id, start=start, stop=stop)) as stored:
        async for found in stored:
            raw = await in_thread_if_large(sum(chunk.raw_size for chunk in found), _decompress_all, found)
            yield raw[max(0, start - found[0].raw_start) : stop - found[0].raw_start]


def _decompress_all(chunks: list[Chunk]) -> bytes:
    return b"".join(decompress(chunk.codec, chunk.data) for chunk in chunks)


async def read_compressed(sessions: Sessions, file_id: uuid.UUID, *, size: int) -> AsyncIterator[bytes]:
    """The whole file of `size` bytes as zstd frames, one for each chunk, as they are stored."""
    async for found in _stored(sessions, file_id, start=0, stop=size):
        yield b"".join(chunk.data for chunk in found)


async def compressed_size(session: AsyncSession, file_id: uuid.UUID) -> int | None:
    """How many bytes `read_compressed` returns; None if it cannot, because 330d95e stored some chunks uncompressed."""
    found = await session.execute(_COMPRESSED_SIZE, {"file_id": file_id, "zstd": CODEC_ZSTD})
    size: int | None = found.scalar_one()
    return size


async def _stored(sessions: Sessions, file_id: uuid.UUID, *, start: int, stop: int) -> AsyncGenerator[list[Chunk]]:
    """The chunks that hold [start, stop), a few at a time; the next ones are fetched meanwhile.

    Each batch is a query of its own, so that a stalled reader pins neither a connection nor a snapshot.
    """
    position = start
    fetching = asyncio.create_task(_fetch(sessions, file_id, position, stop))
    try:
        while position < stop:
            found = await fetching
            position = found[-1].raw_start + found[-1].raw_size
            if position < stop:
                fetching = asyncio.create_task(_fetch(sessions, file_id, position, stop))
            yield found
    finally:
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)


async def _fetch(sessions: Sessions, file_id: uuid.UUID, position: int, stop: int) -> list[Chunk]:
    async with autocommit_session(sessions) as session:
        values = {"file_id": file_id, "position": position, "stop": stop, "limit": READ_AT_ONCE}
        # In binary format: as text, the server would encode every byte as two hex digits.
        async with raw_connection(session) as raw, raw.cursor(binary=True) as cursor:
            found = [Chunk(*row) for row in await (await cursor.execute(_CHUNKS_FROM, values)).fetchall()]
        if not found:
            raise await _missing(session, file_id, position)
    for chunk in found:
        if not chunk.raw_start <= position < chunk.raw_start + chunk.raw_size:
            raise FileIsGone(NO_CHUNK.format(file_id=file_id, position=position))
        position = chunk.raw_start + chunk.raw_size
    return found


async def is_removed(session: AsyncSession, file_id: uuid.UUID) -> bool:
    """Whether retention has removed the file's bytes."""
    return bool((await session.execute(_IS_REMOVED, {"file_id": file_id})).scalar_one_or_none())


async def _missing(session: AsyncSession, file_id: uuid.UUID, position: int) -> Exception:
    if await is_removed(session, file_id):
        return Gone(f"file {file_id} was removed while it was being read")
    return FileIsGone(NO_CHUNK.format(file_id=file_id, position=position))


async def delete(session: AsyncSession, file_ids: Sequence[uuid.UUID], *, limit: int) -> int:
    """Delete up to `limit` chunks of these files; returns how many there were."""
    return len((await session.execute(_DELETE, {"file_ids": list(file_ids), "limit": limit})).all())


async def digest_of(sessions: Sessions, file_id: uuid.UUID) -> Digest:
    """The digest of a partial file, computed again from its chunks, because a hash state cannot be stored."""
    async with sessions.begin() as session:
        stop = (await session.execute(_PROGRESS, {"file_id": file_id})).scalar_one()
    digest = Digest()
    async for piece in read(sessions, file_id, start=0, stop=stop):
        await in_thread(digest.update, piece)
    return digest


_CHUNKS_FROM = """
select raw_start, raw_size, codec, data from file_chunks
where file_id = %(file_id)s and raw_start < %(stop)s and raw_start >= (
    select max(raw_start) from file_chunks where file_id = %(file_id)s and raw_start <= %(position)s
) order by raw_start limit %(limit)s
"""
_COMPRESSED_SIZE = text("""
select case when bool_and(codec = :zstd) then cast(sum(octet_length(data)) as bigint) end
from file_chunks where file_id = :file_id
""")
_IS_REMOVED = text("select removed_at is not null from files where id = :file_id")
_DELETE = text("""
delete from file_chunks where (file_id, raw_start) in (
    select file_id, raw_start from file_chunks where file_id = any(:file_ids) limit :limit
) returning 1
""")
_PROGRESS = text("select coalesce(max(raw_start + raw_size), 0) from file_chunks where file_id = :file_id")
