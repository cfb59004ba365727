"""A pack's bytes: a ZIP made while it is sent, so that no file of it is ever in memory as a whole."""

import zipfile
from collections.abc import AsyncIterator
from datetime import date

from app.files import FileStore
from app.files.chunker import in_thread
from app.packs import manifest
from app.packs.contents import Pack

# Compressed in pieces of this size, whatever the source: neither memory nor the result depends on how a store reads.
PIECE_BYTES = 256 * 1024
# Reports shrink to a tenth at any level; more than the lowest costs time and gains little.
LEVEL = 1
_READABLE_BY_ALL = 0o644 << 16
_UNIX = 3
_OLDEST_YEAR = 1980  # that a ZIP can express


async def pack_bytes(store: FileStore, pack: Pack) -> AsyncIterator[bytes]:
    """The ZIP: the manifests, then the files in the order of their names; the same bytes for the same pack.

    Raises Gone if retention removes a file meanwhile, and StoreAway: the reader then sees a truncated answer.
    """
    made = _Made()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in (("manifest.json", manifest.as_json(pack)), ("manifest.csv", manifest.as_csv(pack))):
            archive.writestr(_entry(name, pack.month), content)
        yield made.taken()
        for file in pack.files:
            with archive.open(_entry(file.filename, file.dates.last), "w", force_zip64=True) as entry:
                async for piece in _even(store.read(file.file_id, file.location, start=0, stop=file.size)):
                    await in_thread(entry.write, piece)
                    if compressed := made.taken():
                        yield compressed
    yield made.taken()


async def _even(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of PIECE_BYTES, the last one shorter."""
    rest = b""
    async for piece in pieces:
        rest += piece
        whole = len(rest) - len(rest) % PIECE_BYTES
        for start in range(0, whole, PIECE_BYTES):
            yield rest[start : start + PIECE_BYTES]
        rest = rest[whole:]
    yield rest


def _entry(name: str, day: date) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(max(day.year, _OLDEST_YEAR), day.month, day.day, 0, 0, 0))
    info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, _READABLE_BY_ALL, _UNIX
    # For an entry that is passed ready-made, zipfile takes the level only from here.
    info._compresslevel = LEVEL  # type: ignore[attr-defined]
    return info


class _Made:
    """What the ZIP's writer has written and nobody has taken yet. It cannot seek, so an entry's size follows it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def taken(self) -> bytes:
        """All of it, once."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
