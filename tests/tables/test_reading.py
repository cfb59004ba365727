"""We read exactly what `csv` writes; a value without the strict shape is refused with its row, and never shown."""

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unloadable
from app.tables import reading
from app.tables.catalogue import Kind
from app.tables.reading import Reader, Row, Unwanted, Wanted

KINDS = {"id": Kind.TEXT, "net": Kind.DECIMAL, "created": Kind.TIMESTAMP, "count": Kind.INTEGER}


def read(data: bytes, *, pieces: int = 7, separator: str = ".") -> list[Row]:
    """All rows of a file that comes in pieces of this size, its columns of the kinds above."""
    reader = Reader((data[i : i + pieces] for i in range(0, len(data), pieces)), decimal_separator=separator)
    wanted = [Wanted(i, name, KINDS.get(name, Kind.TEXT)) for i, name in enumerate(reader.header)]
    rows = [row for batch in reader.batches(wanted) for row in batch]
    assert reader.row_count == len(rows)
    return rows


def refused(data: bytes, **more: object) -> Unloadable:
    with pytest.raises(Unloadable) as found:
        read(data, **more)  # type: ignore[arg-type]
    return found.value


def test_an_empty_value_is_null_and_the_rest_stays_as_it_came() -> None:
    assert read(b'id,net\n"a, ""b""",-1.50\n,\n') == [('a, "b"', "-1.50"), (None, None)]


def test_everything_quoted_and_windows_line_breaks_are_read() -> None:
    assert read(b'"id","net"\r\n"a","1.00"\r\n"b",\r\n') == [("a", "1.00"), ("b", None)]


def test_a_byte_order_mark_is_not_part_of_the_first_column() -> None:
    assert read(b"\xef\xbb\xbfid\na\n") == [("a",)]


@pytest.mark.parametrize("data", [b"id,net\n", b"id,net", b"id,net\r\n"])
def test_a_report_without_rows_has_a_header(data: bytes) -> None:
    assert read(data) == []


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_not_a_report(data: bytes) -> None:
    assert refused(data).row is None


def test_a_column_named_twice_is_refused() -> None:
    error = refused(b"id,net,id\na,1,b\n")

    assert (error.column, error.row) == ("id", None)


def test_a_column_without_a_name_is_refused() -> None:
    assert "without a name" in refused(b"id,\na,b\n").message


def test_a_header_of_too_many_columns_is_refused() -> None:
    assert "1501 columns" in refused(",".join(f"c{i}" for i in range(1501)).encode()).message


def test_a_metadata_header_keeps_its_key() -> None:
    reader = Reader([b'"payment_metadata[a ""b"", c]",net\n'])

    assert reader.header == ('payment_metadata[a "b", c]', "net")


@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "1e3", " 5.00 ", "1_000", "0x10", "+1", "1,000.00", ".5", "5.", "--1", "1" * 21,
     "0." + "1" * 19, "\u0661", "1\n2"],
)  # fmt: skip
def test_money_is_written_plainly_or_refused(value: str) -> None:
    error = refused(f'id,net\na,1.00\nb,"{value}"\n'.encode())

    assert (error.row, error.column, error.expected) == (2, "net", "decimal")


@pytest.mark.parametrize(
    "value",
    ["now", "tomorrow", "epoch", "infinity", "2026-10-01T10:00:00Z", "2026-10-01 10:00:00Z", "2026-02-30", "0000-01-01",
     "2026-13-01", "2026-10-01 24:00:00", "2026-10-01 10", "01.10.2026", "2026-10-01 10:00:00+02"],
)  # fmt: skip
def test_a_time_is_written_plainly_or_refused(value: str) -> None:
    error = refused(f"id,created\na,2026-10-01 10:00:00\nb,{value}\n".encode())

    assert (error.row, error.column, error.expected) == (2, "created", "timestamp")


@pytest.mark.parametrize("value", ["2026-10-01 10:00:59", "2026-10-01 10:00", "2026-10-01", "2024-02-29"])
def test_the_three_spellings_of_a_time_are_read(value: str) -> None:
    assert read(f"created\n{value}\n".encode()) == [(value,)]


def test_38_digits_stay_exact() -> None:
    value = "-" + "9" * 20 + "." + "9" * 18

    assert read(f"net\n{value}\n".encode()) == [(value,)]


def test_a_decimal_comma_is_read_where_the_run_asked_for_it_and_refused_elsewhere() -> None:
    assert read(b'net\n"1234,56"\n', separator=",") == [("1234.56",)]
    assert refused(b'net\n"1234,56"\n').row == 1
    assert refused(b"net\n1234.56\n", separator=",").row == 1


def test_a_bad_value_is_named_by_its_row_not_by_its_line() -> None:
    good = '"two\nlines",1.00\n'
    error = refused(("id,net\n" + good * 4999 + "x,oops\n" + good * 5000).encode(), pieces=65536)

    assert error.row == 5000


@pytest.mark.parametrize("data", [b"a\xff,1\n", b"a\x00,1\n", b'"a,1\n', b'"a"b,1\n', b"a\rb,1\n"])
def test_what_is_not_csv_is_refused_at_its_row(data: bytes) -> None:
    assert refused(b"id,net\n" + b"x,1.00\n" * 600 + data).row == 601


@pytest.mark.parametrize(("data", "row"), [(b"a,1\nb\n", 2), (b"a,1\nb,1,c\n", 2), (b"a,1\n\n", 2)])
def test_a_ragged_row_is_refused(data: bytes, row: int) -> None:
    assert refused(b"id,net\n" + data).row == row


def test_a_value_of_hundreds_of_kilobytes_is_read_and_an_endless_line_refused() -> None:
    long = "x" * 900_000
    assert read(f"id\n{long}\n".encode(), pieces=4096) == [(long,)]

    def endless() -> Iterator[bytes]:
        yield b"id\n"
        while True:
            yield b"x" * 65536

    with pytest.raises(Unloadable, match="longer than"):
        list(Reader(endless()).batches([]))


def test_separators_of_unicode_stand_inside_a_value() -> None:
    for odd in ("\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\\."):
        assert read(f'id\n"a{odd}b"\n'.encode()) == [(f"a{odd}b",)]


def test_a_line_that_would_end_a_copy_is_a_value() -> None:
    assert read(b'id\n"a\n\\.\nb"\n') == [("a\n\\.\nb",)]


def test_an_error_never_repeats_a_value() -> None:
    for data in (b"net\nsecret\n", b"created\nsecret\n", b'net\n"secret\n', b"net\nsecret,secret\n"):
        assert "secret" not in refused(data).message


def test_unwanted_values_are_counted_and_not_kept() -> None:
    reader = Reader([b"id,email\na,ann@x\nb,\nc,bo@x\n"])
    email = Unwanted(1, "email")

    assert list(reader.batches([Wanted(0, "id", Kind.TEXT)], [email])) == [[("a",), ("b",), ("c",)]]
    assert (email.filled, email.longest) == (2, 5)


def test_memory_holds_a_batch_however_long_the_file() -> None:
    line = b"a," + b"x" * 10_000 + b"\n"
    reader = Reader(b"id,net\n" if i == 0 else line for i in range(2001))
    sizes = [len(batch) for batch in reader.batches([Wanted(1, "net", Kind.TEXT)])]

    assert sum(sizes) == 2000
    assert max(sizes) <= reading.BATCH_BYTES // 10_000 + 250


# Python 3.11's writer leaves a lone carriage return unquoted, and the result is not CSV.
_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=20)
_decimal = st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,18})?", fullmatch=True, alphabet="0123456789.-")
_integer = st.integers(-(10**18) + 1, 10**18 - 1).map(str)
_time = st.datetimes().map(lambda at: at.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0"))
_rows = st.lists(st.tuples(_text, _decimal | st.just(""), _time | st.just(""), _integer | st.just("")), max_size=30)


@given(
    rows=_rows,
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    newline=st.sampled_from(["\n", "\r\n"]),
    pieces=st.integers(1, 400),
)
def test_what_csv_writes_we_read(rows: list[tuple[str, ...]], quoting: int, newline: str, pieces: int) -> None:
    written = io.StringIO()
    writer = csv.writer(written, quoting=quoting, lineterminator=newline)  # type: ignore[arg-type]
    writer.writerow(KINDS)
    writer.writerows(rows)

    assert read(written.getvalue().encode(), pieces=pieces) == [tuple(v or None for v in row) for row in rows]


@given(data=st.binary(max_size=200), pieces=st.integers(1, 50))
def test_any_bytes_are_read_or_refused(data: bytes, pieces: int) -> None:
    try:
        read(b"id,net\n" + data, pieces=pieces)
    except Unloadable as error:
        row = error.row
    else:
        row = 1

    assert row is not None


def test_a_line_is_too_long_wherever_it_is_cut_and_what_stands_before_a_bad_line_is_counted() -> None:
    long = b"x" * (reading.MOST_LINE_BYTES + 1)
    for pieces in ([b"id\na\n" + long + b"\nb\n"], [b"id\na\n" + long[:900_000], long[900_000:] + b"\nb\n"]):
        with pytest.raises(Unloadable, match="longer than"):
            list(Reader(pieces).batches([]))

    for bad, said in ((b"\xff", "not UTF-8"), (b"\0", "zero byte")):
        lines = [b"id", *(b"%d" % number for number in range(10_000)), b"a" + bad, b"b"]
        with pytest.raises(Unloadable, match=said) as refusal:
            list(Reader([b"\n".join(lines)]).batches([]))
        assert refusal.value.row == 10_001
