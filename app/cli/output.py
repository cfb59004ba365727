"""How commands show results: JSON, a table on a terminal, or tab-separated lines in a pipe."""

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

_GAP = "  "


def show_json(value: Any) -> None:
    """The value as JSON text, for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; elsewhere one line per row, cells separated by tabs, the headings first."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [headings, *cells]:
            typer.echo("\t".join(line))
        return
    heading, *lines = table_lines(headings, cells, width=shutil.get_terminal_size().columns)
    typer.secho("\n".join(heading), bold=True)
    for line in lines:
        typer.echo("\n".join(line))


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> list[list[str]]:
    """The lines of the headings, and those of each row: aligned, and nothing is cut.

    Columns that do not fit beside the others go on in the next line, indented. Columns without a value are left out.
    """
    filled = [number for number in range(len(headings)) if not rows or any(row[number] for row in rows)]
    table = [[row[number] for number in filled] for row in [headings, *rows]]
    widths = [max(_width(row[number]) for row in table) for number in range(len(filled))]
    lines = list(_lines_of_columns(widths, width))
    return [[text for columns in lines for text in _line(row, columns, widths, width)] for row in table]


def _lines_of_columns(widths: Sequence[int], width: int) -> Iterator[range]:
    """Which columns stand in one line."""
    first, used = 0, 0
    for number, wide in enumerate(widths):
        if number > first and used + wide > width:
            yield range(first, number)
            first, used = number, len(_GAP)
        used += wide + len(_GAP)
    yield range(first, len(widths))


def _line(row: Sequence[str], columns: range, widths: Sequence[int], width: int) -> list[str]:
    """A row's cells in these columns; a cell that is wider than a line by itself is wrapped between words."""
    import textwrap

    indent = _GAP if columns.start else ""
    if len(columns) == 1:
        return textwrap.wrap(
            row[columns.start], max(width, 20), initial_indent=indent, subsequent_indent=_GAP, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
    text = indent + _GAP.join(row[number] + " " * (widths[number] - _width(row[number])) for number in columns)
    return [text.rstrip()] if text.strip() else []


def _width(text: str) -> int:
    """How many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "" if value is None else _printable(str(value))


def _printable(text: str) -> str:
    """One line, without what would move a terminal's cursor."""
    return "".join(one if one.isprintable() else "�" for one in " ".join(text.split()))


def show_list(columns: Sequence[str], found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """These columns of a list from the API, as a table; or all of it as JSON."""
    if as_json:
        show_json(found)
    else:
        show_table(columns, [[cell_of(one.get(name)) for name in columns] for one in found])


def show_fields(found: Mapping[str, Any], *, as_json: bool) -> None:
    """One object from the API, a line for each field with a value; or as JSON."""
    if as_json:
        show_json(found)
        return
    for name, value in found.items():
        if value not in (None, [], {}):
            typer.echo(f"{name + ':':<20} {cell_of(value)}")


def cell_of(value: Any) -> Any:
    """A value of an answer in one line; windows by their local dates."""
    match value:
        case {"first": first, "last": last, "timezone": _}:
            return str(first) if first == last else f"{first} to {last}"
        case {"reason": reason, "until": until}:
            return reason if until is None else f"{reason} until {until}"
        case dict():
            return ", ".join(f"{name} {cell_of(one)}" for name, one in value.items() if one is not None)
        case list():
            return ", ".join(str(cell_of(one)) for one in value)
    return value
