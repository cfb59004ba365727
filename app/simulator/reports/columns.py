"""The columns that a row of a report can be written with: one small function per column name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from app.simulator.reports import ledger
from app.simulator.reports.ledger import DAY, Payout, Transaction

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Style:
    """How values are written: naive local times of a zone, decimals with a separator."""

    zone: ZoneInfo
    separator: str

    def time(self, moment: int) -> str:
        return datetime.fromtimestamp(moment, self.zone).strftime("%Y-%m-%d %H:%M:%S")

    def money(self, amount: int, currency: str) -> str:
        return ledger.major(amount, currency).replace(".", self.separator)


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


Cell: TypeAlias = Callable[[RowT, Style], str]
Cells: TypeAlias = Mapping[str, Cell[RowT]]
UTC_STYLE = Style(ZoneInfo("Etc/UTC"), ".")


def payout_id(row: Transaction) -> str:
    return Payout(at=row.payout_at, currency=row.currency, amount=0, seed=row.seed).identifier


def tax_of(row: Transaction) -> int:
    """Tax included in the gross amount, at 19 %, rounded towards zero."""
    return int(row.gross * 19 / 119)


def metadata_value(column: str, row: object) -> str:
    """A column like `payment_metadata[order_id]`: every second transaction carries the key."""
    return f"{column} {row.number}" if isinstance(row, Transaction) and row.number % 2 else ""


TRANSACTION_CELLS: Cells[Transaction] = {
    "balance_transaction_id": lambda row, _: row.identifier("txn"),
    "created": lambda row, style: style.time(row.created),
    "created_utc": lambda row, _: UTC_STYLE.time(row.created),
    "available_on": lambda row, style: style.time(row.created + 2 * DAY),
    "available_on_utc": lambda row, _: UTC_STYLE.time(row.created + 2 * DAY),
    "currency": lambda row, _: row.currency,
    "gross": lambda row, style: style.money(row.gross, row.currency),
    "fee": lambda row, style: style.money(row.fee, row.currency),
    "net": lambda row, style: style.money(row.net, row.currency),
    "reporting_category": lambda row, _: row.category,
    "description": lambda row, _: row.description,
    "source_id": lambda row, _: row.identifier("ch" if row.category == "charge" else "re"),
    "charge_id": lambda row, _: row.identifier("ch"),
    "payment_intent_id": lambda row, _: row.identifier("pi"),
    "customer_id": lambda row, _: row.identifier("cus"),
    "customer_email": lambda row, _: f"customer{row.number % 997}@example.com",
    "customer_name": lambda row, _: ("Zoë Ångström", "Jane O'Neil", "山田 太郎", 'Max "Mad" Müller')[row.number % 4],
    "customer_facing_amount": lambda row, style: style.money(row.gross, row.currency),
    "customer_facing_currency": lambda row, _: row.currency,
    "card_brand": lambda row, _: ("Visa", "Mastercard", "American Express")[row.number % 3],
    "automatic_payout_id": lambda row, _: payout_id(row),
    "automatic_payout_effective_at": lambda row, style: style.time(row.payout_at),
    "automatic_payout_effective_at_utc": lambda row, _: UTC_STYLE.time(row.payout_at),
    "fee_id": lambda row, _: row.identifier("fee"),
    "fee_category": lambda row, _: "payment_processing" if row.category == "charge" else row.category,
    "balance_transaction_created": lambda row, style: style.time(row.created),
    "incurred_at": lambda row, style: style.time(row.created),
    "amount": lambda row, style: style.money(row.fee, row.currency),
    "id": lambda row, _: row.identifier("taxtxn"),
    "type": lambda row, _: "reversal" if row.category == "refund" else "sale",
    "transaction_date": lambda row, style: style.time(row.created),
    "country_code": lambda row, _: ("DE", "US", "JP", "KW")[row.number % 4],
    "subtotal": lambda row, style: style.money(row.gross - tax_of(row), row.currency),
    "tax_amount": lambda row, style: style.money(tax_of(row), row.currency),
    "total": lambda row, style: style.money(row.gross, row.currency),
}


PAYOUT_CELLS: Cells[Payout] = {
    "payout_id": lambda row, _: row.identifier,
    "balance_transaction_id": lambda row, _: row.identifier.replace("po_", "txn_"),
    "effective_at": lambda row, style: style.time(row.at),
    "effective_at_utc": lambda row, _: UTC_STYLE.time(row.at),
    "payout_expected_arrival_date": lambda row, style: style.time(row.at + DAY),
    "payout_status": lambda row, _: "paid",
    "payout_type": lambda row, _: "bank_account",
    "currency": lambda row, _: row.currency,
    "gross": lambda row, style: style.money(-row.amount, row.currency),
    "fee": lambda row, style: style.money(0, row.currency),
    "net": lambda row, style: style.money(-row.amount, row.currency),
    "reporting_category": lambda row, _: "payout",
    "description": lambda row, _: "STRIPE PAYOUT",
}


TOTAL_CELLS: Cells[Total] = {
    "category": lambda row, _: row.category,
    "reporting_category": lambda row, _: row.category,
    "fee_category": lambda row, _: row.category,
    "currency": lambda row, _: "" if row.hides_currency else row.currency,
    "description": lambda row, _: row.description,
    "count": lambda row, _: str(row.count),
    "gross": lambda row, style: style.money(row.gross, row.currency),
    "fee": lambda row, style: style.money(row.fee, row.currency),
    "net": lambda row, style: style.money(row.gross - row.fee, row.currency),
    "net_amount": lambda row, style: style.money(row.gross - row.fee, row.currency),
    "amount": lambda row, style: style.money(row.fee, row.currency),
}
