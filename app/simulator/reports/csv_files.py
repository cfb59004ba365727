"""The bytes of a report file: the size is known before the first byte is made, and no file is ever held whole."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from types import SimpleNamespace
from typing import Literal

from app.simulator.reports.families import Recipe, family_of
from app.simulator.reports.ledger import DAY

EXACT_ROWS = 10_000
"""Longer reports are made of a block of rows that is repeated, and of the rows that are left over."""
BLOCK_ROWS = 2_000
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """A file as head + group + group + … + tail; `repeated` is how many bytes the groups make up together."""

    head: bytes
    group: bytes = b""
    repeated: int = 0
    tail: bytes = b""

    @property
    def size(self) -> int:
        return len(self.head) + self.repeated + len(self.tail)

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of `[start, end)` in pieces of at most about a megabyte."""
        position, end = start, self.size if end is None else min(end, self.size)
        while position < end:
            piece = self._from(position)
            yield piece if len(piece) <= end - position else piece[: end - position]
            position += len(piece)

    def _from(self, position: int) -> bytes:
        inner = position - len(self.head)
        if inner < 0:
            return self.head[position : position + CHUNK_BYTES]
        if inner >= self.repeated:
            return self.tail[inner - self.repeated :][:CHUNK_BYTES]
        left, offset = self.repeated - inner, inner % len(self.group)
        return self.group if offset == 0 and left >= len(self.group) else self.group[offset : offset + left]


@lru_cache(maxsize=64)
def content_of(recipe: Recipe) -> Content:
    """The report that a recipe describes."""
    head = _line(recipe.columns, quoting=csv.QUOTE_ALL)
    if recipe.bytes is not None:
        return _of_exact_size(recipe, head, recipe.bytes)
    expected = (recipe.end - recipe.start) / DAY * recipe.business.rows_per_day
    if expected <= EXACT_ROWS:
        return Content(head + b"".join(_lines(recipe, EXACT_ROWS * 2)))
    lines = list(_lines(recipe, BLOCK_ROWS))
    copies, rest = divmod(math.floor(expected), BLOCK_ROWS)
    # A summary or a filtered report has fewer rows than the block may hold: it is complete as it is.
    if len(lines) < BLOCK_ROWS:
        return Content(head + b"".join(lines))
    return _repeating(head, lines, copies=copies, tail=b"".join(lines[:rest]))


def smallest_size(recipe: Recipe) -> int:
    """The fewest bytes that a file of exact size can have: the header and one padded row."""
    return len(_line(recipe.columns, quoting=csv.QUOTE_ALL)) + len(_padded(recipe, 1))


def _of_exact_size(recipe: Recipe, head: bytes, size: int) -> Content:
    """Whole rows up to the last one, whose text is as long as is needed to meet the size to the byte."""
    lines = list(_lines(recipe, BLOCK_ROWS)) or [_padded(recipe, 40)]
    block = sum(map(len, lines))
    least = len(_padded(recipe, 1))
    room = max(0, size - len(head) - least)
    copies, left = divmod(room, block)
    tail = []
    for line in lines:
        if len(line) > left:
            break
        tail.append(line)
        left -= len(line)
    return _repeating(head, lines, copies=copies, tail=b"".join(tail) + _padded(recipe, left + 1))


def _repeating(head: bytes, lines: list[bytes], *, copies: int, tail: bytes) -> Content:
    block = b"".join(lines)
    group = block * max(1, min(copies, CHUNK_BYTES // len(block)))
    return Content(head, group, len(block) * copies, tail)


def _padded(recipe: Recipe, length: int) -> bytes:
    """The report's first row once more, with one value of exactly `length` characters (at least one)."""
    values = next(family_of(recipe.report_type).lines(recipe), ["0"] * len(recipe.columns))
    texts = [place for place, column in enumerate(recipe.columns) if column == "description"]
    wide = texts[0] if texts else len(recipe.columns) - 1
    return _line([("0" * length if place == wide else value) for place, value in enumerate(values)])


def _lines(recipe: Recipe, most: int) -> Iterator[bytes]:
    rows = family_of(recipe.report_type).lines(recipe)
    return (_line(row) for row in islice(rows, most))


def _line(values: list[str] | tuple[str, ...], *, quoting: Literal[0, 1] = csv.QUOTE_MINIMAL) -> bytes:
    written: list[str] = []
    csv.writer(SimpleNamespace(write=written.append), quoting=quoting, lineterminator="\n").writerow(values)
    return "".join(written).encode()
