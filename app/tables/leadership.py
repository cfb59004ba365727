"""Which rule's windows the plain view of a table shows: a list of periods that never overlap within a scope.

The rows of a daily and a monthly rule of one report would count twice. So one leads at any time: the first that can, or
the one that says `leading`, from its first window on; what its predecessor led before stays. A window shows if it
lies within a period of its rule. Database only.

A rule for `each` connected account leads all of them in one period (`*`), however many there are, except those that
have periods of their own, because another rule names them (`load_file.LEADS`).
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Protocol, TypeAlias
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.errors import BadInput, Conflict, FieldError
from app.planning.windows import day_start
from app.tables.catalogue import CONNECT_PREFIX, family_of
from app.tables.load_file import LEADS, object_due
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
    excepted: list[str] = field(default_factory=list)

    @property
    def starts_at(self) -> datetime:
        """Where its first window may begin."""
        return day_start(self.starts_on, ZoneInfo(self.timezone)).astimezone(UTC)

    @property
    def is_for_each(self) -> bool:
        """Whether it has a file for every connected account, and not one for all of them."""
        return self.connected == "each"

    @property
    def has_one_of_each(self) -> bool:
        """Whether each of its files has the rows of one connected account."""
        return self.is_for_each or bool(self.connected_accounts)

    def scopes(self, named: Collection[str]) -> list[str]:
        """Whose rows its files have: see `loads.scope_of`; `named` are the accounts that have scopes of their own."""
        if self.connected_accounts:
            return list(self.connected_accounts)
        if self.is_for_each:
            return [EVERYBODY, *sorted(set(named) - set(self.excepted))]
        return [EVERYBODY if self.report_type.startswith(CONNECT_PREFIX) else ""]

    def goes_on(self, scope: str, named: Collection[str]) -> bool:
        """Whether it still makes files of this scope: it exists, and runs for the account."""
        return not self.is_deleted and scope in self.scopes(named)

    def shares(self, own: str, other: str) -> bool:
        """Whether its scope `own` may share rows with another rule's scope `other`."""
        if own != EVERYBODY or other in ("", EVERYBODY):
            return own == other
        return not self.is_for_each

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
    """Where the windows of a rule end in a scope: those that began before `before`, or all but those withdrawn."""

    rule_id: uuid.UUID
    scope: str
    before: datetime | None
    ends_at: datetime


Ends: TypeAlias = Mapping[tuple[uuid.UUID, str, datetime | None], datetime]
Table: TypeAlias = tuple[str, str]  # an account, and a family of report types


class HasReports(Protocol):
    """A rule, saved or new."""

    @property
    def account(self) -> str: ...
    @property
    def report_type(self) -> str: ...


def table_of(rule: HasReports) -> Table:
    """The table that a rule's files fill."""
    return rule.account, family_of(rule.report_type).id


def check(table_state: str, parameters: dict[str, Any]) -> None:
    """A rule that requests only part of the rows cannot say `leading`. Raises BadInput."""
    if table_state == "leading" and is_filtered(parameters):
        detail = "a rule with `currency` or `reporting_category` has only part of the rows and cannot lead: use `kept`"
        raise BadInput(FieldError("/table/state", detail))


async def lock(session: AsyncSession, tables: Collection[Table]) -> None:
    """Nobody else decides who leads these tables until the transaction ends. Always before loads are changed."""
    for account, family in sorted(tables):
        await session.execute(_LOCK, {"key": f"{account}:{family}"})


async def settle(session: AsyncSession, account: str, family: str) -> None:
    """Decide again which rule leads a table, after rules were added, changed or removed. Raises Conflict.

    Doing it twice changes nothing. The views change in the same transaction.
    """
    await lock(session, [(account, family)])
    values: dict[str, Any] = {"account": account, "family": family}
    rules = [
        rule
        for rule in await fetch(session, Candidate, _RULES, {"account": account})
        if family_of(rule.report_type).id == family
    ]
    before = await fetch(session, Period, _PERIODS, values)
    after = decide(rules, before, await _made(session, rules, before))
    if set(after) != set(before):
        await session.execute(_CLEAR, values)
        names = ("rule_id", "scope", "starts_at", "ends_at")
        await session.execute(_INSERT, values | {f"{name}s": [getattr(one, name) for one in after] for name in names})
    await session.execute(_SHOW, values)


async def _made(session: AsyncSession, rules: Sequence[Candidate], before: Sequence[Period]) -> list[Made]:
    """For the rules that have led so far, if another takes over: this may read all of their runs."""
    starts = [rule.starts_at for rule in rules if rule.table_state == "leading"]
    named, by_id = _named(rules, before), {rule.id: rule for rule in rules}
    led = [(rule, period.scope) for period in before if (rule := by_id.get(period.rule_id)) is not None]
    asked = {rule.id for rule, scope in led if starts or not rule.goes_on(scope, named)}
    if not asked:
        return []
    values = {"rules": sorted(asked), "starts": [None, *starts], "named": sorted(named)}
    return await fetch(session, Made, _MADE, values)


async def leading(session: AsyncSession, rule_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Which of these rules lead now."""
    return set((await session.execute(_LEADING, {"rules": list(rule_ids)})).scalars())


def decide(rules: Sequence[Candidate], before: Sequence[Period], made: Sequence[Made]) -> list[Period]:
    """The periods that follow from these rules (oldest first) and the periods so far. Pure. Raises Conflict."""
    by_id = {rule.id: rule for rule in rules}
    ends = {(one.rule_id, one.scope, one.before): one.ends_at for one in made}
    named = _named(rules, before)
    periods = [*before, *_of_newly_named(before, by_id, named)]
    periods = [kept for period in periods if (kept := _kept(period, by_id, named, ends)) is not None]
    for rule in sorted(rules, key=lambda rule: rule.table_state != "leading"):
        if not rule.may_lead:
            continue
        for scope in rule.scopes(named):
            if rule.table_state == "leading":
                periods = _made_room(periods, rule, scope, by_id, ends)
            periods += _gaps(periods, rule, scope, by_id)
    return sorted(_merged(periods), key=lambda one: (one.scope, one.starts_at))


def _named(rules: Sequence[Candidate], before: Sequence[Period]) -> set[str]:
    """The connected accounts that a rule names, or has named: each is a scope of its own."""
    return {account for rule in rules for account in rule.connected_accounts} | {
        period.scope for period in before if period.scope not in ("", EVERYBODY)
    }


def _of_newly_named(
    before: Sequence[Period], by_id: Mapping[uuid.UUID, Candidate], named: Collection[str]
) -> list[Period]:
    """An account that a rule names now was led with all others so far: the same, as periods of its own."""
    known = {period.scope for period in before}
    return [
        replace(period, scope=account)
        for period in before
        if period.scope == EVERYBODY and (rule := by_id.get(period.rule_id)) is not None and rule.has_one_of_each
        for account in sorted(set(named) - known - set(rule.excepted))
    ]


def _kept(period: Period, by_id: Mapping[uuid.UUID, Candidate], named: Collection[str], ends: Ends) -> Period | None:
    """The part of a period that stays: all of it while its rule may lead, or what the rule has made if it was deleted,
    or no longer runs for the account."""
    rule = by_id.get(period.rule_id)
    if rule is None or not (rule.is_deleted or rule.may_lead):
        return None
    if rule.goes_on(period.scope, named):
        return period
    last = ends.get((period.rule_id, period.scope, None))
    if last is None or last <= period.starts_at:
        return None
    return period if period.ends_at is not None and period.ends_at <= last else replace(period, ends_at=last)


def _made_room(
    periods: list[Period], rule: Candidate, scope: str, by_id: Mapping[uuid.UUID, Candidate], ends: Ends
) -> list[Period]:
    """Cut the periods of others after the rule's first window, at the end of a window of theirs, so that nothing shows
    twice."""
    room: list[Period] = []
    for period in periods:
        other = by_id[period.rule_id]
        is_later = period.ends_at is None or period.ends_at > rule.starts_at
        if other.id == rule.id or not _overlap(other, period.scope, rule, scope) or not is_later:
            room.append(period)
            continue
        if other.table_state == "leading" and period.ends_at is None:
            both = f"rules {rule.name!r} and {other.name!r} both say that they lead this table"
            raise Conflict(f"{both}: one of them must be `kept`", rules=(rule.name, other.name))
        if period.starts_at < rule.starts_at:
            window_end = ends.get((period.rule_id, period.scope, rule.starts_at), rule.starts_at)
            cut = max(window_end, rule.starts_at)
            room.append(replace(period, ends_at=cut if period.ends_at is None else min(period.ends_at, cut)))
    return room


def _gaps(periods: Sequence[Period], rule: Candidate, scope: str, by_id: Mapping[uuid.UUID, Candidate]) -> list[Period]:
    """The periods since the rule's start in which nobody leads the scope."""
    overlapping = (one for one in periods if _overlap(by_id[one.rule_id], one.scope, rule, scope))
    taken = sorted(overlapping, key=lambda one: one.starts_at)
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


def _overlap(one: Candidate, its: str, other: Candidate, others: str) -> bool:
    """Whether the scopes of two rules may have the same rows."""
    return one.shares(its, others) or other.shares(others, its)


_LOCK = text("select pg_advisory_xact_lock(hashtextextended(:key, 2))")
_RULES = text("""
select id, name, report_type, timezone, starts_on, parameters, connected, connected_accounts,
    coalesce("table" ->> 'state', 'auto') as table_state, deleted_at is not null as is_deleted, excepted
from rules where account = :account order by created_at, id
""")
_PERIODS = text("""
select rule_id, scope, starts_at, ends_at from leaderships where account = :account and family = :family
""")
# The runs of a rule for each account end its one period for all of them, and those of accounts that have their own.
# Where a rule does not go on, what its withdrawal is about to cancel does not count; what is planned again later does.
_MADE = text("""
select rule_id, scope, before, max(interval_end) as ends_at from (
    select runs.rule_id, interval_start, interval_end, of_run.scope, state = 'planned' and exists (
        select from withdrawals where withdrawals.rule_id = runs.rule_id and (withdrawals.connected_accounts is null
            or coalesce(runs.connected_account, '') = any(withdrawals.connected_accounts))) as is_withdrawn
    from runs join rules on rules.id = runs.rule_id cross join lateral (
        select coalesce(runs.connected_account,
            case when runs.report_type like 'connected\\_account\\_%' then '*' else '' end) as scope
        where rules.connected is distinct from 'each' or runs.connected_account = any(cast(:named as text[]))
        union all select '*' where runs.connected_account is not null
    ) as of_run
    where runs.rule_id = any(:rules) and interval_end is not null and state <> 'cancelled'
) as run cross join unnest(cast(:starts as timestamptz[])) as start(before)
where before is null and not is_withdrawn or interval_start < before group by 1, 2, 3
""")
_CLEAR = text("delete from leaderships where account = :account and family = :family")
_INSERT = text("""
insert into leaderships (account, family, rule_id, scope, starts_at, ends_at)
select :account, :family, * from unnest(cast(:rule_ids as uuid[]), cast(:scopes as text[]),
    cast(:starts_ats as timestamptz[]), cast(:ends_ats as timestamptz[]))
""")
_LEADING = text("select distinct rule_id from leaderships where rule_id = any(:rules) and ends_at is null")
_SHOW = text(f"""
with wanted as (
    select loads.id, {LEADS} as leads from loads where account = :account and family = :family
)
update loads set leads = wanted.leads, checks_due = true, {object_due()} from wanted
where loads.id = wanted.id and loads.leads <> wanted.leads
""")  # noqa: S608 - of constants only
