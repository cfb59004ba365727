"""Which report to use for which bookkeeping task, with its columns in words."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.tables.catalogue import Column, catalogue, find_column

# In the order in which a bookkeeper meets them. A test holds the families against the catalogue.
TASKS: Mapping[str, str] = {
    "Book every transaction that changed the balance": "balance_change_from_activity.itemized",
    "Book the day's or month's totals by category and currency": "balance_change_from_activity.summary",
    "Show opening balance, changes, payouts and closing balance of a period": "balance.summary",
    "Match payouts with the bank: the transactions that each payout consists of": "payout_reconciliation.itemized",
    "Match payouts with the bank: totals by category": "payout_reconciliation.summary",
    "Match one payout with the bank": "payout_reconciliation.by_id.itemized",
    "List the payouts of a period": "payouts.itemized",
    "List payouts that failed": "failed_payouts.itemized",
    "Show what is earned and not paid out yet": "ending_balance_reconciliation.itemized",
    "Account for Stripe's fees, line by line": "all_fees.balance_transaction_created.itemized",
    "Account for Stripe's fees, by feature": "all_fees.balance_transaction_created.summary",
    "Report sales tax and VAT per transaction": "tax.transactions.itemized",
    "Book the balance of connected accounts": "connected_account_balance_change_from_activity.itemized",
    "Match payouts of connected accounts with their banks": "connected_account_payout_reconciliation.itemized",
}


@dataclass(frozen=True, slots=True)
class GuideEntry:
    """A task and the report for it. `report_type` is the newest version that the account has, None without one.

    `columns` are those of that version, or of the newest one that is known.
    """

    task: str
    family: str
    report_type: str | None
    latest: str
    newest_known: str
    columns: Sequence[Column]


def guide(available: Collection[str]) -> list[GuideEntry]:
    """The guide for an account that has these report types."""
    return [_entry(task, family, available) for task, family in TASKS.items()]


def _entry(task: str, family: str, available: Collection[str]) -> GuideEntry:
    known = [one.id for one in catalogue().report_types.values() if one.family == family]
    versions = [one for one in available if one.rpartition(".")[0] == family]
    report_type = max(versions, key=_version, default=None)
    newest = max(known, key=_version)
    facts = catalogue().report_types.get(report_type or newest) or catalogue().report_types[newest]
    columns = [column for column in map(find_column, facts.columns) if column is not None]
    return GuideEntry(task, family, report_type, f"{family}.latest", newest, columns)


def _version(report_type: str) -> int:
    version = report_type.rpartition(".")[2]
    return int(version) if version.isdecimal() else 0
