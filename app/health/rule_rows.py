"""What the checks of rules read from the rows: which types are missing, each rule's state, which windows are owed."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.health.rows import MOST_COUNTED
from app.report_types import LISTED, MISSING
from app.rules.rechecks import counts

# Rules times connected accounts; those whose data is due first are looked at first.
MOST_RULES = 500
# Connected accounts per rule.
MOST_MEMBERS = 20
# Whether Stripe refuses to create reports with the key of a rule's account; the pages show such windows as blocked.
HELD = "exists (select from account_holds where account = rules.account and call_kind = 'create')"


@dataclass(frozen=True, slots=True)
class MissingType:
    """A report type that enabled rules name and Stripe has no data for; `reason` is Stripe's own, if it said so.

    `listed`: the account's types were read, and this one is not among them.
    """

    account: str
    report_type: str
    rule: str
    reason: str | None
    listed: bool


async def missing_types(session: AsyncSession) -> list[MissingType]:
    """Up to a hundred of them."""
    return await fetch(session, MissingType, _MISSING_TYPES)


@dataclass(frozen=True, slots=True)
class KnownType:
    """A report type that has data."""

    id: str


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A type that ends in `.latest`, and now resolves to another version."""

    account: str
    id: str
    resolves_to: str
    resolved_since: datetime
    resolved_before: str


async def new_versions(session: AsyncSession, *, within: timedelta) -> list[NewVersion]:
    """The `.latest` types of enabled rules that resolve to another version than before, last changes first."""
    return await fetch(session, NewVersion, _NEW_VERSIONS, {"within": within, "limit": MOST_COUNTED})


@dataclass(frozen=True, slots=True)
class ProvesNothing:
    """An account's report type whose re-checks Stripe answers with the file that it had made before."""

    account: str
    report_type: str
    since: datetime


async def proving_nothing(session: AsyncSession) -> list[ProvesNothing]:
    """Up to a hundred types that enabled rules have re-checked."""
    return await fetch(session, ProvesNothing, _PROVING_NOTHING)


async def known_types(session: AsyncSession) -> list[str]:
    """What rules may name: every type that any account has data for."""
    return [type_.id for type_ in await fetch(session, KnownType, _KNOWN_TYPES, {"limit": MOST_COUNTED})]


@dataclass(frozen=True, slots=True)
class RuleRow:
    """An enabled rule for one connected account, with its newest window."""

    id: uuid.UUID
    name: str
    account: str
    report_type: str
    created_at: datetime
    connected_account: str | None
    next_due_at: datetime | None
    data_available_end: datetime | None
    longest_data_age: timedelta | None
    problem: str | None
    type_missing: bool
    key_refused: bool
    state: str | None
    window_end: datetime | None
    planned_at: datetime | None


async def rules(session: AsyncSession, *, also: Sequence[tuple[uuid.UUID, str | None]]) -> list[RuleRow]:
    """Those whose data is due first, and also these, for these connected accounts."""
    values = {"also": [rule_id for rule_id, _ in also], "also_accounts": [account or "" for _, account in also]}
    return await fetch(session, RuleRow, _RULES, {**values, "most_rules": MOST_RULES, "most_members": MOST_MEMBERS})


@dataclass(frozen=True, slots=True)
class OwedWindows:
    """Windows of a rule for one connected account that failed or take long, and the newest end of each kind."""

    rule_id: uuid.UUID
    connected_account: str | None
    failed: int
    late: int
    failed_end: datetime | None
    late_end: datetime | None


async def owed_windows(session: AsyncSession, *, stored_within: timedelta) -> list[OwedWindows]:
    """By rule, for all rules: what is owed and not ok, however old its window is, counted up to a bound.

    A window that failed and has a newer revision is judged by that revision. One that only waits for its turn, in a
    long backfill say, is not late; one that was tried is, if it is not stored within `stored_within` of its planning.
    """
    values = {"limit": MOST_COUNTED, "within": stored_within}
    return await fetch(session, OwedWindows, _OWED_WINDOWS, values)


_MISSING_TYPES = text(f"""
select rules.account, rules.report_type, min(rules.name) as rule,
    type.missing_reason as reason, {LISTED} as listed
from rules left join report_types as type on type.account = rules.account and type.id = rules.report_type
where rules.enabled and rules.deleted_at is null and {MISSING}
group by rules.account, rules.report_type, type.missing_reason order by rules.account, rules.report_type limit 100
""")  # noqa: S608 - of constants only
_NEW_VERSIONS = text("""
select account, id, resolves_to, resolved_since, resolved_before from report_types as type
where resolved_since > clock_timestamp() - :within and resolved_before is not null
  and exists (select from rules where rules.account = type.account and rules.report_type = type.id
              and enabled and deleted_at is null)
order by resolved_since desc, account, id limit :limit
""")
_PROVING_NOTHING = text("""
select distinct type.account, type.id as report_type, type.same_file_since as since
from rules join report_types as named on named.account = rules.account and named.id = rules.report_type
join report_types as type on type.account = named.account and type.id = coalesce(named.resolves_to, named.id)
where rules.enabled and rules.deleted_at is null and rules.recheck_days <> '{}' and type.same_file_since is not null
order by type.account, type.id limit 100
""")
_KNOWN_TYPES = text("""
select distinct id from report_types
where data_available_end is not null and resolves_to is null order by id limit :limit
""")
# Two lookups, because an index finds a null only if the statement says `is null`; and ordered by all of the index's
# columns, because the planner does not treat a column that is null as constant.
_RULES = text(f"""
select rules.id, rules.name, rules.account, rules.report_type, rules.created_at, p.connected_account, p.next_due_at,
    p.problem, {MISSING} as type_missing, {HELD} as key_refused, type.data_available_end,
    make_interval(secs => type.longest_data_age_seconds) as longest_data_age,
    coalesce(own.state, connected.state) as state, coalesce(own.interval_end, connected.interval_end) as window_end,
    coalesce(own.planned_at, connected.planned_at) as planned_at
from (
    (select p.* from rule_progress as p join rules on rules.id = p.rule_id
     where rules.enabled and rules.deleted_at is null and rules.connected is distinct from 'each'
     order by p.next_due_at nulls first, p.id limit :most_rules)
    union
    -- Of the thousands that a rule for each connected account has, those that are furthest behind.
    (select p.* from rules cross join lateral (
        select * from rule_progress where rule_id = rules.id order by next_due_at nulls first, id limit :most_members
     ) as p where rules.enabled and rules.deleted_at is null and rules.connected = 'each' limit :most_rules)
    union
    (select p.* from unnest(cast(:also as uuid[]), cast(:also_accounts as text[])) as also(rule_id, account)
     join rules on rules.id = also.rule_id
     join rule_progress as p on p.rule_id = rules.id and coalesce(p.connected_account, '') = also.account
     where rules.enabled and rules.deleted_at is null limit :most_rules)
) as p join rules on rules.id = p.rule_id
left join report_types as type on type.account = rules.account and type.id = rules.report_type
left join lateral (
    select state, interval_end, planned_at from runs
    where runs.rule_id = p.rule_id and runs.connected_account is null and p.connected_account is null
      and {counts("runs")}
    order by connected_account desc, window_key desc, revision desc limit 1
) as own on true
left join lateral (
    select state, interval_end, planned_at from runs
    where runs.rule_id = p.rule_id and runs.connected_account = p.connected_account and {counts("runs")}
    order by window_key desc, revision desc limit 1
) as connected on true
order by p.next_due_at nulls first, p.id
""")  # noqa: S608 - of constants only
_OWED_WINDOWS = text(f"""
with failed as (
    select rule_id, connected_account, window_key, revision, interval_end from runs
    where state = 'failed' and {counts("runs")} order by id desc limit :limit
), tried as (
    select id, rule_id, connected_account, interval_end from runs
    where (state in ('requested', 'ready') or (state = 'planned' and tries > 0))
      and planned_at < clock_timestamp() - cast(:within as interval) and {counts("runs")}
    order by planned_at limit :limit
), owed as (
    select rule_id, connected_account, interval_end as failed_end, null as late_end from failed
    where not exists (
        select from runs as newer where newer.rule_id = failed.rule_id and newer.window_key = failed.window_key
          and newer.connected_account = failed.connected_account and newer.revision > failed.revision
          and {counts("newer")})
      and not (failed.connected_account is null and exists (
        select from runs as newer where newer.rule_id = failed.rule_id and newer.window_key = failed.window_key
          and newer.connected_account is null and newer.revision > failed.revision and {counts("newer")}))
    union all
    select rule_id, connected_account, null, interval_end from tried
    where (select max(at) from run_moves where run_id = tried.id and to_state = 'planned')
        < clock_timestamp() - cast(:within as interval)
)
select owed.rule_id, owed.connected_account, count(failed_end) as failed, count(late_end) as late,
    max(failed_end) as failed_end, max(late_end) as late_end
from owed join rules on rules.id = owed.rule_id and rules.enabled and rules.deleted_at is null
group by owed.rule_id, owed.connected_account
""")  # noqa: S608 - of constants only
