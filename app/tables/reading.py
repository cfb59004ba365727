"""From the bytes of a report to checked rows: strict, exact, in bounded memory. Pure.

PostgreSQL may not judge the values: it would accept `NaN`, `1_000` and `now`. A value is taken unchanged or the file is
refused; the error names the row and the column, but never the value, which may be somebody's name.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import chain, islice
from typing import TypeAlias

from app.errors import Unloadable
from app.sentences import count
from app.tables.catalogue import Kind

# More than any value or line of a report has.
MOST_LINE_BYTES = 1024 * 1024
MOST_COLUMNS = 1500
# What fits into a processor's cache: four times as many bytes take half as long again.
BATCH_ROWS = 500
BATCH_BYTES = 4 * 1024 * 1024
# The size of a batch is compared with BATCH_BYTES after this many rows.
_STEP = 250
# Shorter than MOST_LINE_BYTES, so that only a line that begins in one and ends in another can be longer.
_BLOCK_BYTES = 256 * 1024
_BOM = b"\xef\xbb\xbf"

Row: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A wanted column of the file: its place in the header, and the kind of its values."""

    index: int
    name: str
    kind: Kind


@dataclass(slots=True)
class Unwanted:
    """A column that is not loaded: how often it has a value, and the length of the longest one. Never a value."""

    index: int
    name: str
    filled: int = 0
    longest: int = 0


# What each kind accepts, and its name in errors.
_SHAPES: dict[Kind, tuple[str, str]] = {
    Kind.DECIMAL: (r"-?[0-9]{1,20}(?:\.[0-9]{1,18})?", "a decimal number such as -12.50"),
    Kind.INTEGER: (r"-?[0-9]{1,18}", "a whole number such as 12"),
    Kind.TIMESTAMP: (
        r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
        r"(?: (?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?)?",
        "a time such as 2026-10-01 08:30:00",
    ),
}


class _Shape:
    """One expression for a single value, and one for a whole column of a batch, its values joined by line breaks."""

    def __init__(self, one: str, expected: str) -> None:
        self.one = re.compile(f"(?:{one})?", re.ASCII)
        self.many = re.compile(f"(?:{one})?(?:\n(?:{one})?)*+", re.ASCII)
        self.expected = expected


_POINT = {kind: _Shape(*shape) for kind, shape in _SHAPES.items()}
_COMMA = {
    **_POINT,
    Kind.DECIMAL: _Shape(_SHAPES[Kind.DECIMAL][0].replace(r"\.", ","), "a decimal number such as -12,50"),
}


class Reader:
    """Reads one file: `header` at once, then `batches`. Raises Unloadable as soon as something is wrong, for good."""

    def __init__(self, pieces: Iterable[bytes], *, decimal_separator: str = ".") -> None:
        csv.field_size_limit(MOST_LINE_BYTES)
        self._lines = _Lines(pieces)
        self._rows = csv.reader(iter(self._lines), strict=True)
        self._comma = decimal_separator == ","
        self._shapes = _COMMA if self._comma else _POINT
        self.row_count = 0
        self.header = self._read_header()

    def _read_header(self) -> tuple[str, ...]:
        found = self._take(1)
        if not found or not found[0]:
            raise Unloadable("the file is empty: a report without rows still has its header")
        header = tuple(found[0])
        if len(header) > MOST_COLUMNS:
            raise Unloadable(f"the header has {len(header)} columns: at most {MOST_COLUMNS} are read")
        if "" in header:
            raise Unloadable("the header has a column without a name")
        if len(set(header)) < len(header):
            twice = next(name for place, name in enumerate(header) if name in header[:place])
            raise Unloadable("the header names a column twice", column=twice)
        return header

    def batches(self, wanted: Sequence[Wanted], unwanted: Sequence[Unwanted] = ()) -> Iterator[list[Row]]:
        """The rows, some at a time: the values of `wanted` in that order, checked; an empty value is None.

        A column of metadata is requested like any other. The `unwanted` columns are counted there.
        """
        for columns, number in self.columns(wanted, unwanted):
            values = [[value or None for value in column] for column in columns]
            yield list(zip(*values, strict=True)) if values else [()] * number

    def columns(
        self, wanted: Sequence[Wanted], unwanted: Sequence[Unwanted] = ()
    ) -> Iterator[tuple[list[Sequence[str]], int]]:
        """The same column by column, empty values unchanged; and how many rows there are."""
        width = len(self.header)
        while rows := self._batch():
            if set(map(len, rows)) != {width}:
                self._refuse_ragged(rows, width)
            columns = list(zip(*rows, strict=True))
            for column in unwanted:
                _count(column, columns[column.index])
            picked = [self._checked(column, columns[column.index]) for column in wanted]
            self.row_count += len(rows)
            yield picked, len(rows)

    def _batch(self) -> list[list[str]]:
        rows: list[list[str]] = []
        until = self._lines.taken + BATCH_BYTES
        while len(rows) < BATCH_ROWS and self._lines.taken < until:
            if not (found := self._take(_STEP, done=len(rows))):
                break
            rows += found
        return rows

    def _take(self, limit: int, *, done: int = 0) -> list[list[str]]:
        before = self._rows.line_num
        taken: list[list[str]] = []
        try:
            taken.extend(islice(self._rows, limit))
        except (csv.Error, UnicodeDecodeError, _BadLine) as error:
            row = self.row_count + done + len(taken) + 1 if before else None
            raise Unloadable(_said(error), row=row) from None
        return taken

    def _checked(self, column: Wanted, values: tuple[str, ...]) -> Sequence[str]:
        if (shape := self._shapes.get(column.kind)) is not None:
            joined = "\n".join(values)
            if shape.many.fullmatch(joined) is None or joined.count("\n") != len(values) - 1:
                self._refuse_value(column, values, shape)
            if column.kind is Kind.TIMESTAMP and not _are_days({value[:10] for value in values}):
                self._refuse_value(column, values, shape)
            if self._comma and column.kind is Kind.DECIMAL:
                return [value.replace(",", ".") for value in values]
        return values

    def _refuse_value(self, column: Wanted, values: tuple[str, ...], shape: _Shape) -> None:
        place = next(
            place
            for place, value in enumerate(values)
            if shape.one.fullmatch(value) is None or (column.kind is Kind.TIMESTAMP and not _are_days({value[:10]}))
        )
        raise Unloadable(
            f"a value is not {shape.expected}", row=self.row_count + place + 1, column=column.name,
            expected=column.kind.value,
        )  # fmt: skip

    def _refuse_ragged(self, rows: list[list[str]], width: int) -> None:
        place, row = next((place, row) for place, row in enumerate(rows) if len(row) != width)
        values = count(len(row), "value")
        raise Unloadable(f"the row has {values}, the header has {width}", row=self.row_count + place + 1)


def as_json(names: Sequence[str], values: Sequence[str | None]) -> str | None:
    """The metadata of a row as one JSON object without empty values; None when all are empty."""
    filled = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    return json.dumps(filled, ensure_ascii=False) if filled else None


def as_stream(pieces: Iterable[bytes]) -> io.BufferedReader:
    """Pieces of bytes as a stream to read from."""
    return io.BufferedReader(_Pieces(pieces), 256 * 1024)


class _BadLine(Exception):
    """The bytes are not a line of text."""


class _Lines:
    """The lines of a stream of bytes, as text, each with its line break; `taken` counts the bytes so far.

    Only LF ends a line: `str.splitlines` would also split at what may stand inside a value (U+2028). Many lines are
    decoded at once; only if one of them is bad, each is looked at, so that those before it are read.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._buffer = as_stream(pieces)
        if self._buffer.peek(3)[:3] == _BOM:
            self._buffer.read(3)
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(self._lines_of, self._blocks()))

    def _lines_of(self, block: bytes) -> Iterator[str]:
        self.taken += len(block)
        try:
            if b"\0" in block:
                raise _BadLine
            return io.StringIO(block.decode(), newline="\n")
        except (UnicodeDecodeError, _BadLine):
            return map(_one_line, io.BytesIO(block))

    def _blocks(self) -> Iterator[bytes]:
        """Whole lines, as many as come at once."""
        begun = b""
        while block := self._buffer.read1(_BLOCK_BYTES):
            end = block.rfind(b"\n") + 1
            longest = len(begun) + (block.find(b"\n") + 1 or len(block))
            if longest > MOST_LINE_BYTES:
                raise _BadLine(f"a line is longer than {MOST_LINE_BYTES} bytes")
            if end:
                yield begun + block[:end]
                begun = block[end:]
            else:
                begun += block
        if begun:
            yield begun


def _one_line(line: bytes) -> str:
    if b"\0" in line:
        raise _BadLine("a value has a zero byte")
    return line.decode()


class _Pieces(io.RawIOBase):
    """An iterable of bytes as a stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        into = memoryview(buffer)  # type: ignore[arg-type]  # BufferedReader gives a buffer
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(into), len(self._rest))
        into[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _are_days(found: set[str]) -> bool:
    """Whether all of these dates exist: the shape alone would accept the 30th of February."""
    return all(map(_is_day, found))


@lru_cache(maxsize=4096)
def _is_day(day: str) -> bool:
    try:
        return not day or bool(date.fromisoformat(day))
    except ValueError:
        return False


def _count(column: Unwanted, values: tuple[str, ...]) -> None:
    column.filled += len(values) - values.count("")
    column.longest = max(column.longest, *map(len, values))


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a value is not UTF-8"
    if isinstance(error, csv.Error):
        return f"the row is not CSV: {error}"
    return str(error)
