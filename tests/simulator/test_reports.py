"""What is in the files: parseable CSV whose figures agree with each other and with the other reports."""

import csv
import io
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.simulator.reports.catalogue import catalogue, template_for
from app.simulator.reports.csv_files import EXACT_ROWS, Content, content_of, smallest_size
from app.simulator.reports.ledger import DAY, Business, major
from app.simulator.reports.recipe import Layout, Recipe
from tests.simulator.asking import ITEMIZED, SUMMARY

MONDAY = 1_772_409_600  # 2026-03-02 00:00:00 UTC
BUSINESS = Business("a seed", rows_per_day=60.0)


def recipe(report_type: str = ITEMIZED, *, start: int = MONDAY, end: int = MONDAY + DAY, **changes: Any) -> Recipe:
    columns = template_for(report_type).file_columns
    return replace(Recipe(report_type, (BUSINESS,), start, end, columns), **changes)


def all_bytes(content: Content) -> bytes:
    return b"".join(content.chunks())


def rows(wanted: Recipe) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(all_bytes(content_of(wanted)).decode(), newline="")))


def total(items: list[dict[str, str]], column: str, **fits: str) -> Decimal:
    chosen = (item for item in items if all(item[name] == value for name, value in fits.items()))
    return sum((Decimal(item[column]) for item in chosen), Decimal(0))


ALL_TYPES = [name for name in catalogue() if ".by_id." not in name]


@pytest.mark.parametrize("report_type", ALL_TYPES)
def test_every_report_is_csv_with_its_default_columns(report_type: str) -> None:
    content = content_of(recipe(report_type))
    text = all_bytes(content).decode()

    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))

    assert content.size == len(text.encode())
    assert tuple(lines[0]) == template_for(report_type).file_columns
    assert len(lines) > 1
    assert {len(line) for line in lines} == {len(lines[0])}


@pytest.mark.parametrize("report_type", [name for name in ALL_TYPES if "net" in template_for(name).file_columns])
def test_net_is_gross_minus_fee_and_a_fee_is_positive(report_type: str) -> None:
    items = rows(recipe(report_type))

    for item in items:
        assert Decimal(item["net"]) == Decimal(item["gross"]) - Decimal(item["fee"])
        assert Decimal(item["fee"]) >= 0
        if item["reporting_category"] == "refund":
            assert Decimal(item["gross"]) < 0


def test_the_header_is_quoted() -> None:
    assert all_bytes(content_of(recipe())).startswith(b'"balance_transaction_id","created","available_on","currency",')


def test_descriptions_have_everything_that_breaks_a_naive_parser() -> None:
    descriptions = [item["description"] for item in rows(recipe(end=MONDAY + 7 * DAY))]

    for part in ("\n", '"', ",", ";", "ü", "請", "🚲"):
        assert any(part in description for description in descriptions), part
    assert "" in descriptions


def test_amounts_are_in_major_units_by_currency() -> None:
    items = rows(recipe(end=MONDAY + 7 * DAY))

    places = {item["currency"]: len(item["gross"].partition(".")[2]) for item in items}
    assert places == {"usd": 2, "eur": 2, "jpy": 0, "kwd": 3}


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(1234, "usd", "12.34"), (-5, "eur", "-0.05"), (1234, "jpy", "1234"), (-1234, "kwd", "-1.234"), (0, "usd", "0.00")],
)
def test_minor_units_are_written_exactly(amount: int, currency: str, text: str) -> None:
    assert major(amount, currency) == text


def test_times_are_local_and_without_an_offset() -> None:
    zone = ZoneInfo("America/New_York")
    utc, local = rows(recipe()), rows(recipe(timezone="America/New_York"))

    for there, here in zip(utc, local, strict=True):
        moment = datetime.fromisoformat(there["created"] + "+00:00")
        assert here["created"] == moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def test_the_decimal_separator_can_be_a_comma() -> None:
    points, commas = rows(recipe()), rows(recipe(decimal_separator=","))

    assert [item["net"].replace(".", ",") for item in points] == [item["net"] for item in commas]
    assert any("," in item["net"] for item in commas)


def test_filters_leave_what_they_name() -> None:
    everything = rows(recipe(end=MONDAY + 7 * DAY))

    euros = rows(recipe(end=MONDAY + 7 * DAY, currency="eur"))
    refunds = rows(recipe(end=MONDAY + 7 * DAY, category="refund"))

    assert euros == [item for item in everything if item["currency"] == "eur"]
    assert refunds == [item for item in everything if item["reporting_category"] == "refund"]
    assert euros
    assert refunds


def test_old_versions_know_times_only_in_utc() -> None:
    assert rows(recipe("balance_change_from_activity.itemized.2"))[0].keys() > {"created_utc", "available_on_utc"}
    assert not template_for("balance_change_from_activity.itemized.2").knows("created")
    assert template_for("balance_change_from_activity.itemized.3").knows("created")


def test_metadata_columns_may_have_any_key() -> None:
    family = template_for(ITEMIZED)

    assert family.knows("payment_metadata[order id]")
    assert not family.knows("payment_metadata[]")
    assert not family.knows("other_metadata[key]")
    values = {item["payment_metadata[a]"] for item in rows(recipe(columns=("payment_metadata[a]", "net")))}
    assert "" in values
    assert len(values) > 2


MOMENTS = st.integers(MONDAY, MONDAY + 6 * DAY)


@settings(max_examples=40)
@given(st.lists(MOMENTS, min_size=3, max_size=3, unique=True).map(sorted))
def test_windows_tile(moments: list[int]) -> None:
    start, middle, end = moments

    left, right = rows(recipe(start=start, end=middle)), rows(recipe(start=middle, end=end))

    assert left + right == rows(recipe(start=start, end=end))


@settings(max_examples=25)
@given(st.lists(MOMENTS, min_size=2, max_size=2, unique=True).map(sorted))
def test_a_balance_starts_changes_and_ends_as_the_other_reports_say(moments: list[int]) -> None:
    start, end = moments
    for currency in ("usd", "jpy", "kwd"):
        # A currency in which nothing has happened and nothing is left has no rows.
        balance = defaultdict(Decimal)
        for item in rows(recipe(SUMMARY, start=start, end=end, currency=currency)):
            balance[item["category"]] = Decimal(item["net_amount"])
        activity = total(rows(recipe(start=start, end=end)), "net", currency=currency)
        paid = total(rows(recipe("payouts.itemized.5", start=start, end=end)), "net", currency=currency)
        unpaid = rows(recipe("ending_balance_reconciliation.itemized.4", start=start, end=end))

        assert balance["activity"] == activity
        assert balance["payouts"] == paid
        assert balance["ending_balance"] == balance["starting_balance"] + activity + paid
        assert balance["ending_balance"] == total(unpaid, "net", currency=currency)


def test_a_payout_is_the_sum_of_what_it_pays_out() -> None:
    week = {"start": MONDAY, "end": MONDAY + 7 * DAY}
    payouts = rows(recipe("payouts.itemized.5", **week))
    paid_out = rows(recipe("payout_reconciliation.itemized.7", **week))

    for payout in payouts:
        behind = total(paid_out, "net", automatic_payout_id=payout["payout_id"])
        assert Decimal(payout["net"]) == -behind
    assert {item["automatic_payout_id"] for item in paid_out} == {payout["payout_id"] for payout in payouts}


def test_a_summary_is_the_sum_of_its_itemized_report() -> None:
    items, sums = rows(recipe()), rows(recipe("balance_change_from_activity.summary.1"))

    for line in sums:
        fits = {"currency": line["currency"], "reporting_category": line["reporting_category"]}
        assert Decimal(line["net"]) == total(items, "net", **fits)
        assert int(line["count"]) == sum(fits.items() <= item.items() for item in items)


def test_the_payout_row_of_a_balance_has_no_currency() -> None:
    items = rows(recipe(SUMMARY, currency="usd", layout=Layout(payout_currency=False, payout_parts=False)))

    assert {item["category"]: item["currency"] for item in items if not item["currency"]} == {"payouts": ""}


def test_a_report_of_very_many_rows_has_all_of_them() -> None:
    many = recipe(businesses=(Business("a seed", rows_per_day=EXACT_ROWS * 5.0 + 3),))

    assert len(rows(many)) == EXACT_ROWS * 5 + 3


@given(extra=st.integers(0, 100_000))
def test_a_file_of_an_exact_size_has_it_and_is_valid_to_the_last_row(extra: int) -> None:
    wanted = recipe()
    size = smallest_size(wanted) + extra
    exact = replace(wanted, bytes=size)

    items = rows(exact)

    assert len(all_bytes(content_of(exact))) == content_of(exact).size == size
    assert all(Decimal(item["net"]) == Decimal(item["gross"]) - Decimal(item["fee"]) for item in items)
