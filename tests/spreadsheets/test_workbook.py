"""A file as a workbook, read back with another library: every value is there, with its type, and none is garbled."""

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest

from app.errors import NotAcceptable
from app.resources import Resources
from app.spreadsheets import making, workbook
from tests import service
from tests.api.conftest import client_of
from tests.service import execute, fetch
from tests.tables.stored import store

ABOUT = {"report type": "x.y.1", "times are in": "Europe/Berlin"}


@pytest.fixture
def res(res: Resources, tmp_path: Path) -> Resources:
    """A process with a data directory of its own."""
    return replace(res, settings=res.settings.model_copy(update={"data_dir": tmp_path / "data"}))


@pytest.fixture
async def api(res: Resources) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(res) as client:
        yield client


def written(tmp_path: Path, header: str, *lines: str, **how: Any) -> Any:
    """The workbook of a CSV, read back."""
    path = tmp_path / "made.xlsx"
    content = "".join(f"{line}\r\n" for line in (header, *lines)).encode()
    workbook.write_workbook([content[:7], content[7:]], path, ABOUT, **how)
    return openpyxl.load_workbook(path)


def values(book: Any, sheet: str = "report") -> list[tuple[Any, ...]]:
    return [tuple(cell.value for cell in row) for row in book[sheet].iter_rows()]


def test_numbers_are_numbers_with_the_decimals_of_their_currency(tmp_path: Path) -> None:
    book = written(tmp_path, "currency,gross", "usd,12.30", "jpy,1234", "kwd,-0.125", "usd,")

    assert values(book) == [("currency", "gross"), ("usd", 12.3), ("jpy", 1234), ("kwd", -0.125), ("usd", None)]
    assert [book["report"].cell(row, 2).number_format for row in (2, 3, 4)] == ["0.00", "0", "0.000"]


def test_only_columns_of_numbers_become_numbers(tmp_path: Path) -> None:
    """The last four digits of a card begin with zeros, and an id may be all digits."""
    book = written(tmp_path, "card_brand,description,gross", "0042,1e5,not a number")

    assert values(book)[1] == ("0042", "1e5", "not a number")


def test_more_digits_than_excel_keeps_become_text_and_the_workbook_says_so(tmp_path: Path) -> None:
    book = written(tmp_path, "gross", "1234567890123.45", "12345678901234.56", "0.000000000000000001")

    assert values(book)[1:] == [(1234567890123.45,), ("12345678901234.56",), (1e-18,)]
    assert values(book, "about") == [
        *ABOUT.items(), ("note", "1 value of gross as text: more than 15 significant digits"),
    ]  # fmt: skip


def test_a_comma_is_the_decimal_separator_where_the_report_was_made_with_it(tmp_path: Path) -> None:
    comma = written(tmp_path, "gross", '"-12,50"', decimal_separator=",")
    point = written(tmp_path, "gross", '"12,500"')

    assert values(comma)[1] == (-12.5,)
    assert values(point)[1] == ("12,500",)


def test_times_are_times_and_anything_else_is_unchanged(tmp_path: Path) -> None:
    book = written(tmp_path, "created", "2026-10-01 08:30:00", "2026-10-01", "2026-02-30 00:00:00", "soon")

    assert [str(row[0]) for row in values(book)[1:]] == [
        "2026-10-01 08:30:00", "2026-10-01 00:00:00", "2026-02-30 00:00:00", "soon",
    ]  # fmt: skip
    assert book["report"]["A3"].number_format == "yyyy-mm-dd"


@pytest.mark.parametrize("text", ["=1+1", "+49 30 1234", "-2+3", "@SUM(A1)", '=HYPERLINK("http://x")'])
def test_a_formula_in_a_text_is_a_text_also_when_the_cell_is_edited(tmp_path: Path, text: str) -> None:
    book = written(tmp_path, "description", '"' + text.replace('"', '""') + '"')

    cell = book["report"]["A2"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == (text, "s", True)


@pytest.mark.parametrize("text", ["ümläut 😀", "  spaces  ", "two\nlines", "_x0041_", 'a "quoted" <tag> & more'])
def test_no_text_is_garbled(tmp_path: Path, text: str) -> None:
    book = written(tmp_path, "description", '"' + text.replace('"', '""') + '"')

    cell = book["report"]["A2"].value
    assert cell.replace("_x005F_", "_") == text


def test_values_and_files_too_large_for_excel_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MOST_ROWS", 2)

    with pytest.raises(NotAcceptable, match="more than 2 data rows, which no sheet holds; use the CSV"):
        written(tmp_path, "gross", "1", "2", "3")
    with pytest.raises(NotAcceptable, match="row 1 has more than 32,767 characters, which no cell holds; use the CSV"):
        written(tmp_path, "description", "x" * 32768)
    with pytest.raises(
        NotAcceptable, match=r"the file is not a table: the row has 1 value, the header has 2 \(row 1\)"
    ):
        written(tmp_path, "a,b", "1")


async def test_a_runs_file_comes_as_a_workbook_made_in_another_process_and_nothing_of_it_stays(
    res: Resources, api: httpx.AsyncClient
) -> None:
    run_id = await store(res, b"created,currency,net\n2026-10-01 10:00:00,usd,9.00\n")

    answer = await api.get(f"/v1/runs/{run_id}/file", params={"format": "xlsx"})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].endswith("spreadsheetml.sheet")
    assert answer.headers["content-disposition"].endswith('.xlsx"')
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    assert book.sheetnames == ["report", "about"]
    assert values(book)[1][1:] == ("usd", 9)
    told = dict(values(book, "about"))
    assert (told["first day"], told["last day"], told["days are of"]) == ("2026-10-01", "2026-10-01", "UTC")
    assert list((res.settings.data_dir / "spool").iterdir()) == []


async def test_a_rules_file_by_date_comes_as_a_workbook_too(
    res: Resources, simulator: Any, api: httpx.AsyncClient
) -> None:
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-02"))
    await service.add_rule(res, name="daily")
    await service.work_off(res)

    answer = await api.get("/v1/rules/daily/files/2026-03-01", params={"format": "xlsx"})
    plain = await api.get("/v1/rules/daily/files/2026-03-01")

    header, *lines = csv.reader(io.StringIO(plain.text))
    shown = values(openpyxl.load_workbook(io.BytesIO(answer.content)))
    assert shown[0] == tuple(header)
    assert [[str(cell or "") for cell in (row[0], row[1], row[3], row[-1])] for row in shown[1:]] == [
        [line[0], line[1], line[3], line[-1]] for line in lines
    ]
    net = header.index("net")
    assert [row[net] for row in shown[1:]] == [float(line[net]) for line in lines]


async def test_a_file_too_large_or_not_csv_names_the_alternative(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await store(res, b"a\n1\n")
    monkeypatch.setattr(making, "MOST_BYTES", 3)
    large = await api.get(f"/v1/runs/{run_id}/file?format=xlsx")
    await execute(res, "update files set media_type = 'application/zip'")
    zipped = await api.get(f"/v1/runs/{run_id}/file?format=xlsx")
    unknown = await api.get(f"/v1/runs/{run_id}/file?format=xls")

    assert (large.status_code, large.json()["detail"]) == (
        406, "the file has 4 bytes, and the limit for workbooks is 3: use the CSV",
    )  # fmt: skip
    assert (zipped.status_code, unknown.status_code) == (406, 422)
    assert (await fetch(res, "select count(*) as count from files"))[0]["count"] == 1


async def test_a_file_that_is_not_a_table_is_refused_by_the_process_that_would_write_it(
    res: Resources, api: httpx.AsyncClient
) -> None:
    run_id = await store(res, b"a,b\n1\n")

    answer = await api.get(f"/v1/runs/{run_id}/file?format=xlsx")

    assert answer.status_code == 406
    assert answer.json()["detail"].startswith("the file is not a table: the row has 1 value, the header has 2 (row 1)")
    assert list((res.settings.data_dir / "spool").iterdir()) == []
