"""Loading must not hurt the intake: one `serve`, worker included, idle and then with many large files to load.

Deliveries come at a steady rate, from a separate process. The server has been running for a while, so it has WAL files
to reuse. A new server first creates each of them, 16 MB of zeros, while every commit waits.
"""

import asyncio
import uuid
from collections.abc import Iterator

import psycopg
from sqlalchemy import text

from app.resources import open_resources
from app.settings import Settings, load_settings
from app.tables import loads
from benchmarks.harness import Row, against, at_least
from benchmarks.load import Order, send
from benchmarks.loading import add_rule, make_file, store
from benchmarks.rows import one, until
from benchmarks.stage import KEY, SECRET, Process, Stage

RATE = 100.0


def measure(stage: Stage) -> Iterator[Row]:
    """p99 of deliveries while files are loaded, beside the same on the idle service."""
    files, rows, deliveries = (3, 40_000, 300) if stage.short else (10, 200_000, 1500)
    with stage.database() as url, stage.service("serve", "--port", "0", url=url) as service:
        _write_log_files(url)
        _deliver(service, deliveries // 3)  # the service is warm
        idle = _deliver(service, deliveries)
        runs = asyncio.run(_stored(url, make_file(rows, seed=1), files))
        asyncio.run(_owe(url, runs))
        until(lambda: bool(one(url, "select count(*) from loads where leased_by is not null")), "it loads", every=0.02)
        busy = _deliver(service, deliveries)
        left = one(url, "select count(*) from loads where state = 'due'")
        # With enough work left for the whole time.
        note = f"{files - left} of {files} files of {rows:,} rows loaded meanwhile"
    aim = at_least(0.5)  # at most twice as long
    yield against(
        f"intake p99 at {RATE:.0f} events a second while files are loaded", [busy], "ms", limit="the same, idle",
        limits=[idle], aim=aim, less_is_better=True, note=note,
    )  # fmt: skip


def _deliver(service: Process, deliveries: int) -> float:
    order = Order(f"{service.url}/webhooks/stripe", SECRET, requests=deliveries, rate=RATE, warm_up=50)
    return send(order).p99


def _write_log_files(url: str) -> None:
    """Write as much WAL as loading will, and a checkpoint, after which PostgreSQL reuses the files."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter system set min_wal_size = '2GB'")
        connection.execute("alter system set max_wal_size = '4GB'")
        connection.execute("select pg_reload_conf()")
        connection.execute(
            "create table filler as select repeat(md5(n::text), 30) from generate_series(1, 900000) as n"
        )
        connection.execute("drop table filler")
        connection.execute("checkpoint")


async def _stored(url: str, content: bytes, files: int) -> list[uuid.UUID]:
    """Files of a rule that says `off`, so that none of them is loaded yet."""
    async with open_resources(_settings(url)) as res:
        rule = await add_rule(res, table="off")
        return [await store(res, rule, content, key=f"2026-09-{day + 1:02}", revision=1) for day in range(files)]


async def _owe(url: str, runs: list[uuid.UUID]) -> None:
    async with open_resources(_settings(url)) as res, res.sessions.begin() as session:
        await session.execute(text("""update rules set "table" = '{"state": "auto", "personal": []}'"""))
        await loads.owe(session, runs)


def _settings(url: str) -> Settings:
    return load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": KEY}, env_file=None)
