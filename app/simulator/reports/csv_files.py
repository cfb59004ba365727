"""The bytes of a report file: the size is known before the first byte is made, and no CSV is ever held whole."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from itertools import islice
from types import SimpleNamespace
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from app.simulator.reports.families import family_of
from app.simulator.reports.recipe import Recipe

EXACT_ROWS = 10_000
"""Longer reports consist of a repeated block of rows and the remaining rows."""
BLOCK_ROWS = 2_000
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """The same bytes over and over, `size` bytes in all."""

    group: bytes
    size: int

    @classmethod
    def of(cls, block: bytes, *, copies: int = 1) -> "Stretch":
        """`copies` of a block, as groups of about a megabyte."""
        return cls(block * max(1, min(copies, CHUNK_BYTES // max(1, len(block)))), len(block) * copies)

    def piece(self, position: int) -> bytes:
        """The bytes from a position: at most a group, at most the rest."""
        left, offset = self.size - position, position % len(self.group)
        return self.group[offset : offset + min(left, CHUNK_BYTES)]


@dataclass(frozen=True, slots=True)
class Content:
    """A file as a sequence of stretches."""

    stretches: tuple[Stretch, ...]

    @property
    def size(self) -> int:
        return sum(stretch.size for stretch in self.stretches)

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of `[start, end)` in pieces of at most about a megabyte."""
        begins, end = 0, self.size if end is None else min(end, self.size)
        for stretch in self.stretches:
            inner = max(0, start - begins)
            while inner < stretch.size and begins + inner < end:
                piece = stretch.piece(inner)[: end - begins - inner]
                yield piece
                inner += len(piece)
            begins += stretch.size


@lru_cache(maxsize=64)
def content_of(recipe: Recipe) -> Content:
    """The report that a recipe describes."""
    if recipe.compressed:
        return _zipped(replace(recipe, compressed=False))
    if recipe.bytes is not None:
        return _of_exact_size(recipe, recipe.bytes)
    if recipe.expected_rows <= EXACT_ROWS:
        return _plain(_head(recipe), _flawed(recipe, list(_values(recipe, EXACT_ROWS * 2))), recipe)
    values = list(_values(recipe, BLOCK_ROWS))
    # A summary or a filtered report with fewer rows than the block may hold is complete.
    if len(values) < BLOCK_ROWS:
        return _plain(_head(recipe), _flawed(recipe, values), recipe)
    copies, rest = divmod(math.floor(recipe.expected_rows), BLOCK_ROWS)
    return _in_blocks(recipe, values, copies=copies, rest=rest)


def smallest_size(recipe: Recipe) -> int:
    """The fewest bytes that a file of exact size can have: the header and one padded row."""
    return len(_head(recipe)) + len(_padded(recipe, 1))


def _plain(head: bytes, rows: list[list[str]], recipe: Recipe) -> Content:
    return Content((Stretch.of(head + b"".join(_line(recipe, row) for row in rows)),))


def _in_blocks(recipe: Recipe, values: list[list[str]], *, copies: int, rest: int) -> Content:
    """A long report; a block with a flaw is written separately, between those without."""
    whole = b"".join(_line(recipe, row) for row in _flawed(recipe, values, beside=True))
    stretches, done = [Stretch.of(_head(recipe))], 0
    for number in sorted({(flaw.row - 1) // BLOCK_ROWS for flaw in recipe.layout.flaws if flaw.kind != "extra_column"}):
        if done <= number < copies:
            rows = _flawed(recipe, values, first=number * BLOCK_ROWS + 1)
            stretches += [Stretch.of(whole, copies=number - done), *_plain(b"", rows, recipe).stretches]
            done = number + 1
    tail = _flawed(recipe, values[:rest], first=copies * BLOCK_ROWS + 1)
    stretches += [Stretch.of(whole, copies=copies - done), *_plain(b"", tail, recipe).stretches]
    return Content(tuple(stretch for stretch in stretches if stretch.size))


def _of_exact_size(recipe: Recipe, size: int) -> Content:
    """Whole rows, the last of them with a text just long enough to meet the size to the byte."""
    lines = [_line(recipe, row) for row in _flawed(recipe, list(_values(recipe, BLOCK_ROWS)))] or [_padded(recipe, 40)]
    head, block = _head(recipe), b"".join(lines)
    room = max(0, size - len(head) - len(_padded(recipe, 1)))
    copies, left = divmod(room, len(block))
    tail = []
    for line in lines:
        if len(line) > left:
            break
        tail.append(line)
        left -= len(line)
    rest = b"".join(tail) + _padded(recipe, left + 1)
    return Content((Stretch.of(head), Stretch.of(block, copies=copies), Stretch.of(rest)))


def _padded(recipe: Recipe, length: int) -> bytes:
    """The report's first row once more, with one value of exactly `length` characters (at least one)."""
    values = next(family_of(recipe.report_type).lines(recipe), ["0"] * len(recipe.columns))
    texts = [place for place, column in enumerate(recipe.columns) if column == "description"]
    wide = texts[0] if texts else len(recipe.columns) - 1
    row = [("0" * length if place == wide else value) for place, value in enumerate(values)]
    return _line(recipe, *_flawed(recipe, [row], beside=True))


def _zipped(recipe: Recipe) -> Content:
    """The CSV in a ZIP: held in memory as it is compressed; equal recipes give equal bytes."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        entry = ZipInfo(f"{recipe.report_type}.csv")
        entry.compress_type = ZIP_DEFLATED
        with archive.open(entry, "w", force_zip64=True) as file:
            for chunk in content_of(recipe).chunks():
                file.write(chunk)
    return Content((Stretch.of(buffer.getvalue()),))


def _values(recipe: Recipe, most: int) -> Iterator[list[str]]:
    return islice(family_of(recipe.report_type).lines(recipe), most)


def _flawed(recipe: Recipe, rows: list[list[str]], *, first: int = 1, beside: bool = False) -> list[list[str]]:
    """The rows with their flaws; `first` is the number of the first one. `beside`: the row with the flaw is not among
    these."""
    flaws = recipe.layout.flaws
    if not flaws:
        return rows
    rows = [list(row) for row in rows]
    added = [flaw.value for flaw in flaws if flaw.kind == "extra_column"]
    for flaw in flaws:
        place = flaw.row - first
        met = not flaw.column or flaw.column in recipe.columns
        if flaw.kind == "bad_value" and met and not beside and 0 <= place < len(rows):
            rows[place][recipe.columns.index(flaw.column) if flaw.column else 0] = flaw.value
    gone = {flaw.row - first for flaw in flaws if flaw.kind == "missing_row" and not beside}
    return [row + added for place, row in enumerate(rows) if place not in gone]


def _head(recipe: Recipe) -> bytes:
    added = [flaw.column for flaw in recipe.layout.flaws if flaw.kind == "extra_column"]
    header = _line(recipe, [*recipe.columns, *added], header=True)
    return b"\xef\xbb\xbf" + header if recipe.layout.bom else header


def _line(recipe: Recipe, values: Sequence[str], *, header: bool = False) -> bytes:
    layout = recipe.layout
    if layout.quoting == "all" or (header and layout.quoting == "header"):
        text = ",".join('"' + value.replace('"', '""') + '"' if value else "" for value in values) or '""'
        return (text + layout.newline).encode()
    written: list[str] = []
    csv.writer(SimpleNamespace(write=written.append), lineterminator=layout.newline).writerow(values)
    return "".join(written).encode()
