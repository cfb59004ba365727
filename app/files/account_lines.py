"""One connected account's lines from a file that holds those of all accounts, as they were written. Pure."""

import csv
from io import BytesIO

from app.errors import Malformed

COLUMN = "connected_account"
# A quote that is never closed would otherwise gather the rest of a file.
LONGEST_RECORD = 16 * 1024 * 1024


class AccountLines:
    """Takes a CSV file piece by piece, and returns the header and one account's records, byte for byte.

    A record may span several lines (a line break in quotes). If an account is rare, most of a file is only
    searched for its id.
    """

    def __init__(self, account: str) -> None:
        self._account = account
        self._needle = account.encode()
        self._column: int | None = None
        self._rest = b""  # an incomplete line, or lines of an incomplete record

    def take(self, piece: bytes) -> bytes:
        """The part of them that this piece completes. Raises Malformed if the file cannot be filtered."""
        data = self._rest + piece
        end = data.rfind(b"\n") + 1
        ends_a_record = data.count(b'"', 0, end) % 2 == 0
        if self._column is not None and ends_a_record and data.find(self._needle, 0, end) < 0:
            return self._keep(data[end:])
        return self._by_record(data, end)

    def end(self) -> bytes:
        """What is left when the file has ended: a last line without a line break. Raises Malformed."""
        last, self._rest = self._rest, b""
        return self._chosen(last) if last else b""

    def _keep(self, rest: bytes) -> bytes:
        if len(rest) > LONGEST_RECORD:
            raise Malformed(f"a record has more than {LONGEST_RECORD} bytes: a quote is not closed")
        self._rest = rest
        return b""

    def _by_record(self, data: bytes, end: int) -> bytes:
        found: list[bytes] = []
        begun: list[bytes] = []
        for line in BytesIO(data[:end]).readlines():  # at LF alone: a CR may be part of a value
            begun.append(line)
            if (line.count(b'"') % 2 == 0) is (len(begun) == 1):
                found.append(self._chosen(line if len(begun) == 1 else b"".join(begun)))
                begun = []
        self._keep(b"".join(begun) + data[end:])
        return b"".join(found)

    def _chosen(self, record: bytes) -> bytes:
        if self._column is None:
            self._column = _column_in(record)
            return record
        if self._needle not in record:
            return b""
        values = _values(record)
        return record if self._column < len(values) and values[self._column] == self._account else b""


def _values(record: bytes) -> list[str]:
    # A CR outside quotes means nothing to Python's reader, and no account has a line break in its id.
    line = record.rstrip(b"\r\n").replace(b"\r", b" ").replace(b"\n", b" ")
    try:
        return next(csv.reader([line.decode("utf-8", "replace")]), [])
    except csv.Error as error:
        raise Malformed(f"a record cannot be read: {error}") from error


def _column_in(header: bytes) -> int:
    names = _values(header.removeprefix(b"\xef\xbb\xbf"))
    if COLUMN not in names:
        raise Malformed(f"the file has no column {COLUMN}")
    return names.index(COLUMN)
