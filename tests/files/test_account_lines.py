"""One account's lines out of a file with those of all."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Malformed
from app.files import account_lines
from app.files.account_lines import AccountLines

ACCOUNTS = ["acct_1", "acct_12", "acct_2"]
VALUES = st.text(alphabet='a",\r\né', max_size=6) | st.sampled_from(["acct_1", "x acct_1 y", ""])


def picked(content: bytes, account: str, *, cut: int) -> bytes:
    lines = AccountLines(account)
    pieces = [content[start : start + cut] for start in range(0, len(content), cut)]
    return b"".join([*(lines.take(piece) for piece in pieces), lines.end()])


@given(
    records=st.lists(st.tuples(VALUES, st.sampled_from(ACCOUNTS), VALUES), max_size=12),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    newline=st.sampled_from(["\n", "\r\n"]),
    last_newline=st.booleans(),
    cut=st.integers(1, 60),
)
def test_the_lines_are_those_that_a_csv_reader_finds_byte_by_byte_however_the_file_is_cut(
    records: list[tuple[str, str, str]], quoting: int, newline: str, last_newline: bool, cut: int
) -> None:
    def written(rows: list[tuple[str, str, str]]) -> list[bytes]:
        found = []
        for row in rows:
            text = io.StringIO()
            csv.writer(text, quoting=quoting, lineterminator=newline).writerow(row)  # type: ignore[arg-type]
            found.append(text.getvalue().encode())
        return found

    whole = written([("before", "connected_account", "after"), *records])
    wanted = [whole[0], *(line for line, row in zip(whole[1:], records, strict=True) if row[1] == "acct_1")]
    if not last_newline:
        wanted = [line.removesuffix(newline.encode()) if line is whole[-1] else line for line in wanted]
        whole[-1] = whole[-1].removesuffix(newline.encode())

    assert picked(b"".join(whole), "acct_1", cut=cut) == b"".join(wanted)


def test_a_byte_order_mark_hides_no_column() -> None:
    content = "\ufeffconnected_account,net\nacct_1,5\nacct_2,6\n".encode()

    assert picked(content, "acct_2", cut=7) == "\ufeffconnected_account,net\nacct_2,6\n".encode()


@pytest.mark.parametrize("content", [b"net,currency\n5,eur\n", b"net", b"x_connected_account\n"])
def test_a_file_that_does_not_say_whose_its_lines_are_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed, match="no column connected_account"):
        picked(content, "acct_1", cut=100)


def test_a_short_line_belongs_to_nobody() -> None:
    assert picked(b"net,connected_account\nacct_1\n5,acct_1\n", "acct_1", cut=9) == b"net,connected_account\n5,acct_1\n"


def test_a_quote_that_is_never_closed_gathers_no_more_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_lines, "LONGEST_RECORD", 100)

    with pytest.raises(Malformed, match="a quote is not closed"):
        picked(b'connected_account\n"' + b"a\n" * 100, "acct_1", cut=10)


def test_a_carriage_return_outside_of_quotes_is_part_of_a_value() -> None:
    content = b"net,connected_account,note\n5,acct_1,a\rb\n6,acct_2,c\n"

    assert picked(content, "acct_1", cut=100) == b"net,connected_account,note\n5,acct_1,a\rb\n"
