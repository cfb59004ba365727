"""Cuts the stream of a file into chunks, and learns its facts on the way: off the event loop, and in order."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import zstandard

P = ParamSpec("P")
T = TypeVar("T")

CHUNK_BYTES = 256 * 1024

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
    """Takes a stream in, whole or from where `learned` ends; one chunk is worked on while the next one is filled."""

    def __init__(self, learned: Learner | None = None) -> None:
        self._learner = learned or Learner()
        self._cut = self._learner.facts().size  # bytes cut into chunks so far
        self._buffer = bytearray()
        self._working: Future[Chunk] | None = None

    @property
    def received(self) -> int:
        """Bytes taken in so far."""
        return self._cut + len(self._buffer)

    async def take(self, piece: bytes) -> list[Chunk]:
        """Take the next bytes in; returns the chunks that became ready."""
        self._buffer += piece
        ready = []
        while len(self._buffer) >= CHUNK_BYTES:
            ready += await self._collect()
            self._start(bytes(self._buffer[:CHUNK_BYTES]))
            del self._buffer[:CHUNK_BYTES]
        return ready

    async def rest(self) -> list[Chunk]:
        """What is left, as chunks."""
        ready = await self._collect()
        if self._buffer:
            self._start(bytes(self._buffer))
            self._buffer.clear()
            ready += await self._collect()
        return ready

    def facts(self) -> FileFacts:
        """Size, hash and lines of everything taken in; ask after `rest`."""
        return self._learner.facts()

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
        self._learner.learn(raw)
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
