"""What a rule owes for a month and has no run for, and why."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.db.models import Rule
from app.planning.dates import LocalDates, local_dates
from app.resources import ClaimTerms
from app.rules import coverage, months
from app.rules.coverage import CoverageEntry, CoverageQuery
from app.runs.waiting import Waiting
from app.vocabulary import Cadence

_WINDOWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class OtherWindow:
    """A window of the month that the pack has nothing for, and why."""

    rule: str
    connected_account: str | None
    dates: LocalDates
    reason: str


async def not_made(session: AsyncSession, rule: Rule, first: date, until: date, terms: ClaimTerms) -> list[OtherWindow]:
    """What the rule owes for the month that has no run."""
    if rule.cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT):
        return await _still_open(session, rule, first)
    query = CoverageQuery(datetime.now(UTC), first, until, limit=_WINDOWS_AT_ONCE)
    return [
        OtherWindow(rule.name, one.connected_account, _dates(rule, one), _why(one.waiting))
        async for one in coverage.all_entries(session, rule, query, terms)
        if one.run_id is None
    ]


async def _still_open(session: AsyncSession, rule: Rule, month: date) -> list[OtherWindow]:
    """The rest of the month, for each account whose rest may still get windows."""
    type_ = await report_types.read(session, rule.account, rule.report_type)
    found = []
    for one in await months.open_months(session, month, [rule.id]):
        dates = local_dates(one.since, one.until, rule.timezone)
        due = one.since + timedelta(hours=rule.settle_hours, seconds=1)
        why = months.PAYOUTS.get(one.why) or _why(coverage.why_not_yet(due, type_))
        found += [OtherWindow(rule.name, account, dates, why) for account in one.accounts]
    return found


def _dates(rule: Rule, one: CoverageEntry) -> LocalDates:
    return local_dates(one.start, one.end or one.start, rule.timezone)


def _why(waiting: Waiting | None) -> str:
    if waiting is None:
        return "no run was made for it"
    until = "" if waiting.until is None else f" until {waiting.until:%F %H:%M} UTC"
    return f"waits ({waiting.reason}{until})"
