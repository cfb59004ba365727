"""From a run's parameters to the recipe of its file: whose business, which interval, which columns and style."""

import hashlib
from typing import Any

from app.simulator.reports.families import Recipe, family_of
from app.simulator.reports.ledger import DAY, Business
from app.simulator.reports.parameters import SEPARATORS
from app.simulator.settings import Settings
from app.simulator.state.identifiers import derived_id
from app.simulator.state.model import Account, ReportType


def recipe_for(settings: Settings, account: Account, kind: ReportType, *, parameters: dict[str, Any]) -> Recipe:
    """The recipe of a checked run. Every account, mode and connected account has its own business."""
    connected = parameters.get("connected_account", "")
    rate = settings.rows_per_day if kind.rows_per_day is None else kind.rows_per_day
    business = Business(f"{settings.seed}:{account.id}:{account.livemode}:{connected}", rate)
    start, end, currency = _interval(business, kind, parameters)
    family = family_of(kind.id)
    return Recipe(
        report_type=kind.id,
        business=business,
        start=start,
        end=end,
        columns=tuple(parameters.get("columns") or kind.default_columns or family.default_columns),
        currency=currency,
        category=parameters.get("reporting_category") or parameters.get("fee_category"),
        timezone=parameters.get("timezone", "Etc/UTC"),
        decimal_separator=SEPARATORS[parameters.get("decimal_separator", ".")],
        bytes=kind.bytes,
    )


def _interval(business: Business, kind: ReportType, parameters: dict[str, Any]) -> tuple[int, int, str | None]:
    """Start, end and currency: those asked for, those of the payout asked for, or the day before the end."""
    currency = parameters.get("currency")
    if "payout" in parameters:
        midnight, currency = _payout_day(business, kind, str(parameters["payout"]))
        return midnight, midnight + 1, currency
    end = int(parameters["interval_end"])
    return int(parameters.get("interval_start", end - DAY)), end, currency


def _payout_day(business: Business, kind: ReportType, payout: str) -> tuple[int, str | None]:
    """Midnight and currency of a payout that a report has named; any other id stands for some day's payouts."""
    first, last = -(-kind.data_available_start // DAY), kind.data_available_end // DAY
    for day in range(first, last + 1):
        for currency in set(business.currencies):
            if derived_id("po", business.seed, day * DAY, currency) == payout:
                return day * DAY, currency
    some = int.from_bytes(hashlib.blake2b(payout.encode(), digest_size=8).digest(), "big")
    return (first + some % max(1, last - first)) * DAY, None
