"""The first rows of a file, which of its columns hold amounts, and the zone of its columns of times. Pure."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from app.tables.catalogue import find_column

PREVIEW_ROWS = 50


@dataclass(frozen=True, slots=True)
class Preview:
    """The first rows of a file; `is_number` says which columns hold amounts."""

    header: list[str]
    is_number: list[bool]
    rows: list[list[str]]
    is_all: bool


def zone_of(column: str, zone: str) -> str | None:
    """The time zone of a file's column of times; None for other columns. `zone`: the one that was requested."""
    known = find_column(column)
    return None if known is None or known.zone is None else {"run": zone, "utc": "UTC"}.get(known.zone)


def preview_of(data: bytes, *, is_whole: bool) -> Preview | str:
    """The first rows of a CSV, given at least its beginning."""
    if not is_whole:
        data = data[: data.rfind(b"\n") + 1]
    text_ = data.decode("utf-8-sig", errors="replace")
    if not text_:
        return "The first line is too long to be shown: download the file."
    reader = csv.reader(io.StringIO(text_, newline=""))
    try:
        header = next(reader, [])
        rows = [row for row, _ in zip(reader, range(PREVIEW_ROWS + 1), strict=False)]
    except csv.Error:
        return "The file cannot be read as a CSV: download it to look inside."
    shown = rows[:PREVIEW_ROWS]
    if not is_whole and len(rows) <= PREVIEW_ROWS and shown:
        shown = shown[:-1]  # its last field may have been cut inside quotes
    numbers = [_is_amount(column, shown) for column in range(len(header))]
    return Preview(header, numbers, shown, is_whole and len(rows) <= PREVIEW_ROWS)


def _is_amount(column: int, rows: Sequence[Sequence[str]]) -> bool:
    values = [row[column] for row in rows if column < len(row) and row[column] != ""]
    return bool(values) and all(_is_number(value) for value in values)


def _is_number(value: str) -> bool:
    digits = value.removeprefix("-").replace(".", "", 1)
    return digits.isascii() and digits.isdigit()
