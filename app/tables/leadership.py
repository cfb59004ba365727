"""Which rule's windows the plain view of a table shows: a list of periods that never overlap within a scope.

The rows of a daily and a monthly rule of one report would count twice. So one leads at any time: the first that can, or
the one that says `leading`, from its first window on; what its predecessor had led before stays. A window shows if it
lies within a period of its rule. Database only.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.errors import BadInput, Conflict, FieldError
from app.planning.windows import day_start
from app.tables.catalogue import CONNECT_PREFIX, family_of
from app.tables.loads import EVERYBODY, is_filtered


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule, as far as leadership is concerned."""

    id: uuid.UUID
    name: str
    report_type: str
    timezone: str
    starts_on: date
    parameters: dict[str, Any]
    connected: str | None
    connected_accounts: list[str]
    table_state: str
    is_deleted: bool

    @property
    def starts_at(self) -> datetime:
        """Where its first window may begin."""
        return day_start(self.starts_on, ZoneInfo(self.timezone)).astimezone(UTC)

    @property
    def scopes(self) -> list[str]:
        """Whose rows its files have: see `loads.scope_of`."""
        if self.connected_accounts:
            return list(self.connected_accounts)
        return [EVERYBODY if self.report_type.startswith(CONNECT_PREFIX) else ""]

    @property
    def may_lead(self) -> bool:
        """Whether its windows may be shown; those of a deleted rule stay, but no new ones are added."""
        wants = self.table_state in ("auto", "leading")
        return wants and not is_filtered(self.parameters) and not self.is_deleted


@dataclass(frozen=True, slots=True)
class Period:
    """A rule's leadership of a scope in `[starts_at, ends_at)`; `ends_at` None: it still leads."""

    rule_id: uuid.UUID
    scope: str
    starts_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Made:
    """Where the windows of a rule end in a scope: all of them, or those that began before `before`."""

    rule_id: uuid.UUID
    scope: str
    before: datetime | None
    ends_at: datetime


Ends: TypeAlias = Mapping[tuple[uuid.UUID, str, datetime | None], datetime]


def check(table_state: str, parameters: dict[str, Any]) -> None:
    """A rule that requests only part of the rows cannot say `leading`. Raises BadInput."""
    if table_state == "leading" and is_filtered(parameters):
        detail = "a rule with `currency` or `reporting_category` has only part of the rows and cannot lead: use `kept`"
        raise BadInput(FieldError("/table/state", detail))


async def settle(session: AsyncSession, account: str, report_type: str) -> None:
    """Decide again which rule leads the type's table, after a rule was added, changed or removed. Raises Conflict.

    Doing it twice changes nothing. The views change in the same transaction.
    """
    family = family_of(report_type).id
    values: dict[str, Any] = {"account": account, "family": family}
    await session.execute(_LOCK, {"key": f"{account}:{family}"})
    rules = [
        rule
        for rule in await fetch(session, Candidate, _RULES, {"account": account})
        if family_of(rule.report_type).id == family
    ]
    before = await fetch(session, Period, _PERIODS, values)
    starts = [rule.starts_at for rule in rules if rule.table_state == "leading"]
    made = await fetch(session, Made, _MADE, {"rules": [rule.id for rule in rules], "starts": [None, *starts]})
    after = decide(rules, before, made)
    if set(after) != set(before):
        await session.execute(_CLEAR, values)
        for period in after:
            await session.execute(_INSERT, {**values, "id": period.rule_id, "scope": period.scope,
                                            "starts_at": period.starts_at, "ends_at": period.ends_at})  # fmt: skip
    await session.execute(_SHOW, values)


async def leading(session: AsyncSession, rule_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these rules lead at present."""
    return set((await session.execute(_LEADING, {"rules": list(rule_ids)})).scalars())


def decide(rules: Sequence[Candidate], before: Sequence[Period], made: Sequence[Made]) -> list[Period]:
    """The periods that follow from these rules (oldest first) and the periods so far. Pure. Raises Conflict."""
    by_id = {rule.id: rule for rule in rules}
    ends = {(one.rule_id, one.scope, one.before): one.ends_at for one in made}
    periods = [kept for period in before if (kept := _kept(period, by_id.get(period.rule_id), ends)) is not None]
    for rule in sorted(rules, key=lambda rule: rule.table_state != "leading"):
        if not rule.may_lead:
            continue
        for scope in rule.scopes:
            if rule.table_state == "leading":
                periods = _made_room(periods, rule, scope, by_id, ends)
            periods += _gaps(periods, rule, scope)
    return sorted(_merged(periods), key=lambda one: (one.scope, one.starts_at))


def _kept(period: Period, rule: Candidate | None, ends: Ends) -> Period | None:
    """The part of a period that stays: all of it while its rule may lead, or what a deleted rule has made."""
    if rule is None or not rule.is_deleted:
        return period if rule is not None and rule.may_lead else None
    last = ends.get((period.rule_id, period.scope, None))
    if last is None or last <= period.starts_at:
        return None
    return period if period.ends_at is not None and period.ends_at <= last else replace(period, ends_at=last)


def _made_room(
    periods: list[Period], rule: Candidate, scope: str, by_id: dict[uuid.UUID, Candidate], ends: Ends
) -> list[Period]:
    """Cut the periods of others after the rule's first window, at the end of a window of theirs, so that nothing shows
    twice."""
    room: list[Period] = []
    for period in periods:
        other = by_id[period.rule_id]
        is_later = period.ends_at is None or period.ends_at > rule.starts_at
        if other.id == rule.id or not _overlap(period.scope, scope) or not is_later:
            room.append(period)
            continue
        if other.table_state == "leading" and not other.is_deleted:
            raise Conflict(f"rule {other.name!r} also says that it leads this table: one of the two must be `kept`")
        if period.starts_at < rule.starts_at:
            window_end = ends.get((period.rule_id, period.scope, rule.starts_at), rule.starts_at)
            cut = max(window_end, rule.starts_at)
            room.append(replace(period, ends_at=cut if period.ends_at is None else min(period.ends_at, cut)))
    return room


def _gaps(periods: Sequence[Period], rule: Candidate, scope: str) -> list[Period]:
    """The periods since the rule's start in which nobody leads the scope."""
    taken = sorted(
        (one for one in periods if _overlap(one.scope, scope)), key=lambda one: one.starts_at
    )  # fmt: skip
    found, start = list[Period](), rule.starts_at
    for one in taken:
        if one.starts_at > start:
            found.append(Period(rule.id, scope, start, one.starts_at))
        if one.ends_at is None:
            return found
        start = max(start, one.ends_at)
    return [*found, Period(rule.id, scope, start, None)]


def _merged(periods: Sequence[Period]) -> list[Period]:
    """Merge adjacent periods of one rule."""
    merged: list[Period] = []
    for one in sorted(periods, key=lambda one: (str(one.rule_id), one.scope, one.starts_at)):
        last = merged[-1] if merged else None
        if last and (last.rule_id, last.scope, last.ends_at) == (one.rule_id, one.scope, one.starts_at):
            merged[-1] = replace(last, ends_at=one.ends_at)
        else:
            merged.append(one)
    return merged


def _overlap(one: str, other: str) -> bool:
    """Whether two scopes may have the same rows."""
    return one == other or (EVERYBODY in (one, other) and "" not in (one, other))


_LOCK = text("select pg_advisory_xact_lock(hashtextextended(:key, 2))")
_RULES = text("""
select id, name, report_type, timezone, starts_on, parameters, connected, connected_accounts,
    coalesce("table" ->> 'state', 'auto') as table_state,
    deleted_at is not null as is_deleted
from rules where account = :account order by created_at, id
""")
_PERIODS = text("""
select rule_id, scope, starts_at, ends_at from leaderships where account = :account and family = :family
""")
_MADE = text("""
select rule_id, scope, before, max(interval_end) as ends_at from (
    select rule_id, interval_start, interval_end, coalesce(connected_account,
        case when report_type like 'connected\\_account\\_%' then '*' else '' end) as scope
    from runs where rule_id = any(:rules) and interval_end is not null and state <> 'cancelled'
) as run cross join unnest(cast(:starts as timestamptz[])) as start(before)
where before is null or interval_start < before group by 1, 2, 3
""")
_CLEAR = text("delete from leaderships where account = :account and family = :family")
_INSERT = text("""
insert into leaderships (account, family, scope, rule_id, starts_at, ends_at)
values (:account, :family, :scope, :id, :starts_at, :ends_at)
""")
_LEADING = text("select distinct rule_id from leaderships where rule_id = any(:rules) and ends_at is null")
_SHOW = text("""
with wanted as (
    select loads.id, not loads.filtered and exists (
        select 1 from leaderships as period where period.rule_id = loads.rule_id and period.family = loads.family
            and period.scope = loads.scope and period.starts_at <= loads.interval_start
            and (period.ends_at is null or loads.interval_end <= period.ends_at)
    ) as leads
    from loads where account = :account and family = :family
)
update loads set leads = wanted.leads, object_due = true, checks_due = true from wanted
where loads.id = wanted.id and loads.leads <> wanted.leads
""")
