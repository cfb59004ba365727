"""Turns columns of checked values into the lines that COPY takes. Pure.

A batch is written column by column and row by row with functions that Python has in C: a call for each row or value
would take longer than PostgreSQL takes to store it.
"""

from collections.abc import Collection, Sequence
from itertools import repeat

NULL = r"\N"
# What would end a value or a line in COPY's text format; the first is replaced first.
_ESCAPES = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}
# No value contains it: the reader refuses it.
_BETWEEN = "\0"


def lines(
    load_id: int, first_row: int, columns: Sequence[Sequence[str]], rows: int, plain: Collection[int] = ()
) -> bytes:
    """The rows of a batch, led by the load's id and the row's number; an empty value is NULL.

    `plain`: the places of columns that need no escaping: their values are numbers or times.
    """
    numbers = map(str, range(first_row, first_row + rows))
    escaped = [column if place in plain else _escaped(column) for place, column in enumerate(columns)]
    values = zip(repeat(str(load_id), rows), numbers, *map(_with_nulls, escaped), strict=True)
    return ("\n".join(map("\t".join, values)) + "\n").encode()


def _escaped(column: Sequence[str]) -> Sequence[str]:
    together = _BETWEEN.join(column)
    found = [special for special in _ESCAPES if special in together]
    if not found:
        return column
    for special in found:
        together = together.replace(special, _ESCAPES[special])
    return together.split(_BETWEEN)


def _with_nulls(column: Sequence[str]) -> Sequence[str]:
    if "" not in column:
        return column
    return [value or NULL for value in column] if any(column) else [NULL] * len(column)
