"""Backfill 365 daily windows of three rules against the simulator: runs a second, beside the bare sequence of calls.

    python -m benchmarks.backfill            # prints a table; --profile shows where the time goes

The simulator runs in a process of its own and answers creates at once; the service and the bare sequence each have
one process, the same PostgreSQL (fsync on) and the same number of calls under way. The bare sequence is what any
implementation has to do: create, two rows, fetch the file, store it with its hash, one commit before each call.
"""

import argparse
import asyncio
import cProfile
import hashlib
import logging
import pstats
import tempfile
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import psycopg
import uvloop
from sqlalchemy import text

from app.db.embedded import EmbeddedPostgres
from app.db.engine import libpq_url
from app.logs import configure_logs
from app.resources import open_resources
from app.rules import create
from app.runs.reconcile import reconcile
from app.runs.schedule import plan_report_type
from app.settings import Settings, load_settings
from app.simulator import Simulator, serve
from app.worker import work

TYPES = ("balance_change_from_activity.itemized.7", "balance.summary.1", "payouts.itemized.5")
KEY = "sk_test_simulator_default"
AT_ONCE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    configure_logs()
    logging.getLogger().setLevel(logging.ERROR)
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_simulate, args=(theirs, options.days), daemon=True)
    process.start()
    base = ours.recv()
    with tempfile.TemporaryDirectory(prefix="tallyhook-bench-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            bare = uvloop.run(_bare(server.url("postgres"), base, days=options.days))
            rate = uvloop.run(_service(server.url("postgres"), base, days=options.days, profile=options.profile))
    process.terminate()
    print(f"bare sequence   {bare:7.1f} runs/s")
    print(f"the service     {rate:7.1f} runs/s   ratio {rate / bare:.2f}")


def _simulate(pipe: Connection, days: int) -> None:
    async def simulate() -> None:
        simulator = Simulator(instant=True)
        for name in TYPES:
            kind = simulator.report_type(name)
            kind.data_available_start = int((_midnight() - timedelta(days=days + 30)).timestamp())
            kind.data_available_end = int(_midnight().timestamp())
        async with serve(simulator) as base:
            pipe.send(base)
            await asyncio.Event().wait()

    uvloop.run(simulate())


def _midnight() -> datetime:
    return datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)


def _first_day(days: int) -> date:
    return _midnight().date() - timedelta(days=days)


async def _service(url: str, base: str, *, days: int, profile: bool) -> float:
    async with open_resources(_settings(url, base)) as res:
        await reconcile(res)
        for name in TYPES:
            async with res.sessions.begin() as session:
                await create(session, _rule(name, days))
                await plan_report_type(session, "default", name, settings=res.settings)
        profiler = cProfile.Profile()
        started = time.perf_counter()
        if profile:
            profiler.enable()
        worker = asyncio.create_task(work(res))
        stored = 0
        while stored < days * len(TYPES):
            await asyncio.sleep(0.2)
            async with res.sessions.begin() as session:
                stored = (await session.execute(text("select count(*) from files"))).scalar_one()
        profiler.disable()
        seconds = time.perf_counter() - started
        res.stopping.set()
        res.wakeups.ring()
        await worker
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    return days * len(TYPES) / seconds


def _rule(report_type: str, days: int) -> dict[str, object]:
    return {
        "account": "default",
        "name": report_type,
        "report_type": report_type,
        "enabled": True,
        "cadence": "daily",
        "timezone": "UTC",
        "starts_on": _first_day(days),
        "settle_hours": 0,
        "parameters": {},
        "connected_accounts": [],
        "retention_days": None,
    }


def _settings(url: str, base: str) -> Settings:
    environ = {
        "DATABASE_URL": url,
        "STRIPE_API_KEY": KEY,
        "STRIPE_API_BASE": base,
        "STRIPE_FILES_BASE": base,
        "TALLYHOOK_REQUESTS_PER_SECOND": "0",
        "TALLYHOOK_MAX_PENDING_RUNS": "50",
    }
    return load_settings(environ, env_file=None)


async def _bare(url: str, base: str, *, days: int) -> float:
    """The same calls and rows by hand: no framework, no states, no history, no slots."""
    windows = [(name, _midnight() - timedelta(days=day + 1)) for day in range(days) for name in TYPES]
    async with await psycopg.AsyncConnection.connect(libpq_url(url), autocommit=True) as connection:
        await connection.execute("create table bare_run (id uuid primary key, stripe_id text, sha256 text)")
        await connection.execute("create table bare_file (id uuid primary key, data bytea)")
    started = time.perf_counter()
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=60) as client:
        await asyncio.gather(*(_bare_runs(url, client, windows[part::AT_ONCE]) for part in range(AT_ONCE)))
    return len(windows) / (time.perf_counter() - started)


async def _bare_runs(url: str, client: httpx.AsyncClient, windows: list[tuple[str, datetime]]) -> None:
    async with await psycopg.AsyncConnection.connect(libpq_url(url), autocommit=True) as connection:
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


if __name__ == "__main__":
    main()
