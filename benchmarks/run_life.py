"""The whole life of a run: daily windows of three rules, planned → stored, by one worker process.

The simulator answers creates at once from a process of its own; the service and the bare sequence each have one
process, the same PostgreSQL (fsync on) and the same number of calls under way. The bare sequence is what any
implementation must do: create, two rows, fetch the file, store it with its hash, one commit before each call.

Beside them this service as it was before, which had no tables: the main rows are without them, so that both do the
same work; further rows are with them, each file loaded as well.
"""

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import psycopg
import uvloop

from app.db.engine import libpq_conninfo
from benchmarks import before
from benchmarks.harness import Row, against, alone, alternate, at_least, not_measured
from benchmarks.profiled import print_hints
from benchmarks.rows import one, plan_daily, until
from benchmarks.stage import KEY, ROOT, Stage, postgres_cpu_seconds
from benchmarks.stripe import REPORT_TYPES, Stripe, Wanted, midnight, stripe

AT_ONCE = 16
WHAT = "whole life of a run, small file"
OURS, LOADED, BARE = "ours", "ours, tables loaded", "bare calls and statements"


@dataclass(frozen=True, slots=True)
class Life:
    """What a number of runs took."""

    per_second: float
    cpu_ms: float = 0.0  # of our process, for each run
    postgres_cpu_ms: float = 0.0
    commits: float = 0.0
    statements: float = 0.0

    @property
    def both_ms(self) -> float:
        """CPU time of our process and PostgreSQL, per run."""
        return self.cpu_ms + self.postgres_cpu_ms


def measure(stage: Stage) -> Iterator[Row]:
    """The rate beside the bare sequence, and what a run costs beside what it cost before."""
    days = 60 if stage.short else 200
    with stripe(Wanted(days=days + 30)) as simulator:
        if stage.profile:
            _life(stage, simulator, days=days)
            print_hints(stage.folder / "profile")
            return
        life = partial(_life, stage, simulator, days=days)
        contenders: dict[str, Callable[[], Life]] = {
            OURS: life,
            LOADED: partial(life, tables="on"),
            BARE: partial(_bare, stage, simulator, days=days),
        }
        if (lacking := before.why_not()) is None:
            contenders[before.NAME] = partial(life, root=before.unpacked(stage))
        given = alternate(1 if stage.short else 3, contenders)
        counted = {
            name: contenders[name](days=min(days, 60), count_statements=True)  # type: ignore[call-arg]
            for name in contenders.keys() - {BARE}
        }
    yield from _rates(given)
    if lacking is not None:
        yield not_measured(f"{WHAT}, beside {before.NAME}", lacking)
    yield from _costs(given)
    for name, its in sorted(counted.items(), key=lambda one: one[0] != OURS):
        yield alone(f"{WHAT}: transactions, {name}", [its.commits], "a run")
        yield alone(f"{WHAT}: statements, {name}", [its.statements], "a run")


def _rates(given: Mapping[str, list[Life]]) -> Iterator[Row]:
    rates = {name: [life.per_second for life in lives] for name, lives in given.items()}
    yield alone(WHAT, rates[OURS], "runs/s", aim=at_least(100, "runs/s"))
    yield against(WHAT, rates[OURS], "runs/s", limit=BARE, limits=rates[BARE], aim=at_least(0.48))
    yield against(f"{WHAT}, its table loaded", rates[LOADED], "runs/s", limit=BARE, limits=rates[BARE])
    if before.NAME in rates:
        yield against(WHAT, rates[OURS], "runs/s", limit=before.NAME, limits=rates[before.NAME])


def _costs(given: Mapping[str, list[Life]]) -> Iterator[Row]:
    for name, what in ((OURS, WHAT), (LOADED, f"{WHAT}, its table loaded")):
        for whose, ms in (
            ("our process", "cpu_ms"),
            ("PostgreSQL", "postgres_cpu_ms"),
            ("both", "both_ms"),
        ):
            row = f"{what}: processor time of {whose}"
            mine = [getattr(life, ms) for life in given[name]]
            if before.NAME not in given:
                yield alone(row, mine, "ms")
                continue
            its = [getattr(life, ms) for life in given[before.NAME]]
            aim = at_least(1.25) if name == OURS and whose == "both" else None
            yield against(row, mine, "ms", limit=before.NAME, limits=its, less_is_better=True, aim=aim)


def _life(
    stage: Stage,
    simulator: Stripe,
    *,
    days: int,
    tables: str = "off",
    root: Path | None = None,
    count_statements: bool = False,
) -> Life:
    more = {} if root else {"TALLYHOOK_TABLES": tables}
    with (
        stage.database(empty=root is not None, count_statements=count_statements) as url,
        stage.service("worker", url=url, stripe=simulator.base, root=root, TALLYHOOK_MAX_PENDING_RUNS=50, **more) as it,
    ):
        until(lambda: one(url, _KNOWN) == len(REPORT_TYPES), "it knows how far the data reaches")
        if count_statements:
            one(url, "select pg_stat_statements_reset()")
        since = it.cpu_seconds(), postgres_cpu_seconds(stage)
        runs = plan_daily(url, REPORT_TYPES, days=days, root=root or ROOT)
        until(lambda: one(url, _STORED) == runs, "all runs are stored", every=0.25)
        if tables == "on":
            until(lambda: one(url, _TO_LOAD) == 0, "all files are loaded", every=0.25)
        used = it.cpu_seconds() - since[0], postgres_cpu_seconds(stage) - since[1]
        return Life(
            per_second=runs / float(one(url, _SECONDS)),
            cpu_ms=used[0] / runs * 1000,
            postgres_cpu_ms=used[1] / runs * 1000,
            commits=float(one(url, _COMMITS)) / runs if count_statements else 0.0,
            statements=float(one(url, _STATEMENTS)) / runs if count_statements else 0.0,
        )


_KNOWN = f"select count(*) from report_types where data_available_end is not null and id in {REPORT_TYPES}"
_STORED = "select count(*) from runs where state = 'stored'"
_TO_LOAD = "select count(*) from loads where state = 'due'"
# From the commit that planned them (nearly: `now()` is its beginning) to that of the last file.
_SECONDS = "select extract(epoch from max(stored_at) - min(planned_at)) from runs"
_STATEMENTS = """
select sum(calls) from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database()) and query !~ '^select count\\(|pg_stat'
"""
_COMMITS = """
select sum(calls) from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database()) and query = 'COMMIT'
"""


def _bare(stage: Stage, simulator: Stripe, *, days: int) -> Life:
    with stage.database(empty=True) as url:
        return Life(uvloop.run(_bare_runs(url, simulator.base, days=days)))


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
