"""The only door to file bytes: append, finish, open a range, drop.

A file lies in PostgreSQL in chunks of 256 KiB, each compressed on its own (zstd level 1: measured faster than
storing plain, at a quarter of the space). Its row says `stored_at` once it is whole; until then it is invisible.
"""

import asyncio
import hashlib
import struct
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import zstandard
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db.engine import raw_connection

CHUNK_BYTES = 256 * 1024
# Committed together: 16 MiB is a resume point often enough, and few enough commits.
CHUNKS_PER_COMMIT = 64

CODEC_PLAIN = 0
CODEC_ZSTD = 1

_COPY = "copy file_chunks (file_id, raw_start, raw_size, codec, data) from stdin (format binary)"
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_TRAILER = b"\xff\xff"

# Hashing and compressing release the interpreter's lock: one thread per core that a download may use.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="files")
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file, ready to be stored: `raw_size` bytes of the original from `raw_start` on."""

    raw_start: int
    raw_size: int
    codec: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a whole file: bytes, SHA-256 (hex) and lines of the original."""

    size: int
    sha256: str
    line_count: int


class ChunkMaker:
    """Cuts a stream into chunks and learns the file's facts on the way, off the event loop and in order."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._lines = 0
        self._last_byte = b"\n"
        self._buffer = bytearray()
        self._cut = 0  # bytes cut into chunks so far
        self._working: Future[Chunk] | None = None

    @property
    def received(self) -> int:
        """Bytes taken in so far."""
        return self._cut + len(self._buffer)

    async def take(self, piece: bytes) -> list[Chunk]:
        """Take the next bytes in; returns the chunks that became ready. One chunk is worked on meanwhile."""
        self._buffer += piece
        ready = []
        while len(self._buffer) >= CHUNK_BYTES:
            ready += await self._collect()
            self._start(bytes(self._buffer[:CHUNK_BYTES]))
            del self._buffer[:CHUNK_BYTES]
        return ready

    async def rest(self) -> list[Chunk]:
        """The last chunks; nothing may be taken in after it."""
        ready = await self._collect()
        if self._buffer:
            self._start(bytes(self._buffer))
            self._buffer.clear()
            ready += await self._collect()
        return ready

    def facts(self) -> FileFacts:
        """Size, hash and lines of everything taken in; ask after `rest`."""
        return FileFacts(self._cut, self._sha256.hexdigest(), self._lines + (self._last_byte != b"\n"))

    def _start(self, raw: bytes) -> None:
        self._working = _threads.submit(self._make, self._cut, raw)
        self._cut += len(raw)

    async def _collect(self) -> list[Chunk]:
        if self._working is None:
            return []
        chunk = await asyncio.wrap_future(self._working)
        self._working = None
        return [chunk]

    def _make(self, start: int, raw: bytes) -> Chunk:
        self._sha256.update(raw)
        self._lines += raw.count(b"\n")
        self._last_byte = raw[-1:]
        packed = _compressor().compress(raw)
        smaller = len(packed) < len(raw)
        return Chunk(start, len(raw), CODEC_ZSTD if smaller else CODEC_PLAIN, packed if smaller else raw)


def _compressor() -> zstandard.ZstdCompressor:
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=1)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _unpack(codec: int, data: bytes) -> bytes:
    if codec == CODEC_PLAIN:
        return data
    if codec == CODEC_ZSTD:
        return zstandard.ZstdDecompressor().decompress(data)
    raise ValueError(f"chunk codec {codec} is not known to this version of Tallyhook: run the newer version")


async def begin(session: AsyncSession, *, run_id: uuid.UUID, account: str, **about: str) -> uuid.UUID:
    """Begin the run's file anew: what an earlier, broken download left is removed. Returns the file's id.

    `about` names stripe_file_id, filename and media_type.
    """
    await drop_partial(session, run_id)
    file_id = uuid.uuid4()
    await session.execute(_BEGIN, {"id": file_id, "run_id": run_id, "account": account, **about})
    return file_id


async def append(session: AsyncSession, file_id: uuid.UUID, chunks: list[Chunk]) -> None:
    """Store these chunks (binary COPY, inside the session's transaction)."""
    if not chunks:
        return
    raw = await raw_connection(session)
    async with raw.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(_COPY_HEADER)
        for chunk in chunks:
            await copy.write(_row(file_id, chunk))
        await copy.write(_COPY_TRAILER)


def _row(file_id: uuid.UUID, chunk: Chunk) -> bytes:
    numbers = struct.pack(">iqiiih", 8, chunk.raw_start, 4, chunk.raw_size, 2, chunk.codec)
    return b"".join((struct.pack(">hi", 5, 16), file_id.bytes, numbers, struct.pack(">i", len(chunk.data)), chunk.data))


async def finish(session: AsyncSession, file_id: uuid.UUID, facts: FileFacts) -> None:
    """The file is whole: from the commit on it is visible, and never changed."""
    await session.execute(
        _FINISH, {"id": file_id, "size": facts.size, "sha256": facts.sha256, "lines": facts.line_count}
    )


async def drop_partial(session: AsyncSession, run_id: uuid.UUID) -> None:
    """Remove what a download that is given up, or begun anew, has left. A whole file is never touched."""
    await session.execute(_DROP_PARTIAL, {"run_id": run_id})


async def read(
    sessions: async_sessionmaker[AsyncSession], file_id: uuid.UUID, *, start: int, stop: int
) -> AsyncIterator[bytes]:
    """The original bytes [start, stop), chunk by chunk.

    A short transaction per chunk: a reader that stalls pins neither a connection nor a snapshot.
    """
    position = start
    while position < stop:
        async with sessions.begin() as session:
            row = (await session.execute(_CHUNK_AT, {"file_id": file_id, "position": position})).one()
        raw = await _in_thread(_unpack, row.codec, bytes(row.data))
        piece = raw[position - row.raw_start : stop - row.raw_start]
        if not piece:
            raise RuntimeError(f"file {file_id} has no chunk for byte {position}: restore it from a backup")
        position += len(piece)
        yield piece


async def _in_thread(work: Callable[..., Any], *values: Any) -> Any:
    return await asyncio.wrap_future(_threads.submit(work, *values))


_BEGIN = text("""
insert into files (id, run_id, account, stripe_file_id, filename, media_type)
values (:id, :run_id, :account, :stripe_file_id, :filename, :media_type)
""")
_FINISH = text("""
update files set size = :size, sha256 = :sha256, line_count = :lines, stored_at = now()
where id = :id and stored_at is null
""")
_DROP_PARTIAL = text("delete from files where run_id = :run_id and stored_at is null")
_CHUNK_AT = text("""
select raw_start, codec, data from file_chunks
where file_id = :file_id and raw_start <= :position order by raw_start desc limit 1
""")
