"""How late Stripe's data of a report type may be: what Stripe documents, or else what was observed.

Counted from the end of a window to the moment when `data_available_end` reaches it. Pure.
"""

from datetime import timedelta

# Data advances by half a day or a day at a time, and is there half a day later.
DAILY = timedelta(hours=36)
# "96 hours after a fee hits the balance".
FEES = timedelta(hours=96)
# The longest that Stripe documents for any type: used for a type about which nothing is known yet.
UNKNOWN = FEES
# The observed time may come from a good week; and an outage of weeks must not become normal.
SEEN_TIMES = 1.25
LONGEST = timedelta(days=10)

_CONNECT_PREFIX = "connected_account_"
_DOCUMENTED = {
    "activity.": DAILY,
    "all_fees.": FEES,
    "balance.": DAILY,
    "balance_change_from_activity.": DAILY,
    "ending_balance_reconciliation.": DAILY,
    "payout_reconciliation.": DAILY,
    "payouts.": DAILY,
}


def data_within(report_type: str, longest_age: timedelta | None) -> timedelta:
    """How long after a window's end its data may take.

    `longest_age` is how old the type's data recently was just before it advanced; it counts where Stripe documents
    nothing.
    """
    family = report_type.removeprefix(_CONNECT_PREFIX)
    for prefix, documented in _DOCUMENTED.items():
        if family.startswith(prefix):
            return documented
    if longest_age is None:
        return UNKNOWN
    return min(max(DAILY, longest_age * SEEN_TIMES), LONGEST)
