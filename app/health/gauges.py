"""The gauges that are read from the rows at each scrape: a few indexed statements in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.health import rows
from app.health.lateness import data_within
from app.resources import Resources
from app.rules.rechecks import counts
from app.vocabulary import CallKind

Families = Sequence[CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily]

# Prometheus usually gives up a scrape after ten seconds.
STATEMENT_SECONDS = 4
MOST_WORKERS = 100
MOST_REPORT_TYPES = 1000
# Per kind: counting further would say nothing more.
MOST_COUNTED = 10_000


async def read_families(res: Resources) -> Families:
    """Everything, with its labels, as read from the rows. Raises what the database raises."""
    async with res.sessions.begin() as session:
        await session.execute(text(f"set local statement_timeout = '{STATEMENT_SECONDS}s'"))
        return [
            await _runs(session),
            *await _inbox(session),
            await _file_chunks(session),
            await _lanes(session, sorted(res.settings.accounts)),
            await _workers(session),
            await _holds(session, sorted(res.stripe.accounts)),
            *await _availability(session),
            *await _tables(session),
            *await _targets(session),
        ]


async def _runs(session: AsyncSession) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "tallyhook_runs",
        "Runs that are not stored or cancelled, by state and report type (`other`: a type never announced).",
        labels=["state", "report_type"],
    )
    for row in await fetch(session, _Runs, _RUNS, {"most": MOST_COUNTED}):
        family.add_metric([row.state, row.report_type], row.runs)
    return family


async def _tables(session: AsyncSession) -> list[GaugeMetricFamily]:
    bound = {"most": MOST_COUNTED}
    loads = GaugeMetricFamily("tallyhook_loads", "Files that wait to be loaded, or could not be.", labels=["state"])
    for load in await fetch(session, _Loads, _LOADS, bound):
        loads.add_metric([load.state], load.loads)
    verdicts = GaugeMetricFamily(
        "tallyhook_checks",
        "Newest verdicts about numbers that must agree, at most 10,000; one that differs counts only without a note.",
        labels=["name", "verdict"],
    )
    for row in await fetch(session, _Verdicts, _NUMBERS, bound):
        verdicts.add_metric([row.name, row.verdict], row.verdicts)
    set_aside = (await session.execute(_SET_ASIDE, bound)).scalar_one()
    aside = GaugeMetricFamily("tallyhook_columns_set_aside", "Unknown columns, which are not loaded.", value=set_aside)
    return [loads, verdicts, aside]


async def _targets(session: AsyncSession) -> list[GaugeMetricFamily]:
    pending = GaugeMetricFamily(
        "tallyhook_target_deliveries_pending", "Messages on their way, at most 10,000 per target.", labels=["target"]
    )
    age = GaugeMetricFamily(
        "tallyhook_target_oldest_pending_age_seconds", "Age of the oldest message on its way.", labels=["target"]
    )
    for row in await fetch(session, _Pending, _PENDING_DELIVERIES, {"most": MOST_COUNTED}):
        pending.add_metric([row.name], row.pending)
        age.add_metric([row.name], row.age)
    return [pending, age]


async def _inbox(session: AsyncSession) -> list[GaugeMetricFamily]:
    found, now = await rows.inbox(session, most=MOST_COUNTED), await rows.now(session)
    oldest = 0.0 if found.oldest_at is None else max(0.0, (now - found.oldest_at).total_seconds())
    depth = GaugeMetricFamily("tallyhook_inbox_events", "Stored events that are not handled yet.", value=found.pending)
    age = GaugeMetricFamily(
        "tallyhook_inbox_oldest_age_seconds",
        "Seconds since the oldest unhandled event arrived; 0 if there is none.",
        value=oldest,
    )
    failed = GaugeMetricFamily(
        "tallyhook_failed_events",
        "Events whose handling failed for good; they can be replayed.",
        value=await rows.failed_events(session),
    )
    return [depth, age, failed]


async def _file_chunks(session: AsyncSession) -> GaugeMetricFamily:
    size = (await session.execute(_FILE_CHUNKS)).scalar_one()
    return GaugeMetricFamily("tallyhook_file_chunks_bytes", "Disk space of file contents in the database.", value=size)


async def _lanes(session: AsyncSession, accounts: Sequence[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "tallyhook_oldest_due_run_age_seconds",
        "Seconds that the oldest workable run of a lane has been waiting; 0 if there is none.",
        labels=["lane"],
    )
    found = {lane.lane: lane.oldest for lane in await rows.lanes(session, configured=accounts)}
    now = await rows.now(session)
    for lane in rows.DUE_LANES:
        family.add_metric([lane], max(0.0, (now - found[lane]).total_seconds()) if lane in found else 0.0)
    return family


async def _workers(session: AsyncSession) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "tallyhook_worker_heartbeat_age_seconds", "Seconds since a worker last reported.", labels=["worker"]
    )
    for row in await fetch(session, _Worker, _WORKERS, {"limit": MOST_WORKERS}):
        family.add_metric([row.worker], row.age)
    return family


async def _holds(session: AsyncSession, accounts: Sequence[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "tallyhook_account_held",
        "Whether Stripe refuses the account's key for this kind of call (1) or not (0).",
        labels=["account", "call_kind"],
    )
    held = {(row.account, row.call_kind) for row in await fetch(session, _Held, _HOLDS)}
    for account in accounts:
        for kind in CallKind:
            family.add_metric([account, kind.value], float((account, kind.value) in held))
    return family


async def _availability(session: AsyncSession) -> list[GaugeMetricFamily]:
    reach = GaugeMetricFamily(
        "tallyhook_data_available_end_timestamp_seconds",
        "How far Stripe's data reaches, in Unix time.",
        labels=["account", "report_type"],
    )
    late = GaugeMetricFamily(
        "tallyhook_data_late_seconds",
        "How many seconds later than allowed for its type the data is; 0 while it is on time.",
        labels=["account", "report_type"],
    )
    now = await rows.now(session)
    for row in await fetch(session, _Reach, _AVAILABILITY, {"limit": MOST_REPORT_TYPES}):
        reach.add_metric([row.account, row.id], row.available_end.timestamp())
        # The next window would have ended a day later.
        due = row.available_end + timedelta(days=1) + data_within(row.id, row.longest_data_age)
        late.add_metric([row.account, row.id], max(0.0, (now - due).total_seconds()))
    return [reach, late]


@dataclass(frozen=True, slots=True)
class _Runs:
    state: str
    report_type: str
    runs: float


@dataclass(frozen=True, slots=True)
class _Loads:
    state: str
    loads: int


@dataclass(frozen=True, slots=True)
class _Verdicts:
    name: str
    verdict: str
    verdicts: int


@dataclass(frozen=True, slots=True)
class _Pending:
    name: str  # of the target
    pending: int
    age: float  # seconds, of the oldest


@dataclass(frozen=True, slots=True)
class _Worker:
    worker: str  # host/pid
    age: float  # seconds since it last reported


@dataclass(frozen=True, slots=True)
class _Held:
    account: str
    call_kind: str


@dataclass(frozen=True, slots=True)
class _Reach:
    account: str
    id: str
    available_end: datetime
    longest_data_age: timedelta | None


_LOADS = text("""
select state, count(*) as loads from (
    (select state from loads where state = 'due' limit :most)
    union all (select state from loads where state = 'failed' limit :most)
) as counted group by state
""")
_NUMBERS = text("""
select name, verdict, count(*) as verdicts from (
    (select id, subject, name, verdict from checks where verdict <> 'differs' order by id desc limit :most)
    union all (select id, subject, name, verdict from checks where verdict = 'differs' order by id desc limit :most)
) as newest
where not exists (select from checks as later where later.subject = newest.subject and later.id > newest.id)
    and (verdict <> 'differs' or not exists (select from check_notes where check_id = newest.id))
group by name, verdict
""")
_SET_ASIDE = text("""
select count(*) from (select from table_columns where state = 'set_aside' limit :most) as counted
""")
# Stored and cancelled runs may be a million one day, and say nothing about now; a report type that Stripe never
# announced may be anything that somebody typed.
# Each state by itself and by name: if it were a parameter, the planner would walk back through all runs for the rarest.
_NEWEST = """
    (select state, account, report_type from runs where {which} order by id desc limit :most)
"""
# A re-check under way is work like any other run; one that failed leaves its report stored.
_COUNTED = [
    *(f"state = '{state}'" for state in ("planned", "requested", "ready")),
    f"state = 'failed' and {counts('runs')}",
]
_RUNS = text(f"""
select counted.state, coalesce(known.id, 'other') as report_type, cast(sum(counted.runs) as float8) as runs
from (
    select state, account, report_type, count(*) as runs from (
        {" union all ".join(_NEWEST.format(which=which) for which in _COUNTED)}
    ) as newest group by state, account, report_type
) as counted
left join report_types as known
    on known.account = counted.account and known.id = counted.report_type and known.data_available_end is not null
group by 1, 2
""")  # noqa: S608 - of constants only
_FILE_CHUNKS = text("select cast(pg_total_relation_size('file_chunks') as float8)")
_WORKERS = text("""
select host || '/' || pid as worker,
    cast(greatest(0, extract(epoch from clock_timestamp() - max(seen_at))) as float8) as age
from workers where works_queue group by 1 order by max(seen_at) desc limit :limit
""")
_HOLDS = text("select account, call_kind from account_holds")
_AVAILABILITY = text("""
select account, id, data_available_end as available_end,
    make_interval(secs => longest_data_age_seconds) as longest_data_age
from report_types
where data_available_end is not null and resolves_to is null order by account, id limit :limit
""")
# For each target, those that have been due for longest; a disabled target's do not count as waiting.
_PENDING_DELIVERIES = text("""
select name, waiting.pending,
    cast(greatest(0, coalesce(extract(epoch from clock_timestamp() - waiting.oldest), 0)) as float8) as age
from targets cross join lateral (
    select count(*) as pending, min(messages.created_at) as oldest from (
        select message_id from deliveries where target_id = targets.id and state = 'pending'
        order by due_at limit :most
    ) as due join messages on messages.id = due.message_id
) as waiting where deleted_at is null and enabled order by name limit 1000
""")
