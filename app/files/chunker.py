"""Cuts the stream of a file into chunks, and learns its facts on the way: off the event loop, and in order."""

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import zstandard

P = ParamSpec("P")
T = TypeVar("T")

CHUNK_BYTES = 256 * 1024
# Chunks of one file that are being compressed at a time.
PACKED_AT_ONCE = 2

CODEC_PLAIN = 0
CODEC_ZSTD = 1

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


class Learner:
    """Learns the facts of a file from its bytes, in order."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._lines = 0
        self._last_byte = b"\n"

    def learn(self, raw: bytes) -> None:
        """The next bytes."""
        self._sha256.update(raw)
        self._size += len(raw)
        self._lines += raw.count(b"\n")
        self._last_byte = raw[-1:]

    def facts(self) -> FileFacts:
        """Size, hash and lines of everything so far."""
        return FileFacts(self._size, self._sha256.hexdigest(), self._lines + (self._last_byte != b"\n"))


class ChunkMaker:
    """Takes a stream in, whole or from where `learned` ends; chunks are worked on while the next ones are filled."""

    def __init__(self, learned: Learner | None = None) -> None:
        self._learner = learned or Learner()
        self._learning: Future[None] | None = None
        self._cut = self._learner.facts().size  # bytes cut into chunks so far
        self._filling: list[bytes] = []  # the pieces of the next chunk
        self._filled = 0
        self._packing: deque[Future[Chunk]] = deque()

    @property
    def received(self) -> int:
        """Bytes taken in so far."""
        return self._cut + self._filled

    async def take(self, piece: bytes) -> list[Chunk]:
        """Take the next bytes in; returns the chunks that became ready."""
        start, ready = 0, list[Chunk]()
        while self._filled + len(piece) - start >= CHUNK_BYTES:
            end = start + CHUNK_BYTES - self._filled
            self._filling.append(piece[start:end])
            start = end
            ready += await self._cut_chunk()
        if start < len(piece):
            self._filling.append(piece[start:])
            self._filled += len(piece) - start
        return ready

    async def rest(self) -> list[Chunk]:
        """What is left, as chunks."""
        ready = await self._cut_chunk() if self._filling else []
        ready += [await asyncio.wrap_future(packing) for packing in self._packing]
        self._packing.clear()
        await self._learned()
        return ready

    def facts(self) -> FileFacts:
        """Size, hash and lines of everything taken in; ask after `rest`."""
        return self._learner.facts()

    async def _cut_chunk(self) -> list[Chunk]:
        """Hand the filled chunk over; learning goes in order, packing beside it."""
        raw = b"".join(self._filling)
        self._filling, self._filled = [], 0
        await self._learned()
        self._learning = _threads.submit(self._learner.learn, raw)
        self._packing.append(_threads.submit(_pack, self._cut, raw))
        self._cut += len(raw)
        return [await asyncio.wrap_future(self._packing.popleft())] if len(self._packing) > PACKED_AT_ONCE else []

    async def _learned(self) -> None:
        if self._learning is not None:
            await asyncio.wrap_future(self._learning)


def _pack(start: int, raw: bytes) -> Chunk:
    packed = _compressor().compress(raw)
    smaller = len(packed) < len(raw)
    return Chunk(start, len(raw), CODEC_ZSTD if smaller else CODEC_PLAIN, packed if smaller else raw)


def unpack(codec: int, data: bytes) -> bytes:
    """The original bytes of a chunk."""
    if codec == CODEC_PLAIN:
        return data
    if codec == CODEC_ZSTD:
        return zstandard.ZstdDecompressor().decompress(data)
    raise ValueError(f"chunk codec {codec} is not known to this version of Tallyhook: run the newer version")


async def in_thread(work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Do what keeps a core busy where the event loop does not wait for it."""
    return await asyncio.wrap_future(_threads.submit(work, *values, **named))


def _compressor() -> zstandard.ZstdCompressor:
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=1)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor
