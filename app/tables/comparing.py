"""Whether two answers to the same request have the same rows, in any order of rows and columns. In the child.

Memory is bounded: only the number of each file's rows and the sum of their hashes are kept. Values are compared as
written: `1.0` and `1.00` differ.
"""

import hashlib
import uuid
from collections.abc import Iterable, Iterator

from app.errors import Unloadable
from app.files.reading import pieces
from app.tables.catalogue import Kind
from app.tables.ddl import Connection
from app.tables.reading import Reader, Wanted
from app.tables.unzipping import plain

_HASH_BYTES = 16


def same_rows(connection: Connection, one: uuid.UUID, other: uuid.UUID, size: int) -> bool:
    """Whether a stored file and one that is complete but not visible yet, of `size` bytes, have the same rows.

    A file that the strict reader refuses equals no other. Raises FileIsGone, StoreAway and database errors.
    """
    try:
        return rows_digest(_pieces(connection, one, None)) == rows_digest(_pieces(connection, other, size))
    except Unloadable:
        return False


def rows_digest(raw: Iterable[bytes]) -> tuple[tuple[str, ...], int, int]:
    """The columns by name, the number of rows, and the sum of the rows' hashes. Raises Unloadable."""
    reader = Reader(plain(iter(raw)))
    columns = sorted(range(len(reader.header)), key=reader.header.__getitem__)
    wanted = [Wanted(place, reader.header[place], Kind.TEXT) for place in columns]
    total = 0
    for batch in reader.batches(wanted):
        for row in batch:
            # No value has a zero byte: the reader refuses it.
            text = "\0".join(value or "" for value in row)
            total += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest())
    return tuple(column.name for column in wanted), reader.row_count, total % (1 << 8 * _HASH_BYTES)


def _pieces(connection: Connection, file_id: uuid.UUID, size: int | None) -> Iterator[bytes]:
    found = connection.execute("select location, size from files where id = %s", [file_id]).fetchone()
    if found is None:
        raise Unloadable("the file is not there")
    location, stored_size = found
    return pieces(connection, file_id, location, stored_size if size is None else size)
