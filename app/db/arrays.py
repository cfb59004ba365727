"""Array parameters in PostgreSQL's binary format, packed in one pass.

psycopg packs a list element by element, with an object for each. The inbox inserts groups of twelve columns with a few
rows each, where that takes longer than the statement itself.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NULL = struct.pack(">i", -1)
_HEADER = struct.Struct(">iiIii")
_LENGTH = struct.Struct(">i")
_BOOL = struct.Struct(">i?")
_INSTANT = struct.Struct(">iq")


class TextArray(bytes):
    """A packed text[]."""


class BoolArray(bytes):
    """A packed bool[]."""


class InstantArray(bytes):
    """A packed timestamptz[]."""


def text_array(values: Sequence[str | None]) -> TextArray:
    """These texts as a text[]."""
    encoded = [None if value is None else value.encode() for value in values]
    return TextArray(_pack(25, [_NULL if raw is None else _LENGTH.pack(len(raw)) + raw for raw in encoded]))


def bool_array(values: Sequence[bool | None]) -> BoolArray:
    """These booleans as a bool[]."""
    return BoolArray(_pack(16, [_NULL if value is None else _BOOL.pack(1, value) for value in values]))


def instant_array(values: Sequence[datetime | None]) -> InstantArray:
    """These times, which have a zone, as a timestamptz[]."""
    return InstantArray(_pack(1184, [_NULL if value is None else _microseconds(value) for value in values]))


def _microseconds(value: datetime) -> bytes:
    return _INSTANT.pack(8, (value - _EPOCH) // _MICROSECOND)


def _pack(oid: int, packed: Sequence[bytes]) -> bytes:
    # One dimension with lower bound 1; an empty array has no dimension.
    if not packed:
        return struct.pack(">iiI", 0, 0, oid)
    return _HEADER.pack(1, int(_NULL in packed), oid, len(packed), 1) + b"".join(packed)


class _Packed(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


def _register(kinds: Iterable[tuple[type[bytes], int]]) -> None:
    for kind, oid in kinds:
        psycopg.adapters.register_dumper(kind, type(f"{kind.__name__}Dumper", (_Packed,), {"oid": oid}))


_register(((TextArray, 1009), (BoolArray, 1000), (InstantArray, 1185)))
