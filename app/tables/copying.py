"""From columns of checked values to the lines that COPY takes. Pure.

A batch is written column by column and row by row by what Python has in C: a call for each row or value would take
longer than PostgreSQL takes to store it.
"""

from collections.abc import Sequence
from itertools import repeat

NULL = r"\N"
# What would end a value, or a line, of COPY's text format.
_SPECIAL = ("\\", "\t", "\n", "\r")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def lines(load_id: int, first_row: int, columns: Sequence[Sequence[str]], rows: int) -> bytes:
    """The rows of a batch, led by the load's id and the row's number; an empty value is NULL."""
    numbers = map(str, range(first_row, first_row + rows))
    values = zip(repeat(str(load_id), rows), numbers, *map(_escaped, columns), strict=True)
    return ("\n".join(map("\t".join, values)) + "\n").encode()


def _escaped(column: Sequence[str]) -> Sequence[str]:
    together = "".join(column)
    if any(special in together for special in _SPECIAL):
        column = [value.translate(_ESCAPES) for value in column]
    return [value or NULL for value in column] if "" in column else column
