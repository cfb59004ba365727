"""How commands show results: JSON, a table on a terminal, or tab-separated lines in a pipe."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer


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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "" if value is None else " ".join(str(value).split())


def show_list(columns: Sequence[str], found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """These columns of a list from the API, as a table; or all of it as JSON."""
    if as_json:
        show_json(found)
    else:
        show_table(columns, [[_flat(one.get(name)) for name in columns] for one in found])


def show_fields(found: Mapping[str, Any], *, as_json: bool) -> None:
    """One object from the API, a line for each field with a value; or as JSON."""
    if as_json:
        show_json(found)
        return
    for name, value in found.items():
        if value not in (None, [], {}):
            typer.echo(f"{name + ':':<20} {_flat(value)}")


def _flat(value: Any) -> Any:
    match value:
        case dict():
            return ", ".join(f"{name} {_flat(one)}" for name, one in value.items() if one is not None)
        case list():
            return ", ".join(str(_flat(one)) for one in value)
    return value
