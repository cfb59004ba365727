"""The checks of a month of five daily rules, whose files the simulator writes: they all take part in checks."""

import asyncio
import time
from collections.abc import Iterator
from datetime import date, timedelta

from app.resources import open_resources
from app.settings import load_settings
from app.simulator.reports.catalogue import template_for
from app.simulator.reports.csv_files import content_of
from app.simulator.reports.ledger import DAY, Business
from app.simulator.reports.recipe import Recipe
from app.tables import checking, loading
from benchmarks.harness import Row, alone, below, quantile
from benchmarks.loading import add_rule, lateness, store
from benchmarks.rows import one
from benchmarks.stage import KEY, Stage

FIRST = date(2026, 3, 1)
FIRST_SECOND = 1_772_323_200
BUSINESS = Business("a seed", rows_per_day=200.0)
# None: the default columns.
TYPES: dict[str, tuple[str, ...] | None] = {
    "balance.summary.1": None,
    "balance_change_from_activity.itemized.6": None,
    "payouts.itemized.5": None,
    "payout_reconciliation.itemized.7": ("balance_transaction_id", "automatic_payout_id", "currency", "gross", "fee",
                                         "net", "reporting_category"),
    "ending_balance_reconciliation.itemized.4": None,
}  # fmt: skip


def measure(stage: Stage) -> Iterator[Row]:
    """How long they take together, and how late the event loop is meanwhile."""
    days = 7 if stage.short else 31
    with stage.database() as url:
        took, late = asyncio.run(_measured(url, days))
        verdicts = one(url, "select count(*) from checks")
        agree = one(url, "select count(*) from checks where verdict = 'agrees'")
    what = f"checks of {days} days of five daily rules"
    yield alone(what, [took], "s", aim=below(1, "s"), note=f"{verdicts} verdicts, {agree} agree")
    yield alone(f"{what}: the event loop is late by (p99)", [late], "ms", aim=below(10, "ms"))


async def _measured(url: str, days: int) -> tuple[float, float]:
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": KEY}, env_file=None)
    async with open_resources(settings) as res:
        files = 0
        for report_type, columns in TYPES.items():
            rule = await add_rule(res, report_type=report_type)
            for day in range(days):
                content = _content(report_type, columns or template_for(report_type).file_columns, day)
                key = (FIRST + timedelta(days=day)).isoformat()
                await store(res, rule, content, key=key, revision=1, report_type=report_type)
                files += 1
        while files > 0:  # not one more claim: it would begin with the checks
            claims = await loading.claim_loads(res, min(2, files))
            await asyncio.gather(*(loading.load(res, claim) for claim in claims))
            files -= len(claims)
        await loading.end_child(res)
        async with lateness() as late:
            began = time.monotonic()
            while await checking.check_due(res):
                pass
            took = time.monotonic() - began
    return took, quantile(late, 0.99)


def _content(report_type: str, columns: tuple[str, ...], day: int) -> bytes:
    start = FIRST_SECOND + day * DAY
    return b"".join(content_of(Recipe(report_type, (BUSINESS,), start, start + DAY, columns)).chunks())
