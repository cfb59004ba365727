"""Array parameters in PostgreSQL's binary format, packed in one pass.

psycopg packs a list element by element, with an object for each. The inbox inserts groups of twelve columns with a few
rows each, and for those it takes longer than the statement itself.
"""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NULL = struct.pack(">i", -1)
_HEADER = struct.Struct(">iiIii")
_LENGTH = struct.Struct(">i")
_BOOL = struct.Struct(">i?")
_INSTANT = struct.Struct(">iq")


def text_array(values: Sequence[str | None]) -> bytes:
    """These texts as a text[]."""
    encoded = [None if value is None else value.encode() for value in values]
    return _pack(25, [_NULL if raw is None else _LENGTH.pack(len(raw)) + raw for raw in encoded])


def bool_array(values: Sequence[bool | None]) -> bytes:
    """These booleans as a bool[]."""
    return _pack(16, [_NULL if value is None else _BOOL.pack(1, value) for value in values])


def instant_array(values: Sequence[datetime | None]) -> bytes:
    """These times, which have a zone, as a timestamptz[]."""
    return _pack(1184, [_NULL if value is None else _microseconds(value) for value in values])


def _microseconds(value: datetime) -> bytes:
    return _INSTANT.pack(8, (value - _EPOCH) // _MICROSECOND)


def _pack(oid: int, packed: Sequence[bytes]) -> bytes:
    # One dimension with lower bound 1; an empty array has no dimensions.
    if not packed:
        return struct.pack(">iiI", 0, 0, oid)
    return _HEADER.pack(1, int(_NULL in packed), oid, len(packed), 1) + b"".join(packed)
