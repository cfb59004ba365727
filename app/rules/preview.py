"""What a rule, saved or not, would run now, what comes next, and what that waits for. Nothing is written."""

import asyncio
import uuid
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.db.models import Rule
from app.db.rows import fetch
from app.planning.planner import Availability, Schedule, all_windows, due_at, due_windows, not_planned
from app.planning.windows import LAST_DAY, Window, day_start
from app.report_types import KnownType
from app.rules import members, payouts
from app.rules.coverage import why_not_yet
from app.rules.members import Group, Member
from app.rules.rule import NewRule, schedule_of
from app.rules.store import values_of
from app.runs.waiting import Waiting
from app.tables.checks import registry
from app.vocabulary import Cadence

# How many windows are shown; all of them are counted.
MOST_SHOWN = 100
# Of payouts, because each is a row.
MOST_COUNTED = 10_000
_FAR = day_start(LAST_DAY, UTC)

# The due windows after the last planned one.
DueAfter = Callable[[datetime | None], Sequence[Window]]


@dataclass(frozen=True, slots=True)
class UpcomingWindow:
    """A window that would run now (no `waiting`), or comes next; `end` is None while unknown."""

    connected_account: str | None
    start: datetime
    end: datetime | None
    partial: bool
    waiting: Waiting | None = None


@dataclass(slots=True)
class Preview:
    """What would run now, oldest first, at most MOST_SHOWN of `now_total`; and the next windows of as many accounts."""

    now_total: int = 0
    now: list[UpcomingWindow] = field(default_factory=list)
    next: list[UpcomingWindow] = field(default_factory=list)
    manual_payouts: int = 0  # payouts that are left out


async def preview(session: AsyncSession, new: NewRule, *, saved: uuid.UUID | None) -> Preview:
    """What this rule would do if enabled; a saved one continues from its progress."""
    type_ = await report_types.read(session, new.account, new.report_type)
    if new.cadence is Cadence.EVERY_PAYOUT:
        return await _of_payouts(session, saved)
    schedule = schedule_of(new)
    owed = _Owed(schedule, await _cut(schedule, None if type_ is None else type_.availability))
    following = cache(lambda until: _next(schedule, type_, until))
    answer = Preview()
    shown, groups = await _accounts_of(session, new, saved)
    answer.now_total = await asyncio.to_thread(lambda: sum(len(owed.by(one)) * one.number for one in groups))
    for member in shown:
        account, since = member.connected_account or None, member.since(new.timezone)
        due = owed.windows(member.planned_until, since)
        room = due[: MOST_SHOWN - len(answer.now)]
        answer.now += [UpcomingWindow(account, window.start, window.end, window.partial) for window in room]
        until = due[-1].end if due else max(filter(None, (member.planned_until, since)), default=None)
        if len(answer.next) < MOST_SHOWN and (upcoming := following(until)) is not None:
            answer.next.append(replace(upcoming, connected_account=account))
    return answer


async def _of_payouts(session: AsyncSession, saved: uuid.UUID | None) -> Preview:
    """The payouts that are known and have no run; Stripe is not asked for them before the rule is saved."""
    scopes = {} if saved is None else await _payout_scopes(session, saved)
    found = await payouts.not_planned(session, [*scopes], limit=MOST_COUNTED)
    windows = [(account, window) for scope, account in scopes.items() for window in found.get(scope.progress_id, [])]
    now = [UpcomingWindow(account, one.start, one.end, one.partial) for account, one in windows[:MOST_SHOWN]]
    return Preview(len(windows), now, manual_payouts=await payouts.count_manual(session, [*scopes]))


async def _payout_scopes(session: AsyncSession, rule_id: uuid.UUID) -> dict[payouts.Scope, str | None]:
    found = await fetch(session, _PayoutScope, _PAYOUT_SCOPES, {"rule_id": rule_id})
    return {
        payouts.Scope(one.id, one.timezone, payouts.starts_at(one.starts_on, one.timezone)): one.connected_account
        for one in found
    }


async def _accounts_of(
    session: AsyncSession, new: NewRule, saved: uuid.UUID | None
) -> tuple[Sequence[Member], Sequence[Group]]:
    """The connected accounts to show, and all of them in groups."""
    if new.connected == "each":
        shown = await members.found_for(session, new, saved=saved, limit=MOST_SHOWN)
        return shown, await members.groups_for(session, new, saved=saved)
    progress = {} if saved is None else await _progress(session, saved)
    named = [Member(one, None, progress.get(one or None)) for one in sorted(new.connected_accounts) or [""]]
    return named, [Group(one.planned_until, None, 1) for one in named]


@dataclass(frozen=True, slots=True)
class _PayoutScope:
    """A row of the rule's progress, with what of the rule says where its payouts begin."""

    id: int
    connected_account: str | None
    timezone: str
    starts_on: date


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a rule is planned for one of its accounts."""

    connected_account: str | None
    planned_until: datetime | None


@dataclass(frozen=True, slots=True)
class _Owed:
    """The due windows of a rule, for accounts that are not all planned equally far."""

    schedule: Schedule
    due_after: DueAfter

    def by(self, group: Group) -> Sequence[Window]:
        """What each account of the group is owed."""
        since = None if group.created_at is None else members.first_moment(group.created_at, self.schedule.timezone)
        return self.windows(group.planned_until, since)

    def windows(self, planned_until: datetime | None, since: datetime | None) -> Sequence[Window]:
        """What comes after `planned_until`; before `since` an account has no windows."""
        if since is None:
            return self.due_after(planned_until)
        if self.schedule.cadence is Cadence.EVERY_UPDATE:
            return self.due_after(since if planned_until is None else max(planned_until, since))
        windows = self.due_after(planned_until)
        windows = windows[bisect_right(windows, since, key=lambda window: window.end) :]
        cut = [replace(window, start=since, partial=True) for window in windows[:1] if window.start < since]
        return [*cut, *windows[len(cut) :]] if cut else windows


@dataclass(frozen=True, slots=True)
class FedCheck:
    """A check that uses a rule's files, and the reports that it still lacks."""

    name: str
    says: str
    missing: list[str]


async def fed_checks(session: AsyncSession, new: NewRule) -> list[FedCheck]:
    """Which numbers will be compared if this rule is made, given the other rules of its account."""
    if new.table["state"] == "off":
        return []
    others = (await session.execute(_OTHER_TYPES, {"account": new.account})).scalars().all()
    found = registry.checks_of(new.report_type)
    return [FedCheck(one.name, one.says, registry.missing_for(one, new.report_type, others)) for one in found]


async def count_due(session: AsyncSession, rule: Rule, availability: Availability) -> int:
    """How many runs a saved rule owes now, for all its accounts; windows that have runs are not counted."""
    if rule.cadence == Cadence.EVERY_PAYOUT:
        return (await _of_payouts(session, rule.id)).now_total
    schedule = schedule_of(rule)
    owed = _Owed(schedule, await _cut(schedule, availability))
    _, groups = await _accounts_of(session, values_of(rule), rule.id)
    due = await asyncio.to_thread(lambda: [(owed.by(group), group.number) for group in groups])
    keys = {window.key for windows, _ in due for window in windows}
    if not keys:
        return 0
    made = await session.execute(_MADE, {"rule_id": rule.id, "keys": list(keys)})
    return sum(len(windows) * number for windows, number in due) - int(made.scalar_one())


async def _cut(schedule: Schedule, availability: Availability | None) -> DueAfter:
    """A rule's due windows, computed once for all its accounts, and off the event loop, as a history may be long."""
    if availability is None:
        return lambda _: []
    if schedule.cadence is Cadence.EVERY_UPDATE:
        return lambda until: due_windows(schedule, availability, planned_until=until)
    windows = await asyncio.to_thread(due_windows, schedule, availability, planned_until=None)
    return lambda until: not_planned(windows, until)


def _next(schedule: Schedule, type_: KnownType | None, until: datetime | None) -> UpcomingWindow | None:
    """The first window after `until`, the end of what is or would be planned."""
    if schedule.cadence is Cadence.EVERY_UPDATE:
        start = until or day_start(schedule.starts_on, ZoneInfo(schedule.timezone))
        waiting = why_not_yet(start + schedule.settle + timedelta(seconds=1), type_)
        return UpcomingWindow(None, start, None, partial=False, waiting=waiting)
    availability = None if type_ is None else type_.availability
    owed = all_windows(schedule, availability, until=_FAR, since=until)
    window = next((window for window in owed if until is None or window.start >= until), None)
    if window is None:
        return None
    waiting = why_not_yet(due_at(window, schedule), type_)
    return UpcomingWindow(None, window.start, window.end, window.partial, waiting)


async def _progress(session: AsyncSession, rule_id: uuid.UUID) -> Mapping[str | None, datetime | None]:
    found = await fetch(session, _Progress, _PROGRESS, {"rule_id": rule_id})
    return {one.connected_account: one.planned_until for one in found}


_PAYOUT_SCOPES = text("""
select p.id, p.connected_account, rules.timezone, rules.starts_on
from rule_progress as p join rules on rules.id = p.rule_id where p.rule_id = :rule_id order by p.id
""")
_PROGRESS = text("select connected_account, planned_until from rule_progress where rule_id = :rule_id")
# A rule whose start was moved is planned from the new start: existing runs stay as they are.
_MADE = text("""
select count(*) from rule_progress as p join runs on runs.rule_id = p.rule_id
    and runs.connected_account is not distinct from p.connected_account
    and runs.revision = 1 and runs.window_key = any(:keys)
    and (p.planned_until is null or runs.interval_end > p.planned_until + interval '12 hours')
where p.rule_id = :rule_id
""")
_OTHER_TYPES = text("""
select distinct report_type from rules where account = :account and enabled and deleted_at is null
    and "table" ->> 'state' <> 'off'
""")
