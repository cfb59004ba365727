"""The bytes of a complete file without an event loop, for the child process that loads it into tables."""

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg

from app.errors import FileIsGone, Missing
from app.files.backends import NO_OBJECT, backend_of
from app.files.chunker import NO_CHUNK, decompress

# Few round trips, and at most 2 MiB of chunks at a time.
_READ_AT_ONCE = 8
_OBJECT_BYTES = 4 * 1024 * 1024


def pieces(
    connection: psycopg.Connection[tuple[Any, ...]], file_id: uuid.UUID, location: str | None, size: int
) -> Iterator[bytes]:
    """The bytes of a file, in order. Raises FileIsGone, and StoreAway where an object store does not answer.

    The connection must be in autocommit mode, and is not shared meanwhile.
    """
    if location is None:
        return _from_database(connection, file_id, size)
    return _from_store(file_id, location, size)


def _from_database(connection: psycopg.Connection[tuple[Any, ...]], file_id: uuid.UUID, size: int) -> Iterator[bytes]:
    position = 0
    with connection.cursor(binary=True) as cursor:
        while position < size:
            found = cursor.execute(_CHUNKS, (file_id, position, _READ_AT_ONCE)).fetchall()
            if not found or found[0][0] != position:
                raise FileIsGone(NO_CHUNK.format(file_id=file_id, position=position))
            for start, raw_size, codec, data in found:
                if start != position:
                    raise FileIsGone(NO_CHUNK.format(file_id=file_id, position=position))
                position += raw_size
                yield decompress(codec, data)


def _from_store(file_id: uuid.UUID, location: str, size: int) -> Iterator[bytes]:
    backend = backend_of(location)
    for start in range(0, size, _OBJECT_BYTES):
        try:
            yield backend.read_part(location, start=start, stop=min(size, start + _OBJECT_BYTES))
        except Missing as error:
            raise FileIsGone(NO_OBJECT.format(file_id=file_id, location=location)) from error


_CHUNKS = """
select raw_start, raw_size, codec, data from file_chunks where file_id = %s and raw_start >= %s
order by raw_start limit %s
"""
