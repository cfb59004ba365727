"""From a run's parameters to the recipe of its file: whose business, which interval, which columns and layout."""

import hashlib
from collections.abc import Mapping
from typing import Any

from app.simulator.ids import derived_id
from app.simulator.reports.catalogue import template_for
from app.simulator.reports.ledger import DAY, Business, Restatement
from app.simulator.reports.recipe import Layout, Recipe
from app.simulator.state.model import Account, ReportType
from app.simulator.state.world import World

SEPARATORS = {".": ".", ",": ",", "point": ".", "comma": ","}


def business_of(world: World, account: Account, *, connected: str = "", rows_per_day: float | None = None) -> Business:
    """The business of an account, mode or connected account, with the restatements made so far."""
    now = world.clock.now()
    known = (item for item in account.restatements if item.at <= now and item.connected in (None, connected))
    return Business(
        seed=f"{world.settings.seed}:{account.id}:{account.livemode}:{connected}",
        rows_per_day=world.settings.rows_per_day if rows_per_day is None else rows_per_day,
        account=connected,
        restatements=tuple(Restatement(item.start, item.end) for item in known),
    )


def recipe_for(
    world: World,
    account: Account,
    kind: ReportType,
    *,
    parameters: Mapping[str, Any],
    layout: Layout,
    owner: str | None = None,
) -> Recipe:
    """The recipe of a checked run; `owner` is the connected account of a `Stripe-Account` header."""
    businesses = tuple(
        business_of(world, account, connected=connected, rows_per_day=kind.rows_per_day)
        for connected in _whose(account, kind, parameters, owner)
    )
    start, end, currency = _interval(businesses, kind, parameters)
    return Recipe(
        report_type=kind.id,
        businesses=businesses,
        start=start,
        end=end,
        columns=tuple(parameters.get("columns") or kind.file_columns),
        currency=currency,
        category=parameters.get("reporting_category") or parameters.get("fee_category"),
        timezone=parameters.get("timezone", "Etc/UTC"),
        decimal_separator=SEPARATORS[parameters.get("decimal_separator", ".")],
        bytes=kind.bytes,
        compressed=parameters.get("compress_file") == "true",
        layout=layout,
    )


def _whose(account: Account, kind: ReportType, parameters: Mapping[str, Any], owner: str | None) -> list[str]:
    """The connected accounts that the report is about; `""` is the platform itself. If a report about connected
    accounts names none, it is about all of them."""
    if not template_for(kind.id).connected and not kind.id.startswith(("connect.", "connect_card")):
        return [owner or ""]
    if "connected_account" in parameters:
        return [parameters["connected_account"]]
    named: list[str] | None = parameters.get("connected_accounts")
    return named or ([owner] if owner else [connected.id for connected in account.connected])


def _interval(
    businesses: tuple[Business, ...], kind: ReportType, parameters: Mapping[str, Any]
) -> tuple[int, int, str | None]:
    """Start, end and currency: as requested, of the requested payout, or the day before the end."""
    currency = parameters.get("currency")
    if "payout" in parameters:
        midnight, currency = _payout_day(businesses, kind, str(parameters["payout"]))
        return midnight, midnight + 1, currency
    end = int(parameters["interval_end"])
    return int(parameters.get("interval_start", end - DAY)), end, currency


def _payout_day(businesses: tuple[Business, ...], kind: ReportType, payout: str) -> tuple[int, str | None]:
    """Midnight and currency of a payout from a report; any other id stands for some day's payouts."""
    first, last = -(-kind.data_available_start // DAY), kind.data_available_end // DAY
    for business in businesses:
        for day in range(first, last + 1):
            for currency in set(business.currencies):
                if derived_id("po", business.seed, day * DAY, currency) == payout:
                    return day * DAY, currency
    some = int.from_bytes(hashlib.blake2b(payout.encode(), digest_size=8).digest(), "big")
    return (first + some % max(1, last - first)) * DAY, None
