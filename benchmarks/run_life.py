"""The whole life of a run: daily windows of three rules, planned → stored, by one worker process.

The simulator answers creates at once from a process of its own; the service and the bare sequence each have one
process, the same PostgreSQL (fsync on) and the same number of calls under way. The bare sequence is what any
implementation has to do: create, two rows, fetch the file, store it with its hash, one commit before each call.
"""

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import httpx
import psycopg
import uvloop

from app.db.engine import libpq_conninfo
from benchmarks.harness import Row, against, alone, alternate, at_least
from benchmarks.profiled import print_hints
from benchmarks.rows import add_rules, one, rule, until
from benchmarks.stage import KEY, Stage, postgres_cpu_seconds
from benchmarks.stripe import REPORT_TYPES, Stripe, Wanted, first_day, midnight, stripe

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Life:
    """What so many runs took."""

    per_second: float
    cpu_ms: float  # of our process, for each run
    postgres_cpu_ms: float
    commits: float
    statements: float


def measure(stage: Stage) -> Iterator[Row]:
    """The rate beside the bare sequence, and what a run costs."""
    days = 60 if stage.short else 200
    with stripe(Wanted(days=days + 30)) as simulator:
        if stage.profile:
            _life(stage, simulator, days=days)
            print_hints(stage.folder / "profile")
            return
        contenders: dict[str, Callable[[], Life | float]] = {
            "ours": partial(_life, stage, simulator, days=days),
            "bare": partial(_bare, stage, simulator, days=days),
        }
        given = alternate(1 if stage.short else 3, contenders)
        counted = _life(stage, simulator, days=min(days, 60), count_statements=True)
    lives = [life for life in given["ours"] if isinstance(life, Life)]
    rates = [life.per_second for life in lives]
    bare = [rate for rate in given["bare"] if isinstance(rate, float)]
    what = "whole life of a run, small file"
    yield alone(what, rates, "runs/s", aim=at_least(100, "runs/s"))
    yield against(what, rates, "runs/s", limit="bare calls and statements", limits=bare, aim=at_least(0.3))
    yield alone(f"{what}: processor time of our process", [life.cpu_ms for life in lives], "ms")
    yield alone(f"{what}: processor time of PostgreSQL", [life.postgres_cpu_ms for life in lives], "ms")
    yield alone(f"{what}: transactions", [counted.commits], "a run")
    yield alone(f"{what}: statements", [counted.statements], "a run")


def _life(stage: Stage, simulator: Stripe, *, days: int, count_statements: bool = False) -> Life:
    with stage.database(count_statements=count_statements) as url:
        worker = stage.service("worker", url=url, stripe=simulator.base, TALLYHOOK_MAX_PENDING_RUNS=50)
        with worker as process:
            until(
                lambda: bool(one(url, "select count(*) from timetable where finished_at is not null")), "it has started"
            )
            if count_statements:
                one(url, "select pg_stat_statements_reset()")
            before = process.cpu_seconds(), postgres_cpu_seconds(stage)
            runs = asyncio.run(_plan(url, days))
            until(
                lambda: one(url, "select count(*) from runs where state = 'stored'") == runs,
                "all runs are stored",
                every=0.25,
            )
            used = process.cpu_seconds() - before[0], postgres_cpu_seconds(stage) - before[1]
            seconds = float(one(url, _SECONDS))
            statements = one(url, _STATEMENTS) if count_statements else 0
        return Life(
            per_second=runs / seconds,
            cpu_ms=used[0] / runs * 1000,
            postgres_cpu_ms=used[1] / runs * 1000,
            commits=float(one(url, _COMMITS)) / runs if count_statements else 0.0,
            statements=float(statements) / runs,
        )


async def _plan(url: str, days: int) -> int:
    return await add_rules(url, *(rule(name, name, starts_on=first_day(days)) for name in REPORT_TYPES))


# From the commit that planned them (nearly: `now()` is its beginning) to that of the last file.
_SECONDS = "select extract(epoch from max(stored_at) - min(planned_at)) from runs"
_STATEMENTS = """
select sum(calls) from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database()) and query !~ 'count\\(|pg_stat'
"""
_COMMITS = """
select sum(calls) from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database()) and query = 'COMMIT'
"""


def _bare(stage: Stage, simulator: Stripe, *, days: int) -> float:
    with stage.database(empty=True) as url:
        return uvloop.run(_bare_runs(url, simulator.base, days=days))


async def _bare_runs(url: str, base: str, *, days: int) -> float:
    """The same calls and rows by hand: no framework, no states, no history, no slots."""
    windows = [(name, midnight() - timedelta(days=day + 1)) for day in range(days) for name in REPORT_TYPES]
    async with await psycopg.AsyncConnection.connect(libpq_conninfo(url), autocommit=True) as connection:
        await connection.execute("create table bare_run (id uuid primary key, stripe_id text, sha256 text)")
        await connection.execute("create table bare_file (id uuid primary key, data bytea)")
    loop = asyncio.get_running_loop()
    began = loop.time()
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=60) as client:
        await asyncio.gather(*(_bare_part(url, client, windows[part::AT_ONCE]) for part in range(AT_ONCE)))
    return len(windows) / (loop.time() - began)


async def _bare_part(url: str, client: httpx.AsyncClient, windows: list[tuple[str, datetime]]) -> None:
    async with await psycopg.AsyncConnection.connect(libpq_conninfo(url), autocommit=True) as connection:
        for name, start in windows:
            run_id = uuid.uuid4()
            await connection.execute("insert into bare_run (id) values (%s)", (run_id,))
            form = {
                "report_type": name,
                "parameters[interval_start]": str(int(start.timestamp())),
                "parameters[interval_end]": str(int((start + timedelta(days=1)).timestamp())),
            }
            made = (
                await client.post("/v1/reporting/report_runs", data=form, headers={"Idempotency-Key": str(run_id)})
            ).json()
            await connection.execute("update bare_run set stripe_id = %s where id = %s", (made["id"], run_id))
            body = (await client.get(made["result"]["url"])).content
            async with connection.transaction():
                await connection.execute("insert into bare_file values (%s, %s)", (run_id, body))
                digest = hashlib.sha256(body).hexdigest()
                await connection.execute("update bare_run set sha256 = %s where id = %s", (digest, run_id))
