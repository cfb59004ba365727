"""What each report type takes, as a table, and what is sent to Stripe for it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from app.planning.report_types import JSON, interval_need, run_parameters, takes_timezone
from app.vocabulary import IntervalNeed

START, END = datetime(2026, 10, 1, 7, tzinfo=UTC), datetime(2026, 10, 2, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("report_type", "need", "knows_zones"),
    [
        ("balance.summary.1", IntervalNeed.RANGE, True),
        ("balance_change_from_activity.summary.1", IntervalNeed.RANGE, True),
        ("balance_change_from_activity.itemized.1", IntervalNeed.RANGE, False),
        ("balance_change_from_activity.itemized.2", IntervalNeed.RANGE, False),
        ("balance_change_from_activity.itemized.3", IntervalNeed.RANGE, True),
        ("balance_change_from_activity.itemized.7", IntervalNeed.RANGE, True),
        ("balance_change_from_activity.itemized.12", IntervalNeed.RANGE, True),
        ("payouts.itemized.2", IntervalNeed.RANGE, False),
        ("payouts.itemized.3", IntervalNeed.RANGE, True),
        ("payout_reconciliation.itemized.3", IntervalNeed.RANGE, False),
        ("payout_reconciliation.itemized.4", IntervalNeed.RANGE, True),
        ("payout_reconciliation.by_id.itemized.3", IntervalNeed.NONE, False),
        ("payout_reconciliation.by_id.itemized.4", IntervalNeed.NONE, True),
        ("payout_reconciliation.by_id.summary.1", IntervalNeed.NONE, False),
        ("ending_balance_reconciliation.itemized.2", IntervalNeed.END, False),
        ("ending_balance_reconciliation.itemized.4", IntervalNeed.END, True),
        ("ending_balance_reconciliation.summary.1", IntervalNeed.END, True),
        ("all_fees.incurred_at.summary.2", IntervalNeed.RANGE, False),
        ("all_fees.incurred_at.itemized.2", IntervalNeed.RANGE, True),
        ("connected_account_payouts.itemized.2", IntervalNeed.RANGE, False),
        ("connected_account_payouts.itemized.3", IntervalNeed.RANGE, True),
        ("connected_account_ending_balance_reconciliation.itemized.1", IntervalNeed.END, False),
        ("connected_account_ending_balance_reconciliation.summary.1", IntervalNeed.END, True),
        ("connected_account_payout_reconciliation.by_id.itemized.2", IntervalNeed.NONE, False),
        ("connect.negative_balance_refunds_disputes_overview.1", IntervalNeed.END, True),
        ("something.new.1", IntervalNeed.RANGE, True),
        ("something.without_version", IntervalNeed.RANGE, True),
        ("something.else.0", IntervalNeed.RANGE, True),
    ],
)
def test_what_a_type_takes(report_type: str, need: IntervalNeed, knows_zones: bool) -> None:
    assert (interval_need(report_type), takes_timezone(report_type)) == (need, knows_zones)


@pytest.mark.parametrize(
    ("report_type", "interval"),
    [
        ("balance.summary.1", {"interval_start": 1790838000, "interval_end": 1790924400}),
        ("ending_balance_reconciliation.itemized.4", {"interval_end": 1790924400}),
        ("payout_reconciliation.by_id.itemized.4", {}),
    ],
)
def test_the_interval_is_sent_as_the_type_takes_it(report_type: str, interval: dict[str, JSON]) -> None:
    rule: dict[str, JSON] = {"columns": ["created", "net"], "currency": "usd", "fee_category": "unknown to us"}

    sent = run_parameters(report_type, rule, start=START, end=END, connected_account=None)

    assert sent == rule | interval


def test_a_connected_account_is_named_and_the_rule_left_as_it_was() -> None:
    rule: dict[str, JSON] = {"timezone": "Asia/Tokyo"}

    sent = run_parameters("payouts.summary.1", rule, start=START, end=END, connected_account="acct_1")

    assert (sent["connected_account"], sent["timezone"]) == ("acct_1", "Asia/Tokyo")
    assert rule == {"timezone": "Asia/Tokyo"}


def test_the_window_stands_above_what_the_rule_says() -> None:
    rule: dict[str, JSON] = {"interval_start": 1, "interval_end": 2}

    sent = run_parameters("balance.summary.1", rule, start=START, end=END, connected_account=None)

    assert sent == {"interval_start": 1790838000, "interval_end": 1790924400}


def test_the_start_can_be_moved_and_the_end_stays() -> None:
    sent = run_parameters("balance.summary.1", {}, start=START, end=END, connected_account=None, start_offset_seconds=1)

    assert sent == {"interval_start": 1790838001, "interval_end": 1790924400}


def test_a_bound_in_another_zone_is_the_same_instant() -> None:
    there = ZoneInfo("Pacific/Apia")

    sent = run_parameters(
        "balance.summary.1", {}, start=START.astimezone(there), end=END.astimezone(there), connected_account=None
    )

    assert sent == {"interval_start": 1790838000, "interval_end": 1790924400}


def test_a_payout_needs_no_bounds() -> None:
    rule: dict[str, JSON] = {"payout": "po_1"}

    sent = run_parameters("payout_reconciliation.by_id.itemized.4", rule, start=None, end=None, connected_account=None)

    assert sent == rule


@pytest.mark.parametrize(("start", "end"), [(None, END), (START, None)])
def test_a_missing_bound_is_refused(start: datetime | None, end: datetime | None) -> None:
    with pytest.raises(ValueError, match=r"balance\.summary\.1 needs an interval"):
        run_parameters("balance.summary.1", {}, start=start, end=end, connected_account=None)
