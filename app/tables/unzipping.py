"""The CSV in a ZIP (`compress_file`), as a stream: the archive is read without unpacking it to disk. Pure."""

import struct
import zlib
from collections.abc import Iterator

from app.errors import Unloadable

_SIGNATURE = b"PK\x03\x04"
_HEADER = struct.Struct("<4s5H3I2H")
_DEFLATED = 8
_SIZE_FOLLOWS = 0x08
_ENCRYPTED = 0x01
# However much a piece grows when unpacked, only this much of it is in memory.
MOST_BYTES = 256 * 1024


def plain(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a file unchanged or, if it is a ZIP, those of the first file in it. Raises Unloadable."""
    head = b""
    while len(head) < _HEADER.size and (piece := next(pieces, None)) is not None:
        head += piece
    if not head.startswith(_SIGNATURE):
        yield head
        yield from pieces
        return
    yield from _unzipped(head, pieces)


def _unzipped(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if len(head) < _HEADER.size:
        raise Unloadable("the ZIP is cut off")
    _, _, flags, method, _, _, crc, _, _, name_size, extra_size = _HEADER.unpack_from(head)
    if method != _DEFLATED or flags & _ENCRYPTED:
        raise Unloadable("the ZIP uses an unknown compression: request the report without `compress_file`")
    skip = _HEADER.size + name_size + extra_size
    while len(head) < skip and (piece := next(pieces, None)) is not None:
        head += piece
    unpacker, seen = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for plain_piece in _inflated(unpacker, head[skip:], pieces):
        seen = zlib.crc32(plain_piece, seen)
        yield plain_piece
    if not unpacker.eof:
        raise Unloadable("the ZIP is cut off")
    if not flags & _SIZE_FOLLOWS and seen != crc:
        raise Unloadable("the ZIP's checksum is wrong")


def _inflated(unpacker: "zlib._Decompress", packed: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    while not unpacker.eof:
        try:
            found = unpacker.decompress(packed, MOST_BYTES)
        except zlib.error:
            raise Unloadable("the ZIP is broken") from None
        if found:
            yield found
        packed = unpacker.unconsumed_tail or next(pieces, b"")
        if not packed and not found and not unpacker.eof:
            return
