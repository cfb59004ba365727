"""How values are written, and the columns of rows that are sums or payouts: one small function per column name.

The columns of transactions are in `transaction_columns`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from app.simulator.reports import ledger
from app.simulator.reports.ledger import DAY, Payout

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Style:
    """How values are written: naive local times of a zone, decimals with a separator."""

    zone: ZoneInfo
    separator: str

    def time(self, moment: int) -> str:
        return datetime.fromtimestamp(moment, self.zone).strftime("%Y-%m-%d %H:%M:%S")

    def date(self, moment: int) -> str:
        return datetime.fromtimestamp(moment, self.zone).strftime("%Y-%m-%d")

    def money(self, amount: int, currency: str) -> str:
        return ledger.major(amount, currency).replace(".", self.separator)

    def number(self, text: str) -> str:
        return text.replace(".", self.separator)


Cell: TypeAlias = Callable[[RowT, Style], str]
Cells: TypeAlias = Mapping[str, Cell[RowT]]
UTC_STYLE = Style(ZoneInfo("Etc/UTC"), ".")


def times(name: str, moment: Callable[[RowT], int]) -> dict[str, Cell[RowT]]:
    """A time in both of its columns: in the run's zone, and in UTC."""
    return {
        name: lambda row, style: style.time(moment(row)),
        f"{name}_utc": lambda row, _: UTC_STYLE.time(moment(row)),
    }


def nothing(row: object, style: Style) -> str:
    """A column for which none of these rows has a value."""
    return ""


@dataclass(frozen=True, slots=True)
class Total:
    """One row of a summary; amounts in minor units."""

    category: str
    currency: str
    gross: int
    fee: int
    description: str = ""
    count: int = 0
    hides_currency: bool = False


TOTAL_CELLS: Cells[Total] = {
    "category": lambda row, _: row.category,
    "reporting_category": lambda row, _: row.category,
    "currency": lambda row, _: "" if row.hides_currency else row.currency,
    "description": lambda row, _: row.description,
    "count": lambda row, _: str(row.count),
    "gross": lambda row, style: style.money(row.gross, row.currency),
    "fee": lambda row, style: style.money(row.fee, row.currency),
    "net": lambda row, style: style.money(row.gross - row.fee, row.currency),
    "net_amount": lambda row, style: style.money(row.gross - row.fee, row.currency),
    "amount": lambda row, style: style.money(row.gross - row.fee, row.currency),
}

FEE_TOTAL_CELLS: Cells[Total] = {
    "suite": lambda row, _: "Payments",
    "product": lambda row, _: "Card payments",
    "feature_name": lambda row, _: row.category,
    "amount": lambda row, style: style.money(row.fee, row.currency),
    "tax": lambda row, style: style.money(0, row.currency),
    "currency": lambda row, _: row.currency,
}


PAYOUT_CELLS: Cells[Payout] = {
    **times("effective_at", lambda row: row.at),
    **dict.fromkeys(("payout_reversed_at", "payout_reversed_at_utc"), nothing),
    "payout_id": lambda row, _: row.identifier,
    "balance_transaction_id": lambda row, _: row.identifier.replace("po_", "txn_"),
    "payout_expected_arrival_date": lambda row, style: UTC_STYLE.date(row.at + DAY),
    "payout_status": lambda row, _: "paid",
    "payout_type": lambda row, _: "bank_account",
    "payout_description": lambda row, _: "STRIPE PAYOUT",
    "payout_destination_id": lambda row, _: row.identifier.replace("po_", "ba_"),
    "currency": lambda row, _: row.currency,
    "gross": lambda row, style: style.money(-row.amount, row.currency),
    "fee": lambda row, style: style.money(0, row.currency),
    "net": lambda row, style: style.money(-row.amount, row.currency),
    "reporting_category": lambda row, _: "payout",
    "description": lambda row, _: "STRIPE PAYOUT",
    "connected_account": lambda row, _: row.business.account,
}


@dataclass(frozen=True, slots=True)
class Sales:
    """Sales in one country and currency, and their refunds; amounts in minor units, tax included."""

    country: str
    currency: str
    sold: int
    refunded: int


def tax_in(amount: int) -> int:
    """Tax included in an amount, at 19 %, rounded towards zero."""
    return int(amount * 19 / 119)


SALES_CELLS: Cells[Sales] = {
    "country_code": lambda row, _: row.country,
    "jurisdiction_level": lambda row, _: "country",
    "jurisdiction_name": lambda row, _: row.country,
    "tax_rate": lambda row, style: style.number("19.0"),
    "transaction_currency": lambda row, _: row.currency,
    "total_sales": lambda row, style: style.money(row.sold, row.currency),
    "total_tax_collected": lambda row, style: style.money(tax_in(row.sold), row.currency),
    "total_taxable_sales": lambda row, style: style.money(row.sold, row.currency),
    "total_nontaxable_sales": lambda row, style: style.money(0, row.currency),
    "total_sales_refunded": lambda row, style: style.money(row.refunded, row.currency),
    "total_tax_refunded": lambda row, style: style.money(tax_in(row.refunded), row.currency),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """One connected account in one currency at the end of the interval; amounts in minor units."""

    account: str
    currency: str
    balance: int
    change: int
    refunded: int
    disputed: int


STANDING_CELLS: Cells[Standing] = {
    "account_id": lambda row, _: row.account,
    "business_name": lambda row, _: f"Business of {row.account}",
    "currency": lambda row, _: row.currency,
    "pending_debits": lambda row, style: style.money(0, row.currency),
    "balance_excluding_pending_debits": lambda row, style: style.money(row.balance, row.currency),
    "balance_24hr_net_change": lambda row, style: style.money(row.change, row.currency),
    "refunded_amount_7d": lambda row, style: style.money(row.refunded, row.currency),
    "refunded_amount_7d_prev": lambda row, style: style.money(0, row.currency),
    "refund_pct_change": nothing,
    "disputed_amount_7d": lambda row, style: style.money(row.disputed, row.currency),
    "disputed_amount_7d_prev": lambda row, style: style.money(0, row.currency),
    "dispute_pct_change": nothing,
    "has_24hr_negative_balance_change": lambda row, _: "true" if row.change < 0 else "false",
    "has_high_disputes": lambda row, _: "false",
    "has_high_refunds": lambda row, _: "false",
}
