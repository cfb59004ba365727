"""Cuts the stream of a file into compressed chunks, off the event loop and in order, and counts and hashes it."""

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import zstandard

from app.errors import FileIsGone

P = ParamSpec("P")
T = TypeVar("T")

CHUNK_BYTES = 256 * 1024
# Handed to a thread in one go, so that the event loop hands over less often.
BLOCK_BYTES = 2 * CHUNK_BYTES
# Up to this many bytes are processed without a thread: 0.14 ms for 64 KiB, far less for most reports; each hand-over to
# a thread and back would cost a waiting file 0.04 ms on an idle machine.
INLINE_BYTES = 64 * 1024
# Blocks of one file that are compressed at the same time.
COMPRESSED_AT_ONCE = 2

# Version 330d95e stored chunks that do not shrink uncompressed: we read them forever, and no longer write them.
CODEC_PLAIN = 0
CODEC_ZSTD = 1

NO_CHUNK = "file {file_id} has no chunk for byte {position}: restore it from a backup"

# Hashing and compressing release the GIL: one thread per core that a download may use.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="files")
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file, ready to be stored: `raw_size` bytes of the original, starting at `raw_start`."""

    raw_start: int
    raw_size: int
    codec: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The size, SHA-256 (hex) and line count of a complete file, uncompressed."""

    size: int
    sha256: str
    line_count: int


class Digest:
    """Computes the facts of a file from its bytes in order."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._lines = 0
        self._last_byte = b"\n"

    def update(self, raw: bytes) -> None:
        """The next bytes."""
        self._sha256.update(raw)
        self._size += len(raw)
        self._lines += raw.count(b"\n")
        self._last_byte = raw[-1:] or self._last_byte

    def facts(self) -> FileFacts:
        """Size, hash and lines of everything so far."""
        return FileFacts(self._size, self._sha256.hexdigest(), self._lines + (self._last_byte != b"\n"))


class Chunker:
    """Takes a stream, from its start or from where `digest` ends; chunks are compressed while the next ones fill."""

    def __init__(self, digest: Digest | None = None) -> None:
        self._digest = digest or Digest()
        self._digesting: Future[None] | None = None
        self._cut = self._digest.facts().size  # bytes handed over so far
        self._filling: list[bytes] = []  # the pieces of the next block
        self._filled = 0
        self._compressing: deque[Future[list[Chunk]]] = deque()

    @property
    def received(self) -> int:
        """Bytes received so far."""
        return self._cut + self._filled

    async def write(self, piece: bytes) -> list[Chunk]:
        """Take the next bytes; returns the chunks that are ready."""
        start, ready = 0, list[Chunk]()
        while self._filled + len(piece) - start >= BLOCK_BYTES:
            end = start + BLOCK_BYTES - self._filled
            self._filling.append(piece[start:end])
            start = end
            ready += await self._hand_over()
        if start < len(piece):
            self._filling.append(piece[start:])
            self._filled += len(piece) - start
        return ready

    async def flush(self) -> list[Chunk]:
        """The remaining bytes, as chunks."""
        ready = await self._hand_over() if self._filling else []
        while self._compressing:
            ready += await self._next_compressed()
        await self._digested()
        return ready

    def facts(self) -> FileFacts:
        """Size, hash and line count of everything received; call after `flush`."""
        return self._digest.facts()

    async def _hand_over(self) -> list[Chunk]:
        """Hand over the filled block: hashed in order, compressed in parallel."""
        raw = b"".join(self._filling)
        self._filling, self._filled = [], 0
        await self._digested()
        self._digesting = _begin(len(raw), self._digest.update, raw)
        self._compressing.append(_begin(len(raw), _compress, self._cut, raw))
        self._cut += len(raw)
        if len(self._compressing) <= COMPRESSED_AT_ONCE:
            return []
        return await self._next_compressed()

    async def _next_compressed(self) -> list[Chunk]:
        return await _outcome(self._compressing.popleft())

    async def _digested(self) -> None:
        if self._digesting is not None:
            await _outcome(self._digesting)


def _begin(size: int, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> Future[T]:
    if size > INLINE_BYTES:
        return _threads.submit(work, *values, **named)
    done: Future[T] = Future()
    done.set_result(work(*values, **named))
    return done


async def _outcome(work: Future[T]) -> T:
    return work.result() if work.done() else await asyncio.wrap_future(work)


def _compress(start: int, block: bytes) -> list[Chunk]:
    """The block as chunks; data that does not shrink becomes a few bytes longer than before."""
    parts = [memoryview(block)[cut : cut + CHUNK_BYTES] for cut in range(0, len(block), CHUNK_BYTES)]
    starts = range(start, start + len(block), CHUNK_BYTES)
    return [
        Chunk(begins, len(part), CODEC_ZSTD, _compressor().compress(part))
        for begins, part in zip(starts, parts, strict=True)
    ]


def decompress(codec: int, data: bytes) -> bytes:
    """The original bytes of a chunk. Raises FileIsGone if it is damaged."""
    if codec == CODEC_ZSTD:
        try:
            return zstandard.ZstdDecompressor().decompress(data)
        except zstandard.ZstdError as error:
            raise FileIsGone(f"a stored chunk of the file is damaged ({error}): restore it from a backup") from error
    if codec == CODEC_PLAIN:
        return data
    raise ValueError(f"chunk codec {codec} is unknown to this version of Tallyhook: run the newer version")


async def in_thread(work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Run CPU-bound work in a thread, so that the event loop does not wait for it."""
    return await asyncio.wrap_future(_threads.submit(work, *values, **named))


async def in_thread_if_large(size: int, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """The same for work on more than `INLINE_BYTES`; the event loop waits for less."""
    return await _outcome(_begin(size, work, *values, **named))


def _compressor() -> zstandard.ZstdCompressor:
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=1)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor
