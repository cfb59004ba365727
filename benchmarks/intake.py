"""Intake: verify, keep, wake, commit, answer; one `serve --no-worker` process, load from another process.

Beside it: pgbench writing the same rows one transaction each, two engines that upsert one object per event, and this
service as it was before.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import psycopg

from benchmarks import before, engines
from benchmarks.deliveries import BODY_BYTES
from benchmarks.harness import Row, against, alone, alternate, at_least, below, not_measured
from benchmarks.load import Order, Outcome, send
from benchmarks.pgbench import pgbench
from benchmarks.profiled import print_hints
from benchmarks.rows import one
from benchmarks.stage import SECRET, Process, Stage, postgres_cpu_seconds

SERVE = ("serve", "--no-worker", "--port", "0")
CONNECTIONS = (16, 64)
EVENT, EVENT_AND_JOB = "pgbench, the event alone", "pgbench, event and job row by row"

# The same columns, bytes and indexes as ours; the wake-up is part of the row that a job queue would write.
_EVENT = f"""
insert into events (account, stripe_event_id, type, object_id, livemode, stripe_created_at, payload,
    payload_sha256, status)
values ('default', 'evt_' || :client_id || '_' || :n || '_' || pg_backend_pid(), 'reporting.report_run.succeeded',
    'frr_' || :client_id || '_' || :n || '_' || pg_backend_pid(), false, now(), '{{"": "{"x" * (BODY_BYTES - 8)}"}}',
    '{"0" * 64}', 'pending')
on conflict (account, stripe_event_id) do nothing;
"""
_JOB = """
insert into bench_jobs (event_id) values ('evt_' || :client_id || '_' || :n || '_' || pg_backend_pid());
select pg_notify('bench_jobs', '');
"""
_JOBS = """
create table bench_jobs (id bigint generated always as identity primary key, event_id text not null,
    status text not null default 'todo', due_at timestamptz not null default now(), tries int not null default 0);
create index on bench_jobs (due_at, id) where status = 'todo';
"""
SCRIPTS = {
    EVENT: f"\\set n :n + 1\n{_EVENT}",
    EVENT_AND_JOB: f"\\set n :n + 1\nbegin;\n{_EVENT}{_JOB}commit;\n",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """One round: events a second, and CPU time per event."""

    per_second: float
    server_us: float  # of the process that answers
    postgres_us: float
    outcome: Outcome | None = None  # of the load, where there was one

    @property
    def both_us(self) -> float:
        """The figure that holds however busy the machine is with other work."""
        return self.server_us + self.postgres_us


def measure(stage: Stage) -> Iterator[Row]:
    """Rows for 16 and 64 connections."""
    if stage.profile:
        with stage.database() as url, stage.service(*SERVE, url=url) as service:
            send(Order(f"{service.url}/webhooks/stripe", SECRET, requests=5000))
        print_hints(stage.folder / "profile")
        return
    lacking, no_before = engines.why_not(), before.why_not()
    with ExitStack() as stack:
        ours = stack.enter_context(stage.database())
        service = stack.enter_context(stage.service(*SERVE, url=ours))
        limits = stack.enter_context(stage.database())
        with psycopg.connect(limits, autocommit=True) as connection:
            connection.execute(_JOBS)
        servers = {}
        if no_before is None:
            old = stack.enter_context(stage.database(empty=True))
            was = stack.enter_context(stage.service(*SERVE, url=old, root=before.unpacked(stage)))
        for package, name in engines.ENGINES.items() if lacking is None else ():
            theirs = stack.enter_context(stage.database(empty=True))
            servers[name] = stack.enter_context(engines.engine(stage, package, url=theirs)), theirs
        for connections in CONNECTIONS:
            requests = 2000 if stage.short else 6000
            order = Order(f"{service.url}/webhooks/stripe", SECRET, requests=requests, connections=connections)
            contenders: dict[str, Callable[[], Taken]] = {"ours": partial(_load, stage, service, order, ours, "events")}
            if no_before is None:
                its = replace(order, url=f"{was.url}/webhooks/stripe")
                contenders[before.NAME] = partial(_load, stage, was, its, old, "events")
            for name, script in SCRIPTS.items():
                contenders[name] = partial(_pgbench, stage, limits, script, connections, requests)
            for name, (server, theirs) in servers.items():
                fewer = Order(server.url, SECRET, requests=requests // 2, connections=connections, kind="customer")
                contenders[name] = partial(_load, stage, server, fewer, theirs, "stripe.customers")
            given = alternate(1 if stage.short else 3, contenders)
            yield from _rows(connections, given, lacking)
            if no_before is None:
                yield from _beside_before(connections, given)
            else:
                yield not_measured(f"intake, {connections} connections, beside {before.NAME}", no_before)


def _load(stage: Stage, server: Process, order: Order, database: str, table: str) -> Taken:
    """Send it; every 200 must be a row."""
    rows, spent, spent_by_postgres = _count(database, table), server.cpu_seconds(), postgres_cpu_seconds(stage)
    outcome = send(order)
    spent, spent_by_postgres = server.cpu_seconds() - spent, postgres_cpu_seconds(stage) - spent_by_postgres
    sent, rows = order.warm_up + order.requests, _count(database, table) - rows
    if rows != sent:
        raise RuntimeError(f"{sent} deliveries were answered with 200, {rows} are in {table}")
    return Taken(outcome.per_second, spent / sent * 1e6, spent_by_postgres / sent * 1e6, outcome)


def _count(database: str, table: str) -> int:
    return int(one(database, f"select count(*) from {table}"))


def _pgbench(stage: Stage, url: str, script: str, connections: int, transactions: int) -> Taken:
    spent = postgres_cpu_seconds(stage)
    rate = pgbench(script, url=url, clients=connections, transactions=transactions, folder=stage.folder)
    return Taken(rate.per_second, 0.0, (postgres_cpu_seconds(stage) - spent) / transactions * 1e6)


def _rows(connections: int, given: Mapping[str, list[Taken]], lacking: str | None) -> Iterator[Row]:
    what = f"intake, {connections} connections"
    rates = {name: [taken.per_second for taken in rounds] for name, rounds in given.items()}
    for limit, aim in ((EVENT_AND_JOB, at_least(1.5)), (EVENT, at_least(0.4))):
        yield against(what, rates["ours"], "events/s", limit=limit, limits=rates[limit], aim=aim)
    others = [name for name in engines.ENGINES.values() if name in rates]
    if not others:
        yield not_measured(f"{what}, beside other engines", str(lacking))
    fastest = max(others, key=lambda other: median(rates[other]), default=None)
    for name in others:
        # The aim is about the faster of them.
        aim_here = at_least(2.0) if name == fastest else None
        yield against(what, rates["ours"], "events/s", limit=name, limits=rates[name], aim=aim_here)
    outcomes = [taken.outcome for taken in given["ours"] if taken.outcome is not None]
    share = max(outcome.client_cpu_share for outcome in outcomes)
    yield alone(f"{what}: p50", [o.p50 for o in outcomes], "ms", note=f"the client took {share:.0%} of a core")
    aim_p99 = below(50, "ms") if connections == CONNECTIONS[0] else None
    yield alone(f"{what}: p99", [o.p99 for o in outcomes], "ms", aim=aim_p99)
    yield from _processor_time(what, given, others)


def _beside_before(connections: int, given: Mapping[str, list[Taken]]) -> Iterator[Row]:
    what = f"intake, {connections} connections"
    now, then = given["ours"], given[before.NAME]
    rates = [[taken.per_second for taken in rounds] for rounds in (now, then)]
    yield against(what, rates[0], "events/s", limit=before.NAME, limits=rates[1])
    p99s = [[taken.outcome.p99 for taken in rounds if taken.outcome is not None] for rounds in (now, then)]
    aim = at_least(round(1 / 0.3, 2)) if connections == CONNECTIONS[-1] else None
    yield against(f"{what}: p99", p99s[0], "ms", limit=before.NAME, limits=p99s[1], aim=aim, less_is_better=True)


def _processor_time(what: str, given: Mapping[str, list[Taken]], others: list[str]) -> Iterator[Row]:
    what = f"{what}: processor time of an event"
    yield alone(f"{what}, our process alone", [taken.server_us for taken in given["ours"]], "µs")
    ours = [taken.both_us for taken in given["ours"]]
    for name in (EVENT_AND_JOB, *others, *({before.NAME} & given.keys())):
        theirs = [taken.both_us for taken in given[name]]
        yield against(f"{what}, with PostgreSQL's", ours, "µs", limit=name, limits=theirs, less_is_better=True)
