"""The windows of past days that a backfill examines, for one connected account of a rule, and the latest run of each.

A calendar rule's windows follow from its cadence; those of `every_update` and `every_payout` from runs and payouts.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import islice
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Rule
from app.db.rows import fetch
from app.planning.dates import earliest_start
from app.planning.planner import all_windows, due_at
from app.planning.windows import Window, day_start, instant_key
from app.report_types import KnownType
from app.rules import payouts
from app.rules.members import first_moment
from app.rules.rechecks import counts
from app.rules.rule import schedule_of
from app.runs.plan import RuleScope
from app.vocabulary import Cadence

# Per request; split larger ones.
MOST_RUNS = 500_000


@dataclass(frozen=True, slots=True)
class Days:
    """The local dates [first, until)."""

    first: date
    until: date


AnyDays = TypeVar("AnyDays", bound=Days)


@dataclass(frozen=True, slots=True)
class Scope(RuleScope):
    """A rule for one connected account, and its progress row; an account owes nothing before it was created."""

    progress_id: int
    account_created_at: datetime | None

    @property
    def since(self) -> datetime | None:
        """When its windows begin, if that is later than the rule says."""
        return None if self.account_created_at is None else first_moment(self.account_created_at, self.timezone)


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest revision of a window."""

    id: uuid.UUID
    window_key: str
    state: str
    revision: int
    interval_start: datetime
    interval_end: datetime
    partial: bool
    report_type: str

    @property
    def window(self) -> Window:
        """Its window."""
        return Window(self.window_key, self.interval_start, self.interval_end, self.partial)


def by_start(rule: Rule, asked: AnyDays) -> AnyDays:
    """The days on which the windows begin that count as these days: what `backfills` keeps, and older processes read.

    A window that begins before its rule does is left out unless the days begin before the rule, too.
    """
    cadence = Cadence(rule.cadence)
    if cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT):
        return asked
    first = earliest_start(asked.first, cadence)
    if asked.first >= rule.starts_on:
        first = max(first, rule.starts_on)
    return replace(asked, first=first, until=earliest_start(asked.until, cadence))


async def scopes_of(session: AsyncSession, rule: Rule, *, first: int = 0, limit: int | None = None) -> list[Scope]:
    """A rule's connected accounts (or the account itself), from this progress row on."""
    return await fetch(session, Scope, _SCOPES, {"rule_id": rule.id, "first": first, "limit": limit})


async def windows_of(
    session: AsyncSession, rule: Rule, days: Days, type_: KnownType, scope: Scope, *, after_key: str, limit: int
) -> tuple[Sequence[Window], Mapping[str, Latest]]:
    """Up to `limit` due windows that begin on these days, after a key, and the latest run of each, if any, by key."""
    if rule.cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT):
        windows, latest = await irregular_windows(session, rule, days, type_, scope)
        return [window for window in windows if window.key > after_key][:limit], latest
    rest = days
    if after_key:
        rest = replace(days, first=max(days.first, date.fromisoformat(after_key) + timedelta(days=1)))
    windows = list(islice(calendar_windows(rule, rest, type_, since=scope.since), limit))
    return windows, await _latest_of(session, rule, windows, scope)


async def irregular_windows(
    session: AsyncSession, rule: Rule, days: Days, type_: KnownType, scope: Scope
) -> tuple[Sequence[Window], Mapping[str, Latest]]:
    """The windows of a cadence without calendar units, by key; with the latest run of each."""
    if rule.cadence == Cadence.EVERY_UPDATE:
        return await _update_windows(session, rule, days, type_, scope)
    found = await payouts.arriving_between(
        session, scope.progress_id, rule.timezone, days.first, days.until, limit=MOST_RUNS
    )
    windows = sorted(found, key=lambda window: window.key)
    return windows, await _latest_of(session, rule, windows, scope)


async def _latest_of(
    session: AsyncSession, rule: Rule, windows: Sequence[Window], scope: Scope
) -> Mapping[str, Latest]:
    """The latest run of each of these windows, by key."""
    keys = [window.key for window in windows]
    values = {"rule_id": rule.id, "connected_account": scope.connected_account, "keys": keys}
    return _by_key(await fetch(session, Latest, _LATEST, values))


async def _update_windows(
    session: AsyncSession, rule: Rule, days: Days, type_: KnownType, scope: Scope
) -> tuple[Sequence[Window], Mapping[str, Latest]]:
    """The windows that were made, and the one before the first; in order, with the latest run of each."""
    zone = ZoneInfo(rule.timezone)
    start, end = day_start(days.first, zone), day_start(days.until, zone)
    values = {"rule_id": rule.id, "connected_account": scope.connected_account}
    bounds = {"low": instant_key(start), "high": instant_key(end)}
    latest = _by_key(await fetch(session, Latest, _LATEST_BETWEEN, {**values, **bounds}))
    made_from = (await session.execute(_FIRST_START, values)).scalar_one() or day_start(rule.starts_on, zone)
    available = type_.availability
    assert available is not None
    first = max(moment for moment in (start, available.start, scope.since) if moment is not None)
    last = min(end, made_from, available.end)
    before = [Window(instant_key(first), first, last, partial=first > start)] if first < last else []
    return [*before, *(latest[key].window for key in sorted(latest))], latest


def _by_key(runs: Iterable[Latest]) -> Mapping[str, Latest]:
    return {run.window_key: run for run in runs}


def calendar_windows(rule: Rule, days: Days, type_: KnownType, *, since: datetime | None = None) -> Iterator[Window]:
    """The due windows of a calendar rule that begin on these days; `since`: when its connected account's do."""
    # A backfill may also cover days before the rule's own start.
    schedule = replace(schedule_of(rule), starts_on=days.first)
    available = type_.availability
    assert available is not None
    if since is not None:
        available = replace(available, start=max(available.start, since))
    owed = all_windows(schedule, available, until=day_start(days.until, ZoneInfo(rule.timezone)))
    return (window for window in owed if due_at(window, schedule) <= available.end)


_SCOPES = text("""
select p.id as progress_id, p.connected_account, rules.id as rule_id, rules.account, rules.report_type, rules.timezone,
    rules.parameters, one.stripe_created_at as account_created_at
from rules join rule_progress as p on p.rule_id = rules.id
left join connected_accounts as one on rules.connected = 'each' and one.account = rules.account
    and one.id = p.connected_account
where rules.id = :rule_id and p.id >= :first order by p.id limit :limit
""")
# A new revision comes after a re-check too, even one that does not count.
_LATEST = text(f"""
select distinct on (window_key) id, window_key, state, max(revision) over (partition by window_key) as revision,
    interval_start, interval_end, partial, report_type
from runs
where rule_id = :rule_id and connected_account is not distinct from :connected_account and window_key = any(:keys)
order by window_key, {counts("runs")} desc, runs.revision desc
""")  # noqa: S608 - of constants only
_LATEST_BETWEEN = text(f"""
select distinct on (window_key) id, window_key, state, max(revision) over (partition by window_key) as revision,
    interval_start, interval_end, partial, report_type
from runs
where rule_id = :rule_id and connected_account is not distinct from :connected_account
  and window_key collate "C" >= :low and window_key collate "C" < :high
order by window_key, {counts("runs")} desc, runs.revision desc
""")  # noqa: S608 - of constants only
_FIRST_START = text("""
select min(interval_start) from runs
where rule_id = :rule_id and connected_account is not distinct from :connected_account
""")
