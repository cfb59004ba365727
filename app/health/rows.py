"""What checks read from the rows: each query is bounded, answered by indexes, and ends in its own frozen dataclass."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch, fetch_first, fetch_one
from app.rules.rechecks import counts
from app.vocabulary import RUN_STEPS, RunState

# Nothing is counted further than this: "more than 1000" says as much.
MOST_COUNTED = 1000
MOST_WORKERS = 100
# How far back the last webhook of an account, and of a signing secret, is looked for.
NEWEST_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A process that works the queue; `alive` if it reported within what counts as stalled."""

    name: str
    seen_at: datetime
    alive: bool


async def workers(session: AsyncSession, *, stalled_after_seconds: float) -> list[WorkerSeen]:
    """The most recently reported come first."""
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


# Each step of a run by its first lane.
DUE_LANES = tuple(step.lanes[0].value for step in RUN_STEPS)


@dataclass(frozen=True, slots=True)
class OverdueLane:
    """Runs of a lane that could continue but do not, and since when the oldest of them could."""

    lane: str
    runs: int
    oldest: datetime


async def lanes(session: AsyncSession, *, configured: Sequence[str]) -> list[OverdueLane]:
    """What is due in each lane of these accounts, and waits only for a worker."""
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
    """When the account's newest webhook signed with this secret (its fingerprint) came."""

    account: str
    signed_with: str | None
    last_at: datetime
    looked_back_to: datetime


async def heard(session: AsyncSession) -> list[Heard]:
    """From the newest events, by account and secret."""
    return await fetch(session, Heard, _HEARD, {"newest_events": NEWEST_EVENTS})


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened."""

    at: datetime


async def heard_since(session: AsyncSession, since: datetime) -> datetime | None:
    """When the newest webhook since then came, if any did."""
    found = await fetch_first(session, Moment, _HEARD_SINCE, {"since": since})
    return None if found is None else found.at


@dataclass(frozen=True, slots=True)
class Refused:
    """Deliveries to an account that were refused for one reason, since `first_at`, without a pause of a day."""

    account: str
    reason: str
    number: int
    first_at: datetime
    last_at: datetime


async def refused_deliveries(session: AsyncSession, *, configured: Sequence[str]) -> list[Refused]:
    """Those of the last day."""
    return await fetch(session, Refused, _REFUSED, {"configured": list(configured), "limit": MOST_COUNTED})


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Items of one of Stripe's lists that could not be read when it was last listed, and what is wrong with one."""

    account: str
    kind: str
    number: int
    example: str
    first_at: datetime


async def unreadable_items(session: AsyncSession, *, configured: Sequence[str]) -> list[Unreadable]:
    """From lists that were read within a day: older ones say nothing about now."""
    return await fetch(session, Unreadable, _UNREADABLE, {"configured": list(configured), "limit": MOST_COUNTED})


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
class Unpolled:
    """An account that Stripe was not asked about for too long; `since` is when it last was, or was added."""

    account: str
    since: datetime
    never: bool


async def unpolled(session: AsyncSession, *, accounts: Sequence[str], seconds: float) -> list[Unpolled]:
    """Of these accounts, those that Stripe was not asked about for this many seconds, longest first."""
    return await fetch(session, Unpolled, _UNPOLLED, {"accounts": list(accounts), "seconds": seconds})


@dataclass(frozen=True, slots=True)
class Clock:
    """The database's clock."""

    now: datetime


async def now(session: AsyncSession) -> datetime:
    """The time that every check measures ages against."""
    return (await fetch_one(session, Clock, _NOW)).now


_NOW = text("select clock_timestamp() as now")
_WORKERS = text("""
select host || '/' || pid as name, seen_at, seen_at > clock_timestamp() - make_interval(secs => :stalled) as alive
from workers where works_queue order by seen_at desc limit :limit
""")
# Those due first are the oldest, except for some that are tried again later.
_INBOX = text("""
select count(*) as pending, min(received_at) as oldest_at from (
    select received_at from events where status = 'pending' order by due_at, id limit :limit
) as first
""")
_FAILED_EVENTS = text("""
select count(*) as number from (select from events where status = 'failed' limit :limit) as failed
""")
_FAILED_RUNS = text(f"""
select count(*) as number, count(*) filter (
    where (select max(at) from run_moves where run_id = failed.id) > clock_timestamp() - interval '1 day') as lately
from (select id from runs where state = 'failed' and {counts("runs")} order by id desc limit :limit) as failed
""")  # noqa: S608 - of constants only
# For each account, the runs that have been due longest: those that are not workable wait for something else. A planned
# run may wait behind other runs of its account: it is stuck only if nothing of the account is under way.
_DUE = """
    select '{lane}' as lane, due.account, due.due_at
    from unnest(cast(:configured as text[])) as configured(account) cross join lateral (
        select run.account, run.due_at, run.workable from run_readiness as run
        where run.account = configured.account and run.state = '{state}' and run.due_at < now()
        order by run.due_at limit :limit
    ) as due where due.workable
"""
_DUE_IN = {step.state: _DUE.format(lane=step.lanes[0], state=step.state) for step in RUN_STEPS}
_LANES = text(f"""
select lane, count(*) as runs, min(due_at) as oldest from (
    {_DUE_IN[RunState.PLANNED]}
      and not exists (select from runs as other where other.account = due.account and other.state = 'requested')
    union all {_DUE_IN[RunState.REQUESTED]}
    union all {_DUE_IN[RunState.READY]}
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
_UNREADABLE = text("""
select account, kind, number, example, first_at from unreadable_items
where account = any(cast(:configured as text[])) and last_at > clock_timestamp() - interval '1 day'
order by account, kind limit :limit
""")
# Stripe sends an event for every advance: an hour later it has come, if it comes at all.
_UNANNOUNCED = text("""
select type.account, min(type.id) as example, count(*) as types
from report_types as type join accounts on accounts.slug = type.account
where type.account = any(cast(:accounts as text[]))
  and exists (select from rules where account = type.account and enabled and deleted_at is null
              and report_type in (type.id, regexp_replace(type.id, '[0-9]+$', 'latest')))
  and type.stripe_updated_at > accounts.created_at and type.stripe_updated_at < clock_timestamp() - interval '1 hour'
  and not exists (
    select from events where events.account = type.account and events.object_id = type.id
      and events.type = 'reporting.report_type.updated'
      and events.received_at > type.stripe_updated_at - interval '5 minutes')
group by type.account order by type.account
""")
_UNPOLLED = text("""
select slug as account, since, finished_at is null as never
from accounts left join reconciliations on reconciliations.account = slug
cross join lateral (select coalesce(finished_at, created_at)) as last(since)
where slug = any(cast(:accounts as text[])) and since < clock_timestamp() - make_interval(secs => :seconds)
order by since, slug
""")
