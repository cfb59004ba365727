"""Intake: verify, keep, wake, commit, answer; one `serve --no-worker` process, load from another one.

Beside it: pgbench writing the same rows one transaction each, and two engines that upsert one object per event.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from statistics import median

import psycopg

from benchmarks import engines
from benchmarks.deliveries import BODY_BYTES
from benchmarks.harness import Row, against, alone, alternate, at_least, below, not_measured
from benchmarks.load import Order, Outcome, send
from benchmarks.pgbench import pgbench
from benchmarks.rows import one
from benchmarks.stage import SECRET, Process, Stage

Given = float | Outcome  # a rate, and from the load also how long each delivery took

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


def measure(stage: Stage) -> Iterator[Row]:
    """Rows for 16 and 64 connections."""
    lacking = engines.why_not()
    with ExitStack() as stack:
        ours = stack.enter_context(stage.database())
        service = stack.enter_context(stage.service("serve", "--no-worker", "--port", "0", url=ours))
        limits = stack.enter_context(stage.database())
        with psycopg.connect(limits, autocommit=True) as connection:
            connection.execute(_JOBS)
        servers = {}
        for package, name in engines.ENGINES.items() if lacking is None else ():
            theirs = stack.enter_context(stage.database(empty=True))
            servers[name] = stack.enter_context(engines.engine(stage, package, url=theirs)), theirs
        for connections in CONNECTIONS:
            requests = 2000 if stage.short else 6000
            spent: list[float] = []
            contenders: dict[str, Callable[[], Given]] = {
                "ours": partial(_ours, service, ours, connections, requests, spent)
            }
            for name, script in SCRIPTS.items():
                contenders[name] = partial(_pgbench, stage, limits, script, connections, requests)
            for name, (server, theirs) in servers.items():
                contenders[name] = partial(_theirs, server.url, theirs, connections, requests * 2 // 5)
            yield from _rows(connections, alternate(1 if stage.short else 3, contenders), spent, lacking)


def _ours(service: Process, database: str, connections: int, requests: int, spent: list[float]) -> Given:
    before = service.cpu_seconds()
    order = Order(f"{service.url}/webhooks/stripe", SECRET, requests=requests, connections=connections)
    outcome = _load(order, database, "events")
    spent.append((service.cpu_seconds() - before) / (order.warm_up + requests) * 1e6)
    return outcome


def _theirs(url: str, database: str, connections: int, requests: int) -> Given:
    order = Order(url, SECRET, requests=requests, connections=connections, kind="customer")
    return _load(order, database, "stripe.customers")


def _load(order: Order, database: str, table: str) -> Given:
    """Send it; every 200 has to be a row."""
    before = one(database, f"select count(*) from {table}")
    outcome = send(order)
    rows = one(database, f"select count(*) from {table}") - before
    if rows != order.warm_up + order.requests:
        raise RuntimeError(f"{order.warm_up + order.requests} deliveries were answered with 200, {rows} are in {table}")
    return outcome


def _pgbench(stage: Stage, url: str, script: str, connections: int, transactions: int) -> Given:
    return pgbench(script, url=url, clients=connections, transactions=transactions, folder=stage.folder).per_second


def _rows(connections: int, given: Mapping[str, list[Given]], spent: list[float], lacking: str | None) -> Iterator[Row]:
    what = f"intake, {connections} connections"
    rates = {name: [_rate(outcome) for outcome in rounds] for name, rounds in given.items()}
    for limit, aim in ((EVENT_AND_JOB, at_least(1.0)), (EVENT, at_least(0.35))):
        yield against(what, rates["ours"], "events/s", limit=limit, limits=rates[limit], aim=aim)
    others = [name for name in engines.ENGINES.values() if name in rates]
    if not others:
        yield not_measured(f"{what}, beside other engines", str(lacking))
    for name in others:
        # The aim is about the faster of them.
        fastest = name == max(others, key=lambda other: median(rates[other]))
        aim_here = at_least(2.0) if fastest else None
        yield against(what, rates["ours"], "events/s", limit=name, limits=rates[name], aim=aim_here)
    outcomes = [outcome for outcome in given["ours"] if isinstance(outcome, Outcome)]
    share = max(outcome.client_cpu_share for outcome in outcomes)
    yield alone(f"{what}: p50", [o.p50 for o in outcomes], "ms", note=f"the client took {share:.0%} of a core")
    aim_p99 = below(50, "ms") if connections == CONNECTIONS[0] else None
    yield alone(f"{what}: p99", [o.p99 for o in outcomes], "ms", aim=aim_p99)
    yield alone(f"{what}: processor time of our process", spent, "µs an event")


def _rate(given: Given) -> float:
    return given.per_second if isinstance(given, Outcome) else given
