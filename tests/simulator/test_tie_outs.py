"""The figures of different reports agree to the last unit: in UTC and local windows, for a platform, for all connected
accounts together, and after a restatement. So checks elsewhere can rely on them."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from app.simulator.reports.catalogue import catalogue, template_for
from app.simulator.reports.csv_files import content_of
from app.simulator.reports.ledger import Business, Restatement
from app.simulator.reports.recipe import Layout, Recipe

Row = dict[str, str]

ZONES = ["Etc/UTC", "America/Los_Angeles", "Australia/Lord_Howe"]
FIRST = datetime(2026, 10, 28)  # noqa: DTZ001 (local midnights, made absolute by the zone; Los Angeles leaves summer time)
DAYS = 7
PLATFORM = (Business("a platform", rows_per_day=50.0),)
CONNECTED = tuple(Business(f"merchant {n}", rows_per_day=20.0, account=f"acct_{n}") for n in range(3))
RESTATED = (replace(PLATFORM[0], restatements=(Restatement(0, 1_793_500_000),)),)
WHOSE = {"platform": PLATFORM, "connected": CONNECTED, "restated": RESTATED}


def midnights(zone: str) -> list[int]:
    days = (FIRST + timedelta(days=number) for number in range(DAYS + 1))
    return [int(day.replace(tzinfo=ZoneInfo(zone)).timestamp()) for day in days]


class Books:
    """The reports of one business in one zone."""

    def __init__(self, whose: str, zone: str) -> None:
        self.businesses, self.zone = WHOSE[whose], zone
        self.prefix = "connected_account_" if whose == "connected" else ""
        self.days = midnights(zone)

    def rows(self, report_type: str, start: int, end: int, *columns: str) -> list[Row]:
        name = self.prefix + report_type
        name = name if name in catalogue() else next(known for known in catalogue() if known.startswith(name[:-1]))
        template = template_for(name)
        wanted = columns or template.file_columns
        told = Recipe(name, self.businesses, start, end, wanted, timezone=self.zone, layout=Layout(total_lines=True))
        text = b"".join(content_of(told).chunks()).decode()
        return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture(params=[(whose, zone) for whose in WHOSE for zone in ZONES], ids="-".join)
def books(request: pytest.FixtureRequest) -> Books:
    return Books(*request.param)


ITEM = ("balance_transaction_id", "currency", "gross", "fee", "net", "reporting_category")
PAID = (*ITEM, "automatic_payout_id")


def sums(rows: Iterable[Row], column: str = "net", by: str = "currency") -> dict[str, Decimal]:
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        totals[row[by]] += Decimal(row[column])
    return {key: total for key, total in totals.items() if total}


def line(rows: Iterable[Row], category: str) -> dict[str, Decimal]:
    return sums((row for row in rows if row["category"] == category), "net_amount")


def added(left: dict[str, Decimal], *others: dict[str, Decimal]) -> dict[str, Decimal]:
    keys = {key for part in (left, *others) for key in part}
    totals = {key: sum((part.get(key, Decimal(0)) for part in (left, *others)), Decimal(0)) for key in keys}
    return {key: total for key, total in totals.items() if total}


def test_net_is_gross_minus_fee_and_no_id_comes_twice(books: Books) -> None:
    for report_type in ("balance_change_from_activity.itemized.3", "payouts.itemized.3"):
        items = books.rows(report_type, books.days[0], books.days[-1], *ITEM)

        assert items
        assert all(Decimal(row["net"]) == Decimal(row["gross"]) - Decimal(row["fee"]) for row in items)
        assert len({row["balance_transaction_id"] for row in items}) == len(items)


def test_a_balance_rolls_continues_and_is_explained(books: Books) -> None:
    previous: dict[str, Decimal] | None = None
    for start, end in zip(books.days, books.days[1:], strict=False):
        balance = books.rows("balance.summary.1", start, end)
        activity = books.rows("balance_change_from_activity.itemized.3", start, end, *ITEM)
        payouts = books.rows("payouts.itemized.3", start, end)
        unpaid = books.rows("ending_balance_reconciliation.itemized.4", start, end, *ITEM)

        ending = line(balance, "ending_balance")
        assert ending == added(line(balance, "starting_balance"), line(balance, "activity"), line(balance, "payouts"))
        assert line(balance, "activity") == added(line(balance, "activity_gross"), line(balance, "activity_fee"))
        assert line(balance, "payouts") == added(line(balance, "payouts_gross"), line(balance, "payouts_fee"))
        assert previous in (None, line(balance, "starting_balance"))
        assert line(balance, "activity") == sums(activity)
        assert line(balance, "payouts") == sums(payouts)
        assert ending == sums(unpaid)
        previous = ending


@pytest.mark.parametrize(
    ("summary", "itemized"),
    [
        ("balance_change_from_activity.summary.1", "balance_change_from_activity.itemized.3"),
        ("payouts.summary.1", "payouts.itemized.3"),
        ("payout_reconciliation.summary.1", "payout_reconciliation.itemized.5"),
        ("ending_balance_reconciliation.summary.1", "ending_balance_reconciliation.itemized.4"),
    ],
)
def test_a_summary_is_the_sum_and_its_total_line_too(books: Books, summary: str, itemized: str) -> None:
    start, end = books.days[1:3]
    lines, items = books.rows(summary, start, end), books.rows(itemized, start, end, *ITEM)

    for column in ("gross", "fee", "net"):
        parts = [row for row in lines if row["reporting_category"] != "total"]
        totals = [row for row in lines if row["reporting_category"] == "total"]
        assert sums(parts, column) == sums(items, column) == sums(totals, column)
        assert sums(parts, column, "reporting_category") == sums(items, column, "reporting_category")
    assert sum(int(row["count"]) for row in parts) == len(items) == sum(int(row["count"]) for row in totals)


def test_a_payout_is_paid_by_what_is_behind_it(books: Books) -> None:
    payouts = books.rows("payouts.itemized.3", books.days[0], books.days[-1], "payout_id", "net")
    behind = books.rows("payout_reconciliation.itemized.5", books.days[0], books.days[-1], *PAID)

    assert sums(behind, by="automatic_payout_id") == {row["payout_id"]: -Decimal(row["net"]) for row in payouts}


def test_nothing_is_lost_between_two_ends(books: Books) -> None:
    start, end = books.days[2], books.days[5]

    def ids(report_type: str, end: int, start: int = 0) -> Counter[str]:
        return Counter(row["balance_transaction_id"] for row in books.rows(report_type, start, end, *ITEM))

    before, after = (ids("ending_balance_reconciliation.itemized.4", moment) for moment in (start, end))
    came, went = (
        ids(report_type, end, start)
        for report_type in ("balance_change_from_activity.itemized.3", "payout_reconciliation.itemized.5")
    )
    assert before + came == went + after


def test_the_days_make_the_whole(books: Books) -> None:
    for report_type in ("balance_change_from_activity.itemized.3", "payout_reconciliation.itemized.5"):
        windows = zip(books.days, books.days[1:], strict=False)
        days = [row for window in windows for row in books.rows(report_type, *window)]
        whole = books.rows(report_type, books.days[0], books.days[-1])

        assert sorted(map(str, days)) == sorted(map(str, whole))


def test_the_fees_explain_what_the_transactions_lost() -> None:
    books = Books("platform", "Etc/UTC")
    start, end = books.days[0], books.days[-1]
    fees = books.rows("all_fees.balance_transaction_created.itemized.2", start, end)
    activity = books.rows("balance_change_from_activity.itemized.7", start, end, *ITEM)

    taken: dict[str, Decimal] = defaultdict(Decimal)
    for row in activity:
        own = Decimal(row["gross"]) if row["reporting_category"] == "fee" else Decimal(0)
        taken[row["balance_transaction_id"]] += Decimal(row["fee"]) - own
    assert sums(fees, "amount", "balance_transaction_id") == {key: cost for key, cost in taken.items() if cost}


def test_the_components_of_the_activity_are_its_net() -> None:
    books = Books("platform", "Etc/UTC")
    parts = books.rows("activity.itemized.3", books.days[0], books.days[1])
    activity = books.rows("balance_change_from_activity.itemized.7", books.days[0], books.days[1], *ITEM)

    assert sums(parts, "amount", "balance_transaction_id") == sums(activity, "net", "balance_transaction_id")


def test_a_restatement_changes_its_window_and_nothing_else() -> None:
    before, after = (
        Books(whose, "Etc/UTC").rows(
            "balance_change_from_activity.itemized.7", 1_793_400_000, 1_793_600_000, *ITEM, "description", "created"
        )
        for whose in ("platform", "restated")
    )

    changed = {str(row) for row in before} ^ {str(row) for row in after}
    boundary = datetime.fromtimestamp(1_793_500_000, ZoneInfo("UTC")).strftime("%Y-%m-%d %H:%M:%S")
    assert {row["balance_transaction_id"] for row in before} != {row["balance_transaction_id"] for row in after}
    assert changed
    assert [row for row in before if row["created"] >= boundary] == [row for row in after if row["created"] >= boundary]
