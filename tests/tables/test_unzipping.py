"""A ZIP of one CSV is read as that CSV, in bounded memory; anything else in a ZIP is refused."""

import io
import zipfile
from collections.abc import Iterator

import pytest

from app.errors import Unloadable
from app.resources import Resources
from app.tables import unzipping
from tests.tables.stored import line, rows, rule, stored_and_loaded


def zipped(content: bytes, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("report.csv", content)
    return out.getvalue()


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    return iter([data[start : start + size] for start in range(0, len(data), size)])


@pytest.mark.parametrize("size", [1, 7, 29, 30, 31, 1000, 10**7])
def test_the_bytes_are_those_that_were_packed(size: int) -> None:
    content = rows(*(line(number) for number in range(50)))

    assert b"".join(unzipping.plain(in_pieces(zipped(content), size))) == content
    assert b"".join(unzipping.plain(in_pieces(content, size))) == content


def test_however_much_it_holds_it_comes_in_pieces() -> None:
    sizes = [len(piece) for piece in unzipping.plain(in_pieces(zipped(b"a" * 10_000_000), 4096))]

    assert sum(sizes) == 10_000_000
    assert max(sizes) <= unzipping.MOST_BYTES


@pytest.mark.parametrize("size", [20, 45, 200])
def test_a_zip_that_is_cut_off_is_refused(size: int) -> None:
    data = zipped(rows(*(line(number) for number in range(500))))[:size]

    with pytest.raises(Unloadable, match="cut off"):
        list(unzipping.plain(in_pieces(data, 16)))


def test_a_zip_that_is_broken_or_of_another_kind_is_refused() -> None:
    data = bytearray(zipped(rows(*(line(number) for number in range(500)))))
    data[60:70] = b"broken!!!!"
    with pytest.raises(Unloadable, match=r"broken|checksum|cut off"):
        list(unzipping.plain(in_pieces(bytes(data), 16)))
    with pytest.raises(Unloadable, match="compress_file"):
        list(unzipping.plain(in_pieces(zipped(b"a", method=zipfile.ZIP_STORED), 16)))


async def test_a_zipped_report_is_loaded_like_any_other(tables: Resources) -> None:
    load = await stored_and_loaded(tables, zipped(rows(line(1), line(2))), rule_id=await rule(tables))

    assert (load["state"], load["rows"]) == ("loaded", 2)
