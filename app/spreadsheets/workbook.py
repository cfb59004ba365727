"""From a report's CSV to a workbook: one sheet of rows, one about them. Nothing is guessed and nothing garbled.

Excel keeps 15 significant digits, takes `=…` for a formula when a cell is edited, and allows 32,767 characters a cell.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from app.errors import NotAcceptable, Unloadable
from app.tables.catalogue import Kind, find_column
from app.tables.reading import Reader, Wanted

MOST_ROWS = 1_048_575  # of data: Excel has one more, for the header
MOST_CHARACTERS = 32_767
MOST_DIGITS = 15
_WIDTH = 18
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.([0-9]{1,18}))?")
_TIMES = ((10, "%Y-%m-%d", "yyyy-mm-dd"), (16, "%Y-%m-%d %H:%M", "yyyy-mm-dd hh:mm"),
          (19, "%Y-%m-%d %H:%M:%S", "yyyy-mm-dd hh:mm:ss"))  # fmt: skip
# What a spreadsheet, even one that opens the sheet saved as CSV, would take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_EARLIEST_YEAR = 1900


def write_workbook(
    pieces: Iterable[bytes], path: Path, about: Mapping[str, str], *, decimal_separator: str = "."
) -> int:
    """Write the CSV in `pieces` as a workbook; returns its data rows. Raises NotAcceptable.

    `about` is what the second sheet says, by name; what had to be written as text is added there.
    """
    with xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": str(path.parent)}) as workbook:
        sheet = _Sheet(workbook, comma=decimal_separator == ",")
        try:
            reader = Reader(pieces, decimal_separator=decimal_separator)
            rows = sheet.write(reader)
        except Unloadable as error:
            place = "" if error.row is None else f" (row {error.row})"
            raise NotAcceptable(f"the file is not a table: {error.message}{place}; download it as it is") from error
        _write_about(workbook, about, sheet.notes())
    return rows


class _Sheet:
    """The sheet `report`, while it is written."""

    def __init__(self, workbook: xlsxwriter.Workbook, *, comma: bool) -> None:
        self._workbook, self._comma = workbook, comma
        self._sheet: Worksheet = workbook.add_worksheet("report")
        self._bold = workbook.add_format({"bold": True})
        self._quoted = workbook.add_format({"quote_prefix": True})
        self._formats: dict[str, Format] = {}
        self._as_text: Counter[str] = Counter()
        self._row = 0

    def write(self, reader: Reader) -> int:
        """The header and all rows; returns how many."""
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, len(reader.header) - 1, _WIDTH)
        for place, name in enumerate(reader.header):
            self._write_text(place, name, self._bold)
        writers = [self._writer(name, place) for place, name in enumerate(reader.header)]
        # As text: a value that does not have the form of its kind is written unchanged, and not refused.
        wanted = [Wanted(place, name, Kind.TEXT) for place, name in enumerate(reader.header)]
        for batch in reader.batches(wanted):
            for values in batch:
                self._row += 1
                if self._row > MOST_ROWS:
                    raise NotAcceptable(f"the file has more than {MOST_ROWS:,} data rows, which no sheet holds{_CSV}")
                for write, value in zip(writers, values, strict=True):
                    if value is not None:
                        write(value)
        return self._row

    def notes(self) -> list[str]:
        """What else the second sheet must say."""
        return [
            f"{count} value{'' if count == 1 else 's'} of {name} as text: more than {MOST_DIGITS} significant digits"
            for name, count in self._as_text.items()
        ]

    def _writer(self, name: str, place: int) -> Callable[[str], None]:
        column = find_column(name)
        match Kind.TEXT if column is None else column.kind:
            case Kind.DECIMAL | Kind.INTEGER:
                return partial(self._write_number, place, name)
            case Kind.TIMESTAMP:
                return partial(self._write_time, place)
        return partial(self._write_text, place)

    def _write_number(self, place: int, name: str, value: str) -> None:
        point = value.replace(",", ".") if self._comma and "." not in value else value
        found = _NUMBER.fullmatch(point)
        if found is None:
            self._write_text(place, value)
        elif len(point.lstrip("-0.").replace(".", "")) > MOST_DIGITS:
            self._as_text[name] += 1
            self._write_text(place, value)
        else:
            # As many decimals as the file has: those of the currency, whichever it is.
            decimals = "" if found[1] is None else f".{'0' * len(found[1])}"
            self._sheet.write_number(self._row, place, float(point), self._format(f"0{decimals}"))

    def _write_time(self, place: int, value: str) -> None:
        for length, form, shown in _TIMES:
            if len(value) == length:
                try:
                    moment = datetime.strptime(value, form)  # noqa: DTZ007 - the sheet `about` names the zone
                except ValueError:
                    break
                if moment.year >= _EARLIEST_YEAR:
                    self._sheet.write_datetime(self._row, place, moment, self._format(shown))
                    return
        self._write_text(place, value)

    def _write_text(self, place: int, value: str, format_: Format | None = None) -> None:
        if len(value) > MOST_CHARACTERS:
            raise NotAcceptable(
                f"a value of row {self._row} has more than {MOST_CHARACTERS:,} characters, which no cell holds{_CSV}"
            )
        is_formula = value.startswith(_FORMULA)
        self._sheet.write_string(self._row, place, value, self._quoted if is_formula else format_)

    def _format(self, shown: str) -> Format:
        if shown not in self._formats:
            self._formats[shown] = self._workbook.add_format({"num_format": shown})
        return self._formats[shown]


def _write_about(workbook: xlsxwriter.Workbook, about: Mapping[str, str], notes: Sequence[str]) -> None:
    sheet = workbook.add_worksheet("about")
    bold = workbook.add_format({"bold": True})
    sheet.set_column(0, 0, _WIDTH * 1.5)
    sheet.set_column(1, 1, _WIDTH * 4)
    lines = [*about.items(), *(("note", note) for note in notes)]
    for row, (name, value) in enumerate(lines):
        sheet.write_string(row, 0, name, bold)
        sheet.write_string(row, 1, value)


_CSV = "; use the CSV"
