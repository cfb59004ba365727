"""What each family of report types tells: which rows of the ledger it takes and which columns it has."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Generic, TypeAlias
from zoneinfo import ZoneInfo

from app.simulator.reports import columns, ledger
from app.simulator.reports.columns import Cell, Cells, RowT, Style, Total
from app.simulator.reports.ledger import DAY, Business, Payout, Transaction

LARGEST_SUM = 10_000
"""A summary adds up no more transactions than this, so that it stays cheap whatever the rate."""

METADATA = re.compile(r"(payment|refund|transfer|invoice|credit_note|tax_transaction)_metadata\[[^\[\]]+\]")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a report's bytes depend on; equal recipes give equal bytes. The interval is half-open, Unix seconds."""

    report_type: str
    business: Business
    start: int
    end: int
    columns: tuple[str, ...]
    currency: str | None = None
    category: str | None = None
    timezone: str = "Etc/UTC"
    decimal_separator: str = "."
    bytes: int | None = None

    @property
    def style(self) -> Style:
        zone = "America/Los_Angeles" if self.timezone == "US/Pacific-New" else self.timezone
        return Style(ZoneInfo(zone), self.decimal_separator)


@dataclass(frozen=True, slots=True)
class Family(Generic[RowT]):
    """The rows of a kind of report and the cells a row can be written with."""

    default_columns: tuple[str, ...]
    cells: Cells[RowT]
    rows: Callable[[Recipe], Iterable[RowT]]
    unknown: frozenset[str] = frozenset()

    def knows(self, column: str) -> bool:
        if column in self.unknown:
            return False
        return column in self.cells or (METADATA.fullmatch(column) is not None and "charge_id" in self.cells)

    def lines(self, recipe: Recipe) -> Iterator[list[str]]:
        """The rows as text, in the order and the style that the recipe asks for."""
        style = recipe.style
        cells = [self._cell(column) for column in recipe.columns]
        for row in self.rows(recipe):
            yield [cell(row, style) for cell in cells]

    def _cell(self, column: str) -> Cell[RowT]:
        known = self.cells.get(column)
        return known if known is not None else lambda row, style: columns.metadata_value(column, row)


AnyFamily: TypeAlias = "Family[Transaction] | Family[Payout] | Family[Total]"


def _wanted(recipe: Recipe, items: Iterable[Transaction]) -> Iterator[Transaction]:
    for item in items:
        if recipe.currency in (None, item.currency) and recipe.category in (None, item.category):
            yield item


def _activity(recipe: Recipe) -> Iterator[Transaction]:
    return _wanted(recipe, ledger.transactions(recipe.business, recipe.start, recipe.end))


def _paid_out(recipe: Recipe) -> Iterator[Transaction]:
    """The transactions behind the payouts of the interval: those of the UTC days that end inside it."""
    first, last = (-(-moment // DAY) * DAY - DAY for moment in (recipe.start, recipe.end))
    return _wanted(recipe, ledger.transactions(recipe.business, first, last))


def _unpaid(recipe: Recipe) -> Iterator[Transaction]:
    return _wanted(recipe, ledger.unpaid(recipe.business, recipe.end))


def _fees(recipe: Recipe) -> Iterator[Transaction]:
    return (item for item in _activity(recipe) if item.fee)


def _sales(recipe: Recipe) -> Iterator[Transaction]:
    return (item for item in _activity(recipe) if item.category in ("charge", "refund"))


def _payouts(recipe: Recipe) -> Iterator[Payout]:
    for payout in ledger.payouts(recipe.business, recipe.start, recipe.end):
        if recipe.currency in (None, payout.currency) and recipe.category in (None, "payout"):
            yield payout


def _summed(rows: Callable[[Recipe], Iterable[Transaction]]) -> Callable[[Recipe], Iterator[Total]]:
    """One total per category and currency, in alphabetical order."""

    def totals(recipe: Recipe) -> Iterator[Total]:
        groups: dict[tuple[str, str], list[Transaction]] = {}
        for item in islice(rows(recipe), LARGEST_SUM):
            groups.setdefault((item.category, item.currency), []).append(item)
        for (category, currency), items in sorted(groups.items()):
            gross, fee = sum(item.gross for item in items), sum(item.fee for item in items)
            yield Total(category=category, currency=currency, gross=gross, fee=fee, count=len(items))

    return totals


def _payout_totals(recipe: Recipe) -> Iterator[Total]:
    amounts: dict[str, list[int]] = {}
    for payout in _payouts(recipe):
        amounts.setdefault(payout.currency, []).append(payout.amount)
    for currency, paid in sorted(amounts.items()):
        yield Total(category="payout", currency=currency, gross=-sum(paid), fee=0, count=len(paid))


def _balance(recipe: Recipe) -> Iterator[Total]:
    """Per currency: starting balance + activity + payouts = ending balance."""
    starting = _sums(ledger.unpaid(recipe.business, recipe.start))
    activity = _sums(ledger.transactions(recipe.business, recipe.start, recipe.end))
    paid = {total.currency: total.gross for total in _payout_totals(recipe)}
    for currency in sorted(starting.keys() | activity.keys() | paid.keys()):
        if recipe.currency in (None, currency):
            yield from _balance_rows(
                currency, starting.get(currency, (0, 0)), activity.get(currency, (0, 0)), paid.get(currency, 0)
            )


def _sums(items: Iterable[Transaction]) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for item in islice(items, LARGEST_SUM):
        gross, fee = sums.get(item.currency, (0, 0))
        sums[item.currency] = (gross + item.gross, fee + item.fee)
    return sums


def _balance_rows(currency: str, starting: tuple[int, int], activity: tuple[int, int], paid: int) -> Iterator[Total]:
    before, gross, fee = starting[0] - starting[1], *activity
    for category, description, amount in (
        ("starting_balance", "Starting balance", before),
        ("activity_gross", "Account activity before fees", gross),
        ("activity_fee", "Less fees", -fee),
        ("activity", "Net balance change from account activity", gross - fee),
        ("payouts", "Total payouts", paid),
        ("ending_balance", "Ending balance", before + gross - fee + paid),
    ):
        # Stripe leaves the currency of the payout row empty.
        yield Total(category, currency, amount, 0, description=description, hides_currency=category == "payouts")


_AMOUNTS = ("currency", "gross", "fee", "net", "reporting_category", "description")
_TOTALS = ("reporting_category", "currency", "count", "gross", "fee", "net")
_ACTIVITY = ("balance_transaction_id", "created", "available_on", *_AMOUNTS)
_PAYOUTS = ("balance_transaction_id", "payout_id", "effective_at", "payout_expected_arrival_date", "payout_status")
_PAID_OUT = ("automatic_payout_id", "automatic_payout_effective_at", *_ACTIVITY)
_FEES = ("balance_transaction_created", "balance_transaction_id", "fee_id", "fee_category", "currency", "amount")
_SALES = ("id", "type", "transaction_date", "country_code", "currency", "subtotal", "tax_amount", "total")

_ITEMS, _SUMS = columns.TRANSACTION_CELLS, columns.TOTAL_CELLS
FAMILIES: dict[str, AnyFamily] = {
    "balance.summary": Family(("category", "currency", "description", "net_amount"), _SUMS, _balance),
    "balance_change_from_activity.itemized": Family(_ACTIVITY, _ITEMS, _activity),
    "balance_change_from_activity.summary": Family(_TOTALS, _SUMS, _summed(_activity)),
    "payouts.itemized": Family((*_PAYOUTS, *_AMOUNTS), columns.PAYOUT_CELLS, _payouts),
    "payouts.summary": Family(_TOTALS, _SUMS, _payout_totals),
    "payout_reconciliation.itemized": Family(_PAID_OUT, _ITEMS, _paid_out),
    "payout_reconciliation.summary": Family(_TOTALS, _SUMS, _summed(_paid_out)),
    "payout_reconciliation.by_id.itemized": Family(_PAID_OUT, _ITEMS, _paid_out),
    "payout_reconciliation.by_id.summary": Family(_TOTALS, _SUMS, _summed(_paid_out)),
    "ending_balance_reconciliation.itemized": Family(_ACTIVITY, _ITEMS, _unpaid),
    "ending_balance_reconciliation.summary": Family(_TOTALS, _SUMS, _summed(_unpaid)),
    "all_fees.itemized": Family(_FEES, _ITEMS, _fees),
    "all_fees.summary": Family(("fee_category", "currency", "amount"), _SUMS, _summed(_fees)),
    "tax.transactions.itemized": Family(_SALES, _ITEMS, _sales),
}


@lru_cache(maxsize=256)
def family_of(report_type: str) -> AnyFamily:
    """The family of an id, whatever its version; an id of a family not known here is written like plain activity."""
    name, _, version = report_type.removeprefix("connected_account_").rpartition(".")
    if name.startswith("all_fees."):
        name = "all_fees." + name.rpartition(".")[2]
    kind = "summary" if name.endswith(".summary") else "itemized"
    if version in ("1", "2") and name in TIMED_SINCE_VERSION_3:
        return _without_local_times(name)
    return FAMILIES.get(name) or FAMILIES[f"balance_change_from_activity.{kind}"]


TIMED_SINCE_VERSION_3 = {
    "balance_change_from_activity.itemized",
    "payouts.itemized",
    "payout_reconciliation.itemized",
    "payout_reconciliation.by_id.itemized",
    "ending_balance_reconciliation.itemized",
}


def _without_local_times(name: str) -> AnyFamily:
    """Versions 1 and 2 write times in UTC only, in columns that say so."""
    family = FAMILIES[name]
    local = {column.removesuffix("_utc") for column in family.cells if column.endswith("_utc")}
    defaults = tuple(column + "_utc" if column in local else column for column in family.default_columns)
    return replace(family, default_columns=defaults, unknown=frozenset(local))
