"""The columns that a balance transaction can be written with: one small function per column name."""

from collections.abc import Callable
from dataclasses import dataclass

from app.simulator.reports.columns import UTC_STYLE, Cell, Cells, Style, nothing, tax_in, times
from app.simulator.reports.ledger import DAY, Payout, Transaction

NAMES = ("Zoë Ångström", "Jane O'Neil", "山田 太郎", 'Max "Mad" Müller')
COUNTRIES = ("DE", "US", "JP", "KW")


def payout_id(row: Transaction) -> str:
    return Payout(at=row.payout_at, currency=row.currency, amount=0, business=row.business).identifier


def metadata_value(column: str, row: object) -> str:
    """A column like `payment_metadata[order_id]`: every second transaction carries the key."""
    return f"{column} {row.number}" if isinstance(row, Transaction) and row.number % 2 else ""


def fee_category(row: Transaction) -> str:
    return "payment_processing" if row.category == "charge" else row.category


def country(row: Transaction) -> str:
    return COUNTRIES[row.number % 4]


def _id(prefix: str) -> Cell[Transaction]:
    return lambda row, _: row.identifier(prefix)


def _money(amount: Callable[[Transaction], int]) -> Cell[Transaction]:
    return lambda row, style: style.money(amount(row), row.currency)


def _constant(value: str) -> Cell[Transaction]:
    return lambda row, _: value


def _only(category: str, cell: Cell[Transaction]) -> Cell[Transaction]:
    """A value that only transactions of one category have."""
    return lambda row, style: cell(row, style) if row.category == category else ""


def _address(prefix: str) -> dict[str, Cell[Transaction]]:
    return {
        f"{prefix}_line1": lambda row, _: f"{row.number % 97 + 1} Main Street",
        f"{prefix}_line2": nothing,
        f"{prefix}_city": lambda row, _: ("Köln", "Boston", "東京", "Kuwait City")[row.number % 4],
        f"{prefix}_state": lambda row, _: "MA" if row.number % 4 == 1 else "",
        f"{prefix}_postal_code": lambda row, _: f"{row.number % 90000 + 1000:05d}",
        f"{prefix}_country": lambda row, _: country(row),
    }


def _sort_of_source(row: Transaction, _: Style) -> str:
    return row.identifier({"charge": "ch", "refund": "re", "dispute": "dp"}.get(row.category, "fee"))


def gross_before_tax(row: Transaction) -> int:
    return row.gross - tax_in(row.gross)


TRANSACTION_CELLS: Cells[Transaction] = {
    **times("created", lambda row: row.created),
    **times("available_on", lambda row: row.created + 2 * DAY),
    **times("automatic_payout_effective_at", lambda row: row.payout_at),
    **times("charge_created", lambda row: row.created),
    **_address("customer_shipping_address"),
    **_address("customer_address"),
    **_address("shipping_address"),
    **_address("card_address"),
    "balance_transaction_id": _id("txn"),
    "currency": lambda row, _: row.currency,
    "gross": _money(lambda row: row.gross),
    "fee": _money(lambda row: row.fee),
    "net": _money(lambda row: row.net),
    "withheld_tax": _money(lambda row: 0),
    "fee_net_of_withheld_tax": _money(lambda row: row.fee),
    "reporting_category": lambda row, _: row.category,
    "description": lambda row, _: row.description,
    "regulatory_tag": nothing,
    "source_id": _sort_of_source,
    "source_transaction_id": _id("py"),
    "destination_payment_id": _id("py"),
    "charge_id": _id("ch"),
    "payment_intent_id": _id("pi"),
    "refund_id": _only("refund", _id("re")),
    "dispute_id": _only("dispute", _id("dp")),
    "dispute_reason": _only("dispute", _constant("fraudulent")),
    "transfer_id": nothing,
    "destination_id": nothing,
    "order_id": nothing,
    "invoice_id": lambda row, _: row.identifier("in") if row.number % 3 == 0 else "",
    "invoice_number": lambda row, _: f"TH-{row.number % 100000:05d}" if row.number % 3 == 0 else "",
    "subscription_id": lambda row, _: row.identifier("sub") if row.number % 3 == 0 else "",
    "customer_id": _id("cus"),
    "customer_email": lambda row, _: f"customer{row.number % 997}@example.com",
    "customer_name": lambda row, _: NAMES[row.number % 4],
    "customer_description": lambda row, _: f"Customer {row.number % 997}",
    "customer_facing_amount": _money(lambda row: row.gross),
    "customer_facing_currency": lambda row, _: row.currency,
    "payment_method_type": _constant("card"),
    "is_link": _constant("false"),
    "card_brand": lambda row, _: ("Visa", "Mastercard", "American Express")[row.number % 3],
    "card_funding": _constant("credit"),
    "card_country": lambda row, _: country(row),
    "statement_descriptor": _constant("TALLYHOOK TEST"),
    "automatic_payout_id": lambda row, _: payout_id(row),
    "payout_reference_token": nothing,
    "payout_statement_descriptor": _constant("STRIPE PAYOUT"),
    "trace_id": lambda row, _: row.identifier("trace"),
    "trace_id_status": _constant("supported"),
    "connected_account": lambda row, _: row.business.account,
    "connected_account_id": lambda row, _: row.business.account,
    "connected_account_name": lambda row, _: row.business.account and f"Business of {row.business.account}",
    "connected_account_country": lambda row, _: row.business.account and "DE",
    "connected_account_direct_charge_id": lambda row, _: row.business.account and row.identifier("py"),
}

FEE_CELLS: Cells[Transaction] = {
    **times("balance_transaction_created", lambda row: row.created),
    **times("fee_transaction_created", lambda row: row.created),
    **times("incurred_at", lambda row: row.created),
    **times("settled_at", lambda row: row.created),
    "balance_transaction_id": _id("txn"),
    "fee_transaction_id": _id("txn"),
    "fee_id": _id("fee"),
    "incurred_by": _sort_of_source,
    "incurred_by_type": lambda row, _: row.category,
    "fee_description": _constant("Card payments, blended"),
    "amount": _money(lambda row: row.cost),
    "tax": _money(lambda row: 0),
    "currency": lambda row, _: row.currency,
    "product": _constant("Card payments"),
    "feature_name": lambda row, _: fee_category(row),
    "pricing_tier": nothing,
    "settled_via": _constant("balance"),
    "suite": _constant("Payments"),
    "fee_category": lambda row, _: fee_category(row),
}

CARD_FEE_CELLS: Cells[Transaction] = {
    **TRANSACTION_CELLS,
    "platform_id": lambda row, _: row.identifier("platform"),
    "plan_name": _constant("IC+"),
    "network_cost_category": lambda row, _: ("interchange", "scheme")[row.number % 2],
    "transfer_created": nothing,
    "balance_transaction_created": lambda row, style: style.time(row.created),
    "fee_incurred_at": lambda row, style: style.time(row.created),
    "captured_amount": _money(lambda row: row.gross),
    "captured_currency": lambda row, _: row.currency,
    "bin": lambda row, _: f"{row.number % 900000 + 100000}",
    "issuing_bank": _constant("A bank"),
    "card_present": _constant("false"),
    "fee_category": _constant("network_cost"),
    # Six places, like the only file that was ever quoted.
    "card_scheme_fee": lambda row, style: style.number("0.005991"),
    "interchange_fee": _money(lambda row: row.fee),
    "non_transactional_card_scheme_fee": _money(lambda row: 0),
    "discount_fee": _money(lambda row: 0),
    "platform_application_fee": _money(lambda row: 0),
    "total_amount": _money(lambda row: row.fee),
    "fee_currency": lambda row, _: row.currency,
    "livemode": _constant("true"),
}

TAX_CELLS: Cells[Transaction] = {
    "id": _id("taxtxn"),
    "line_item_id": _id("tax_li"),
    "type": lambda row, _: "reversal" if row.category == "refund" else "sale",
    "transaction_date": lambda row, style: style.time(row.created),
    "tax_date": lambda row, style: style.time(row.created),
    "country_code": lambda row, _: country(row),
    "state_code": nothing,
    "jurisdiction_level": _constant("country"),
    "jurisdiction_name": lambda row, _: country(row),
    "currency": lambda row, _: row.currency,
    "customer_tax_id": nothing,
    "origin_resolved_address_country": _constant("DE"),
    "origin_resolved_address_state": nothing,
    "destination_resolved_address_country": lambda row, _: country(row),
    "destination_resolved_address_state": nothing,
    "quantity": _constant("1"),
    "quantity_decimal": lambda row, style: style.number("1.0"),
    "subtotal": _money(gross_before_tax),
    "taxable_amount": _money(gross_before_tax),
    "non_taxable_amount": _money(lambda row: 0),
    "tax_amount": _money(lambda row: tax_in(row.gross)),
    "total": _money(lambda row: row.gross),
    "tax_code": _constant("txcd_10000000"),
    "tax_name": _constant("VAT"),
    "tax_rate": lambda row, style: style.number("19.0"),
    "taxability": _constant("taxable"),
    "taxability_reason": _constant("standard_rated"),
    "filing_currency": lambda row, _: row.currency,
    # Real answers have had eighteen places.
    "filing_exchange_rate": lambda row, style: style.number("1.000000000000000000"),
    "filing_taxable_amount": _money(gross_before_tax),
    "filing_non_taxable_amount": _money(lambda row: 0),
    "filing_tax_amount": _money(lambda row: tax_in(row.gross)),
    "filing_total": _money(lambda row: row.gross),
    "connected_account": lambda row, _: row.business.account,
}


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a balance transaction in activity reports, which split it; `amount` in minor units."""

    of: Transaction
    name: str
    amount: int


def _of(cell: Cell[Transaction]) -> Cell[Component]:
    return lambda row, style: cell(row.of, style)


COMPONENT_CELLS: Cells[Component] = {
    **{name: _of(cell) for name, cell in TRANSACTION_CELLS.items()},
    "balance_transaction_created_at": lambda row, style: style.time(row.of.created),
    "balance_transaction_reporting_category": lambda row, _: row.of.category,
    "balance_transaction_component": lambda row, _: row.name,
    "balance_transaction_regulatory_tag": nothing,
    "balance_transaction_description": lambda row, _: row.of.description,
    "activity_at": lambda row, style: style.time(row.of.created),
    "amount": lambda row, style: style.money(row.amount, row.of.currency),
    "fee_id": lambda row, _: row.of.identifier("fee") if row.name == "fee" else "",
    "event_type": lambda row, _: f"{row.of.category}_created",
    "activity_interval_type": _of(_constant("day")),
    "activity_start_date": lambda row, style: UTC_STYLE.date(row.of.created),
    "activity_end_date": lambda row, style: UTC_STYLE.date(row.of.created + DAY),
}

FINANCIAL_CELLS: Cells[Transaction] = {
    "created": lambda row, style: style.time(row.created),
    "category": lambda row, _: {"charge": "received_credit", "refund": "outbound_payment"}.get(row.category, "fee"),
    "status": _constant("posted"),
    "amount": _money(lambda row: row.net),
    "available_balance_impact": _money(lambda row: row.net),
}
