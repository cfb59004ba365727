"""What each report type takes: an interval, only its end, or a payout, and whether it has a `timezone` parameter.

`GET /v1/reporting/report_types` says which types an account has, but what they take is only in Stripe's documentation,
so an unknown type is treated like the modern ones.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from app.vocabulary import IntervalNeed

JSON: TypeAlias = "Mapping[str, JSON] | list[JSON] | str | int | float | bool | None"

# Stripe's parameters that are fields of a rule or a run, and must not be among `parameters`.
OWN_FIELDS = frozenset({"interval_start", "interval_end", "connected_account"})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CONNECT_PREFIX = "connected_account_"
_END_ONLY = ("ending_balance_reconciliation.", "connect.negative_balance_refunds_disputes_overview.")
# Families whose types take no `timezone`, up to and including this version.
_NO_TIMEZONE_UP_TO = {
    "all_fees.balance_transaction_created.summary": 2,
    "all_fees.incurred_at.summary": 2,
    "balance_change_from_activity.itemized": 2,
    "ending_balance_reconciliation.itemized": 2,
    "payout_reconciliation.by_id.itemized": 3,
    "payout_reconciliation.by_id.summary": 1,
    "payout_reconciliation.itemized": 3,
    "payouts.itemized": 2,
}

# A rule may end its type in this instead of a version: its runs take the highest version that has data.
_LATEST = ".latest"


def is_latest(report_type: str) -> bool:
    """Whether it leaves the version open."""
    return report_type.endswith(_LATEST)


def latest_of(report_type: str) -> str:
    """Its family, with the version left open: `balance.summary.latest` for `balance.summary.1`."""
    return report_type.rpartition(".")[0] + _LATEST


def interval_need(report_type: str) -> IntervalNeed:
    """What the type takes to say which period it covers."""
    if ".by_id." in report_type:
        return IntervalNeed.NONE
    if report_type.removeprefix(CONNECT_PREFIX).startswith(_END_ONLY):
        return IntervalNeed.END
    return IntervalNeed.RANGE


def takes_timezone(report_type: str) -> bool:
    """Whether `parameters.timezone` (the zone of the times printed in the file) is known to the type."""
    family, _, version = report_type.removeprefix(CONNECT_PREFIX).rpartition(".")
    return not version.isdecimal() or int(version) > _NO_TIMEZONE_UP_TO.get(family, -1)


def run_parameters(
    report_type: str,
    parameters: Mapping[str, JSON],
    *,
    start: datetime | None,
    end: datetime | None,
    connected_account: str | None,
    start_offset_seconds: int = 0,
    payout: str | None = None,
) -> dict[str, JSON]:
    """Exactly what is sent to Stripe for one run: the rule's parameters, the interval in unix seconds, whose it is.

    `start_offset_seconds` moves the start for types that refuse the first second of their data. A bound that the type
    needs and that is None is a ValueError.
    """
    need = interval_need(report_type)
    sent = dict(parameters)
    if need is IntervalNeed.RANGE:
        sent["interval_start"] = _unix_seconds(start, report_type) + start_offset_seconds
    if need is not IntervalNeed.NONE:
        sent["interval_end"] = _unix_seconds(end, report_type)
    if payout is not None:
        sent["payout"] = payout
    if connected_account is not None:
        sent["connected_account"] = connected_account
    return sent


def _unix_seconds(moment: datetime | None, report_type: str) -> int:
    if moment is None:
        raise ValueError(f"{report_type} needs an interval: give its bounds")
    return (moment - _EPOCH) // timedelta(seconds=1)
