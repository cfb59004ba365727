"""What checks ask of the rows: each query is bounded, answered by indexes, and ends in its own frozen dataclass."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch, fetch_first, fetch_one

# Nothing is counted further than this: "more than 1000" says as much.
MOST_COUNTED = 1000
MOST_WORKERS = 100
# Rules times connected accounts; those whose data is due first are looked at first.
MOST_RULES = 2000
# How far back the last webhook of an account, and of a signing secret, is looked for.
NEWEST_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A process that works the queue; `alive` if it reported within what counts as stalled."""

    name: str
    seen_at: datetime
    alive: bool


async def workers(session: AsyncSession, *, stalled_after_seconds: float) -> list[WorkerSeen]:
    """Those that reported last come first."""
    return await fetch(session, WorkerSeen, _WORKERS, {"stalled": stalled_after_seconds, "limit": MOST_WORKERS})


@dataclass(frozen=True, slots=True)
class Inbox:
    """Events that are not handled yet (`pending`, counted up to a bound), and when the oldest of them came."""

    pending: int
    oldest_at: datetime | None


async def inbox(session: AsyncSession, *, most: int = MOST_COUNTED + 1) -> Inbox:
    """The inbox, as long as counting it costs little."""
    return await fetch_one(session, Inbox, _INBOX, {"limit": most})


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are, counted up to a bound."""

    number: int


async def failed_events(session: AsyncSession) -> int:
    """Events whose handling failed for good."""
    return (await fetch_one(session, Count, _FAILED_EVENTS, {"limit": MOST_COUNTED + 1})).number


@dataclass(frozen=True, slots=True)
class FailedRuns:
    """Runs that were given up, `lately` within a day; both counted up to a bound."""

    number: int
    lately: int


async def failed_runs(session: AsyncSession) -> FailedRuns:
    """The newest of them."""
    return await fetch_one(session, FailedRuns, _FAILED_RUNS, {"limit": MOST_COUNTED + 1})


DUE_LANES = ("requests", "lookups", "downloads")


@dataclass(frozen=True, slots=True)
class OverdueLane:
    """Runs of a lane that could go on and do not, and since when the oldest of them could."""

    lane: str
    runs: int
    oldest: datetime


async def lanes(session: AsyncSession, *, configured: Sequence[str]) -> list[OverdueLane]:
    """What is due in each lane of these accounts, and waits for nothing but a worker."""
    return await fetch(session, OverdueLane, _LANES, {"configured": list(configured), "limit": MOST_COUNTED})


@dataclass(frozen=True, slots=True)
class Hold:
    """A kind of call that Stripe refuses an account's key for; no `next_probe_at`: only another key ends it."""

    account: str
    call_kind: str
    reason: str
    since: datetime
    next_probe_at: datetime | None


async def holds(session: AsyncSession, *, configured: Sequence[str]) -> list[Hold]:
    """What is held, by account."""
    return await fetch(session, Hold, _HOLDS, {"configured": list(configured), "limit": MOST_COUNTED})


@dataclass(frozen=True, slots=True)
class Heard:
    """When an account's newest webhook came that this secret (its fingerprint) signed."""

    account: str
    signed_with: str | None
    last_at: datetime
    looked_back_to: datetime


async def heard(session: AsyncSession) -> list[Heard]:
    """Of the newest events, by account and secret."""
    return await fetch(session, Heard, _HEARD, {"newest_events": NEWEST_EVENTS})


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened."""

    at: datetime


async def heard_since(session: AsyncSession, since: datetime) -> datetime | None:
    """When the newest webhook came, if any came since."""
    found = await fetch_first(session, Moment, _HEARD_SINCE, {"since": since})
    return None if found is None else found.at


@dataclass(frozen=True, slots=True)
class Refused:
    """Deliveries to an account that were not believed for one reason, since `first_at`, without a pause of a day."""

    account: str
    reason: str
    number: int
    first_at: datetime
    last_at: datetime


async def refused_deliveries(session: AsyncSession, *, configured: Sequence[str]) -> list[Refused]:
    """Those of the last day."""
    return await fetch(session, Refused, _REFUSED, {"configured": list(configured), "limit": MOST_COUNTED})


@dataclass(frozen=True, slots=True)
class Unannounced:
    """Report types of an account whose data moved without a webhook that said so, and one of them."""

    account: str
    example: str
    types: int


async def unannounced(session: AsyncSession, *, accounts: Sequence[str]) -> list[Unannounced]:
    """Of these accounts, which have a signing secret."""
    return await fetch(session, Unannounced, _UNANNOUNCED, {"accounts": list(accounts)})


@dataclass(frozen=True, slots=True)
class Polled:
    """When Stripe was last asked what it has, and since when there is anything to ask about."""

    reconciled_at: datetime | None
    first_seen_at: datetime | None


async def polled(session: AsyncSession) -> Polled:
    """From the timetable."""
    return await fetch_one(session, Polled, _POLLED)


@dataclass(frozen=True, slots=True)
class MissingType:
    """A report type that enabled rules name and Stripe has no data of; `reason` is Stripe's own, if it said so.

    `listed`: the account's types were read, and this one is not among them.
    """

    account: str
    report_type: str
    rule: str
    reason: str | None
    listed: bool
    rule_created_at: datetime


async def missing_types(session: AsyncSession) -> list[MissingType]:
    """Up to a hundred of them."""
    return await fetch(session, MissingType, _MISSING_TYPES)


@dataclass(frozen=True, slots=True)
class KnownType:
    """A report type that has data."""

    id: str


async def known_types(session: AsyncSession) -> list[str]:
    """What rules may name: every type that any account has data of."""
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
    state: str | None
    window_end: datetime | None
    planned_at: datetime | None


async def rules(session: AsyncSession, *, also: Sequence[uuid.UUID]) -> list[RuleRow]:
    """Those whose data is due first, and also these."""
    return await fetch(session, RuleRow, _RULES, {"most_rules": MOST_RULES, "also": list(also)})


@dataclass(frozen=True, slots=True)
class OwedWindows:
    """Windows of a rule for one connected account that failed, or take long; and the newest end of each kind."""

    rule_id: uuid.UUID
    connected_account: str | None
    failed: int
    late: int
    failed_end: datetime | None
    late_end: datetime | None


async def owed_windows(session: AsyncSession, *, stored_within: timedelta) -> list[OwedWindows]:
    """Of all rules, by rule: what is owed and not well, however old its window is, counted up to a bound.

    A window that failed and has a newer revision is not owed by the failed one. One that only waits for its turn, in a
    long backfill say, is not late; one that was tried is, if it is not stored within `stored_within` of its planning.
    """
    values = {"limit": MOST_COUNTED, "within": stored_within}
    return await fetch(session, OwedWindows, _OWED_WINDOWS, values)


@dataclass(frozen=True, slots=True)
class Clock:
    """The database's clock."""

    now: datetime


async def now(session: AsyncSession) -> datetime:
    """What every check measures ages against."""
    return (await fetch_one(session, Clock, _NOW)).now


_NOW = text("select clock_timestamp() as now")
_WORKERS = text("""
select host || '/' || pid as name, seen_at, seen_at > clock_timestamp() - make_interval(secs => :stalled) as alive
from workers where works_queue order by seen_at desc limit :limit
""")
# Those that are due first are the oldest, but for some that are tried again later.
_INBOX = text("""
select count(*) as pending, min(received_at) as oldest_at from (
    select received_at from events where status = 'pending' order by due_at, id limit :limit
) as first
""")
_FAILED_EVENTS = text("""
select count(*) as number from (select from events where status = 'failed' limit :limit) as failed
""")
_FAILED_RUNS = text("""
select count(*) as number, count(*) filter (
    where (select max(at) from run_moves where run_id = failed.id) > clock_timestamp() - interval '1 day') as lately
from (select id from runs where state = 'failed' order by id desc limit :limit) as failed
""")
# Of each account the runs that are due longest: what is not workable among them waits for something else. A planned run
# may wait behind other runs of its account: only where nothing of the account is under way does it stand still.
_DUE = """
    select '{lane}' as lane, due.account, due.due_at
    from unnest(cast(:configured as text[])) as configured(account) cross join lateral (
        select run.account, run.due_at, run.workable from run_readiness as run
        where run.account = configured.account and run.state = '{state}' and run.due_at < now()
        order by run.due_at limit :limit
    ) as due where due.workable
"""
_LANES = text(f"""
select lane, count(*) as runs, min(due_at) as oldest from (
    {_DUE.format(lane="requests", state="planned")}
      and not exists (select from runs as other where other.account = due.account and other.state = 'requested')
    union all {_DUE.format(lane="lookups", state="requested")}
    union all {_DUE.format(lane="downloads", state="ready")}
) as due group by lane order by lane
""")  # noqa: S608 - of constants only
_HOLDS = text("""
select account, call_kind, reason, since, nullif(next_probe_at, 'infinity') as next_probe_at from account_holds
where account = any(cast(:configured as text[])) order by account, call_kind limit :limit
""")
_HEARD = text("""
select account, signed_with, max(received_at) as last_at, min(min(received_at)) over () as looked_back_to
from (
    select account, signed_with, received_at from events order by received_at desc limit :newest_events
) as newest group by account, signed_with
""")
_HEARD_SINCE = text("""
select received_at as at from events where received_at > :since order by received_at desc limit 1
""")
_REFUSED = text("""
select account, reason, number, first_at, last_at from refused_deliveries
where account = any(cast(:configured as text[])) and last_at > clock_timestamp() - interval '1 day'
order by account, last_at desc limit :limit
""")
# Stripe sends an event for every advance: an hour later it has come, if it comes at all.
_UNANNOUNCED = text("""
select type.account, min(type.id) as example, count(*) as types
from report_types as type join accounts on accounts.slug = type.account
where type.account = any(cast(:accounts as text[]))
  and exists (select from rules where account = type.account and report_type = type.id and enabled
              and deleted_at is null)
  and type.stripe_updated_at > accounts.created_at and type.stripe_updated_at < clock_timestamp() - interval '1 hour'
  and not exists (
    select from events where events.account = type.account and events.object_id = type.id
      and events.type = 'reporting.report_type.updated'
      and events.received_at > type.stripe_updated_at - interval '5 minutes')
group by type.account order by type.account
""")
_POLLED = text("""
select (select finished_at from timetable where name = 'reconcile') as reconciled_at,
    (select min(created_at) from accounts) as first_seen_at
""")
_MISSING_TYPES = text("""
select rules.account, rules.report_type, min(rules.name) as rule, min(rules.created_at) as rule_created_at,
    type.missing_reason as reason,
    exists (select from report_types as other
            where other.account = rules.account and other.data_available_end is not null) as listed
from rules left join report_types as type on type.account = rules.account and type.id = rules.report_type
where rules.enabled and rules.deleted_at is null
  and (type.missing_since is not null or type.data_available_end is null)
group by rules.account, rules.report_type, type.missing_reason order by rules.account, rules.report_type limit 100
""")
_KNOWN_TYPES = text("""
select distinct id from report_types where data_available_end is not null order by id limit :limit
""")
# Two look-ups, because an index finds a null only where it is asked for by name.
_RULES = text("""
select rules.id, rules.name, rules.account, rules.report_type, rules.created_at, p.connected_account, p.next_due_at,
    type.data_available_end, make_interval(secs => type.longest_data_age_seconds) as longest_data_age,
    coalesce(own.state, connected.state) as state, coalesce(own.interval_end, connected.interval_end) as window_end,
    coalesce(own.planned_at, connected.planned_at) as planned_at
from (
    (select p.* from rule_progress as p join rules on rules.id = p.rule_id
     where rules.enabled and rules.deleted_at is null order by p.next_due_at nulls first, p.id limit :most_rules)
    union
    (select p.* from rule_progress as p join rules on rules.id = p.rule_id
     where rules.enabled and rules.deleted_at is null and p.rule_id = any(cast(:also as uuid[])) limit :most_rules)
) as p join rules on rules.id = p.rule_id
left join report_types as type on type.account = rules.account and type.id = rules.report_type
left join lateral (
    select state, interval_end, planned_at from runs
    where runs.rule_id = p.rule_id and runs.connected_account is null and p.connected_account is null
    order by window_key desc, revision desc limit 1
) as own on true
left join lateral (
    select state, interval_end, planned_at from runs
    where runs.rule_id = p.rule_id and runs.connected_account = p.connected_account
    order by window_key desc, revision desc limit 1
) as connected on true
order by p.next_due_at nulls first, p.id
""")
_OWED_WINDOWS = text("""
with failed as (
    select rule_id, connected_account, window_key, revision, interval_end from runs
    where state = 'failed' order by id desc limit :limit
), tried as (
    select id, rule_id, connected_account, interval_end from runs
    where (state in ('requested', 'ready') or (state = 'planned' and tries > 0))
      and planned_at < clock_timestamp() - cast(:within as interval)
    order by planned_at limit :limit
), owed as (
    select rule_id, connected_account, interval_end as failed_end, null as late_end from failed
    where not exists (
        select from runs as newer where newer.rule_id = failed.rule_id and newer.window_key = failed.window_key
          and newer.connected_account = failed.connected_account and newer.revision > failed.revision)
      and not (failed.connected_account is null and exists (
        select from runs as newer where newer.rule_id = failed.rule_id and newer.window_key = failed.window_key
          and newer.connected_account is null and newer.revision > failed.revision))
    union all
    select rule_id, connected_account, null, interval_end from tried
    where (select max(at) from run_moves where run_id = tried.id and to_state = 'planned')
        < clock_timestamp() - cast(:within as interval)
)
select owed.rule_id, owed.connected_account, count(failed_end) as failed, count(late_end) as late,
    max(failed_end) as failed_end, max(late_end) as late_end
from owed join rules on rules.id = owed.rule_id and rules.enabled and rules.deleted_at is null
group by owed.rule_id, owed.connected_account
""")
