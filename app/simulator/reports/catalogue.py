"""The report types a new account has: ids, the parameters each takes and the columns it is written with."""

from dataclasses import dataclass

WINDOW = frozenset({"interval_start", "interval_end"})
END_ONLY = frozenset({"interval_end"})
PAYOUT = frozenset({"payout"})

KNOWN_PARAMETERS = WINDOW | {
    "columns",
    "connected_account",
    "connected_accounts",
    "currency",
    "decimal_separator",
    "fee_category",
    "payout",
    "reporting_category",
    "timezone",
}

_ITEMIZED = frozenset({"timezone", "currency", "reporting_category", "decimal_separator", "columns"})
_ITEMIZED_WITHOUT_ZONE = _ITEMIZED - {"timezone"}
_SUMMARY = frozenset({"timezone", "currency", "columns"})
_TAX = frozenset({"timezone", "decimal_separator", "columns"})
_CONNECTED = frozenset({"connected_account", "connected_accounts"})

CONNECTED_PREFIX = "connected_account_"


@dataclass(frozen=True, slots=True)
class Template:
    """What a report type of this id takes; `optional` without `columns` means that its columns cannot be chosen."""

    name: str
    required: frozenset[str] = WINDOW
    optional: frozenset[str] = _ITEMIZED
    live_only: bool = False


CATALOGUE: dict[str, Template] = {
    "balance.summary.1": Template("Balance summary", optional=_SUMMARY),
    "balance.summary.2": Template("Balance summary", optional=_SUMMARY),
    "balance_change_from_activity.itemized.2": Template(
        "Itemized balance change from activity", optional=_ITEMIZED_WITHOUT_ZONE
    ),
    "balance_change_from_activity.itemized.3": Template("Itemized balance change from activity"),
    "balance_change_from_activity.itemized.6": Template("Itemized balance change from activity"),
    "balance_change_from_activity.itemized.7": Template("Itemized balance change from activity"),
    "balance_change_from_activity.summary.1": Template("Balance change from activity summary", optional=_SUMMARY),
    "payouts.itemized.3": Template("Itemized payouts"),
    "payouts.itemized.5": Template("Itemized payouts"),
    "payouts.summary.1": Template("Payouts summary", optional=_SUMMARY),
    "payout_reconciliation.itemized.5": Template("Itemized payout reconciliation"),
    "payout_reconciliation.itemized.7": Template("Itemized payout reconciliation"),
    "payout_reconciliation.summary.1": Template("Payout reconciliation summary", optional=_SUMMARY),
    "payout_reconciliation.by_id.itemized.4": Template(
        "Itemized reconciliation for a single payout", required=PAYOUT, optional=_ITEMIZED - {"currency"}
    ),
    "payout_reconciliation.by_id.summary.1": Template(
        "Reconciliation summary for a single payout", required=PAYOUT, optional=frozenset({"columns"})
    ),
    "ending_balance_reconciliation.itemized.4": Template("Itemized ending balance reconciliation", required=END_ONLY),
    "ending_balance_reconciliation.summary.1": Template(
        "Ending balance reconciliation summary", required=END_ONLY, optional=_SUMMARY
    ),
    "all_fees.balance_transaction_created.itemized.2": Template(
        "Itemized fees", optional=frozenset({"currency", "fee_category", "timezone", "columns"}), live_only=True
    ),
    "all_fees.balance_transaction_created.summary.2": Template(
        "Fees summary", optional=frozenset({"currency", "columns"}), live_only=True
    ),
    "tax.transactions.itemized.2": Template("Itemized tax transactions", optional=_TAX),
    "connected_account_balance.summary.1": Template(
        "Connected account balance summary", optional=_SUMMARY | _CONNECTED
    ),
    "connected_account_balance_change_from_activity.itemized.3": Template(
        "Connected account itemized balance change from activity", optional=_ITEMIZED | _CONNECTED
    ),
    "connected_account_payouts.itemized.3": Template(
        "Connected account itemized payouts", optional=_ITEMIZED | _CONNECTED
    ),
    "connected_account_payout_reconciliation.itemized.5": Template(
        "Connected account itemized payout reconciliation", optional=_ITEMIZED | _CONNECTED
    ),
    "connected_account_payout_reconciliation.by_id.itemized.4": Template(
        "Connected account itemized reconciliation for a single payout",
        required=PAYOUT | {"connected_account"},
        optional=_ITEMIZED - {"currency"},
    ),
}


def template_for(identifier: str) -> Template:
    """The catalogue's own entry, or a guess for an id it does not list (a newer version, say)."""
    known = CATALOGUE.get(identifier)
    if known is not None:
        return known
    connected = _CONNECTED if identifier.startswith(CONNECTED_PREFIX) else frozenset[str]()
    title = identifier.rpartition(".")[0].replace("_", " ").replace(".", " ").capitalize() or identifier
    if ".by_id." in identifier:
        required = PAYOUT | ({"connected_account"} if connected else frozenset())
        return Template(title, required=required, optional=_ITEMIZED - {"currency"})
    required = END_ONLY if "ending_balance" in identifier else WINDOW
    return Template(
        title, required=required, optional=(_SUMMARY if ".summary." in identifier else _ITEMIZED) | connected
    )


# The values of `parameters.reporting_category` (a row filter) in the API of 2026.
# fmt: off
REPORTING_CATEGORIES = frozenset({
    "advance", "advance_funding", "anticipation_repayment", "charge", "charge_failure", "climate_order_purchase",
    "climate_order_refund", "connect_collection_transfer", "connect_reserved_funds", "contribution", "dispute",
    "dispute_reversal", "fee", "financing_paydown", "financing_paydown_reversal", "financing_payout",
    "financing_payout_reversal", "issuing_authorization_hold", "issuing_authorization_release", "issuing_dispute",
    "issuing_transaction", "network_cost", "other_adjustment", "partial_capture_reversal", "payout",
    "payout_reversal", "platform_earning", "platform_earning_refund", "refund", "refund_failure",
    "risk_reserved_funds", "tax", "topup", "topup_reversal", "transfer", "transfer_reversal",
    "unreconciled_customer_funds",
})
# fmt: on
