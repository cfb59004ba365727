"""What is done to rendered pages for narrow screens, from their text alone."""

import re

from app.web.narrow import fitted

LIST = """<table class="list"><thead><tr><th scope="col">Rule</th>
<th scope="col" class="num"><span class="month">Nov</span>3 &amp; more</th></tr></thead><tbody>
<tr><th scope="row"><a href="/balance_change_from_activity">a</a></th><td class="num">2,835</td><td></td></tr>
</tbody><tbody></tbody></table>"""


def test_each_cell_of_a_list_says_which_column_it_is_of_and_keeps_its_meaning_as_a_block() -> None:
    found = fitted(LIST)

    assert re.findall(r'<(?:th|td) role="(\w+)" data-label="([^"]*)"', found) == [
        ("rowheader", "Rule"),
        ("cell", "Nov 3 &amp; more"),
        ("cell", ""),
    ]
    assert re.findall(r'<(?:t[abr]\w*|thead|th) role="(\w+)"', found) == [
        *("table", "rowgroup", "row", "columnheader", "columnheader"),
        *("rowgroup", "row", "rowheader", "rowgroup"),
    ]
    assert re.sub(r' (role|data-label)="[^"]*"', "", found) == LIST


def test_identifiers_break_between_their_words_and_dates_and_numbers_do_not() -> None:
    assert fitted("<p>as balance_change.itemized.7 since</p>") == "<p>as balance_<wbr>change.<wbr>itemized.7 since</p>"
    assert fitted("<p>Since 2026-10-12.</p>") == '<p>Since <span class="nowrap">2026-10-12</span>.</p>'
    ends = '<span class="nowrap">30 Nov</span> – <span class="nowrap">6 Dec 2026</span>'
    assert fitted("<p>30 Nov – 6 Dec 2026</p>") == f"<p>{ends}</p>"
    assert fitted("<p>for 1–7 Oct 2026</p>") == '<p>for <span class="nowrap">1–7 Oct 2026</span></p>'
    for text in ("frr_1Iq7xsMT7L1v5iDXcx0cvGXAH", "1,234,567,890.123", "A sentence.Another one"):
        assert fitted(f"<p>{text}</p>") == f"<p>{text}</p>"


def test_the_rows_of_a_file_and_what_people_type_stay_unchanged() -> None:
    name = "balance_transaction_id"
    for html in (
        f'<table class="data"><thead><tr><th>{name}</th></tr></thead><tbody><tr><td>{name}</td></tr></tbody></table>',
        f"<textarea>{name}</textarea>",
        f"<option>{name}</option>",
        f"<title>{name}</title>",
        f'<input value="{name}" placeholder="{name}">',
    ):
        assert fitted(html) == html
