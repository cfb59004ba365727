"""The window of a rule that contains a local date or an instant, and the run whose file covers it."""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.db.models import Rule
from app.db.rows import fetch
from app.errors import Conflict, NotFound
from app.planning.dates import local_dates
from app.planning.planner import beginning
from app.planning.windows import day_start, next_unit, unit_start
from app.resources import ClaimTerms
from app.rules import coverage
from app.rules.coverage import CoverageEntry, CoverageQuery, CoverageState
from app.rules.rechecks import COUNTED_FIRST
from app.rules.rule import schedule_of, today_in
from app.vocabulary import Cadence

# How many are named when several match.
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class _Made:
    """A window of a rule for a connected account, with its newest stored run, if any."""

    connected_account: str | None
    interval_start: datetime
    interval_end: datetime
    stored_run_id: uuid.UUID | None
    state: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """What somebody asks for: a local day of `zone` or, without one, an instant; and when it begins and ends."""

    day: date
    start: datetime
    end: datetime
    zone: ZoneInfo | None

    def shown(self, moment: datetime) -> str:
        """A moment in the same form."""
        return f"{moment:%FT%TZ}" if self.zone is None else f"{moment.astimezone(self.zone):%F}"


async def latest_file(session: AsyncSession, rule: Rule, connected_account: str | None) -> uuid.UUID:
    """The run of the newest stored window. Raises NotFound, and Conflict when several accounts match."""
    values = {"rule_id": rule.id, "connected_account": connected_account, "limit": _MOST_NAMED + 1}
    found = await fetch(session, _Made, _LATEST, values)
    if not found:
        raise NotFound(f"rule {rule.name!r} has no stored file yet: GET /v1/rules/{rule.name}/coverage says why")
    return _only(rule, found)


async def file_at(
    session: AsyncSession, rule: Rule, when: date | datetime, connected_account: str | None, terms: ClaimTerms
) -> uuid.UUID:
    """The run whose file covers a local date of the rule's zone, or an instant.

    Raises NotFound when the rule owes no such window, and Conflict when it is not stored yet or several match.
    """
    asked = _asked(when, ZoneInfo(rule.timezone))
    values = {"rule_id": rule.id, "start": asked.start, "end": asked.end, "connected_account": connected_account}
    made = await fetch(session, _Made, _AT, {**values, "limit": _MOST_NAMED + 1})
    if made:
        return _only(rule, made)
    raise await _why_not(session, rule, asked, connected_account, terms)


def _asked(when: date | datetime, zone: ZoneInfo) -> _Asked:
    if isinstance(when, datetime):
        return _Asked(when.astimezone(zone).date(), when, when + timedelta(microseconds=1), None)
    return _Asked(when, day_start(when, zone), day_start(when + timedelta(days=1), zone), zone)


def _only(rule: Rule, found: Sequence[_Made]) -> uuid.UUID:
    if len(found) > 1:
        named = ", ".join(_name(rule, one) for one in found[:_MOST_NAMED])
        more = "" if len(found) <= _MOST_NAMED else ", …"
        raise Conflict(f"several match: {named}{more}; add `connected_account`, or use a time in the path")
    (one,) = found
    if one.stored_run_id is None:
        raise Conflict(f"{_name(rule, one)} is not stored yet: it is {one.state}; see GET /v1/runs?rule={rule.name}")
    return one.stored_run_id


def _name(rule: Rule, one: _Made) -> str:
    if rule.cadence == Cadence.EVERY_UPDATE:
        named = f"{one.interval_start:%FT%TZ}"
    else:
        dates = local_dates(one.interval_start, one.interval_end, rule.timezone)
        named = f"{dates.first}" if dates.first == dates.last else f"{dates.first} to {dates.last}"
    return named if one.connected_account is None else f"{named} of {one.connected_account}"


async def _why_not(
    session: AsyncSession, rule: Rule, asked: _Asked, connected_account: str | None, terms: ClaimTerms
) -> NotFound | Conflict:
    """The error when there is no run: the window waits, or the rule does not owe one."""
    type_ = await report_types.read(session, rule.account, rule.report_type)
    async for entry in _around(session, rule, asked.day, connected_account, terms):
        if entry.start < asked.end and (entry.end is None or asked.start < entry.end):
            return Conflict(f"the window of {asked.day} is not stored yet: {_waits(entry)}")
    begins = beginning(schedule_of(rule), None if type_ is None else type_.availability)
    if asked.day < rule.starts_on:
        why = f"it starts on {rule.starts_on}"
    elif asked.start < begins:
        why = f"it owes nothing before {asked.shown(begins)}"
    elif asked.day >= today_in(rule.timezone):
        why = "that day is not over yet"
    elif connected_account is not None:
        why = f"{connected_account} is not one of its connected accounts, or was created later"
    elif rule.cadence == Cadence.EVERY_PAYOUT:
        why = "no payout that Stripe has reconciled arrived then"
    else:
        why = "its connected accounts were created later"
    return NotFound(f"rule {rule.name!r} owes no window that contains {asked.day}: {why}")


async def _around(
    session: AsyncSession, rule: Rule, day: date, connected_account: str | None, terms: ClaimTerms
) -> AsyncIterator[CoverageEntry]:
    """The windows that may hold a day although none with a run does; some begin later, with the data or the account."""
    cadence = Cadence(rule.cadence)
    query = CoverageQuery(datetime.now(UTC), until=day + timedelta(days=1), limit=100, account=connected_account)
    if cadence not in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT):
        query = replace(query, first=day, until=next_unit(unit_start(day, cadence), cadence))
        async for entry in coverage.all_entries(session, rule, query, terms):
            yield entry
    elif cadence is Cadence.EVERY_UPDATE and day <= today_in(rule.timezone):
        for entry in await coverage.next_updates(session, rule, query):
            yield entry


def _waits(entry: CoverageEntry) -> str:
    if entry.state is CoverageState.MISSING or entry.waiting is None:
        return "it has no run; POST /v1/rules/{id}/backfill plans one"
    until = "" if entry.waiting.until is None else f" until {entry.waiting.until:%F %H:%M} UTC"
    return f"it waits ({entry.waiting.reason}{until})"


_LATEST = text("""
select connected_account, interval_start, interval_end, id as stored_run_id, state from (
    select distinct on (connected_account) connected_account, interval_start, interval_end, id, state
    from runs where rule_id = :rule_id and state = 'stored'
        and (cast(:connected_account as text) is null or connected_account = :connected_account)
    order by connected_account, window_day(window_key, interval_start, interval_end, timezone) desc,
        interval_end desc, revision desc
    limit :limit
) as newest order by connected_account
""")
# Windows that overlap [start, end).
_AT = text(f"""
select distinct on (connected_account, window_key) connected_account, interval_start, interval_end,
    case when state = 'stored' then id end as stored_run_id, state
from runs where rule_id = :rule_id and interval_start < :end and interval_end > :start
    and (cast(:connected_account as text) is null or connected_account = :connected_account)
order by connected_account, window_key, {COUNTED_FIRST} limit :limit
""")  # noqa: S608 - of constants only
