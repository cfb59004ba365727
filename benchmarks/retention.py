"""A simulated year of storing and removing files: does the table stop growing?

    python -m benchmarks.retention            # --days, --files and --kept change the story

Once the first files have come of age, as many are removed every day as are stored. Autovacuum runs as in
production, but looks once a second, which here is every few days: a real day gives it 1,440 looks.
"""

import argparse
import asyncio
import logging
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
from sqlalchemy import text

from app.files import FileMetadata
from app.files.database_writer import DatabaseWriter
from app.observability.logs import configure_logs
from app.resources import Resources, open_resources
from app.settings import load_settings
from app.upkeep.retention import remove_old_files
from benchmarks.rows import finish
from benchmarks.stage import KEY, Stage

MB = 1_000_000


def main() -> None:
    """Print the size of the table month by month."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--files", type=int, default=12, help="stored each day")
    parser.add_argument("--kept", type=int, default=30, help="days that a file is kept")
    options = parser.parse_args()
    configure_logs()
    logging.getLogger().setLevel(logging.ERROR)
    with Stage() as stage:
        with psycopg.connect(stage.server.url(), autocommit=True) as connection:
            connection.execute("alter system set autovacuum_naptime = '1s'")
            connection.execute("select pg_reload_conf()")
        with stage.database() as url:
            asyncio.run(_year(url, days=options.days, files=options.files, kept=options.kept))


async def _year(url: str, *, days: int, files: int, kept: int) -> None:
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": KEY}, env_file=None)
    async with open_resources(settings) as res:
        print(f"{'day':>5} {'files':>6} {'live MB':>8} {'on disk MB':>10} {'ratio':>6} {'vacuums':>8} {'s':>5}")
        began = time.monotonic()
        for day in range(1, days + 1):
            for content in _contents(day, files):
                await _store(res, content, days_ago=days - day)
            ending = replace(res, settings=settings.model_copy(update={"retention_days": days - day + kept}))
            while await remove_old_files(ending):
                pass
            if day % 30 == 0 or day == days:
                await _print(res, day, time.monotonic() - began)


def _contents(day: int, files: int) -> Iterator[bytes]:
    """Files of very different sizes that compress like reports do, about four to one."""
    generator = random.Random(day)
    for _ in range(files):
        row = (
            f"txn_{generator.getrandbits(64):x},2026-10-01T00:00:00Z,{generator.randrange(10**6)},usd,charge\n".encode()
        )
        block = b"".join(row + generator.randbytes(12).hex().encode() for _ in range(2_000))
        yield block * generator.choice((1, 1, 2, 4, 12))


async def _store(res: Resources, content: bytes, *, days_ago: int) -> None:
    run_id = uuid.uuid4()
    async with res.sessions.begin() as session:
        await session.execute(_RUN, {"id": run_id})
    writer = DatabaseWriter(FileMetadata(run_id, None, "default", "a.b", "file_1", "a.csv"), res.sessions.begin)
    await writer.write(content)
    await writer.facts()
    async with res.sessions.begin() as session:
        await finish(session, writer)
        await session.execute(_OLDER, {"run_id": run_id, "days": days_ago})


async def _print(res: Resources, day: int, seconds: float) -> None:
    async with res.sessions.begin() as session:
        found = (await session.execute(_SIZES)).one()
    live, disk = found.live / MB, found.disk / MB
    print(
        f"{day:5} {found.files:6} {live:8.1f} {disk:10.1f} {disk / live:6.2f} {found.vacuums:8} {seconds:5.0f}",
        flush=True,
    )


_RUN = text("""
insert into runs (id, account, report_type, parameters, state, attempts_granted)
values (:id, 'default', 'a.b', '{}', 'stored', 3)
""")
_OLDER = text("update files set stored_at = now() - make_interval(days => :days) where run_id = :run_id")
_SIZES = text("""
select (select count(*) from files where purged_at is null) as files,
    (select sum(octet_length(data)) from file_chunks)::float8 as live,
    pg_total_relation_size('file_chunks')::float8 as disk,
    (select sum(autovacuum_count) from pg_stat_all_tables
     where relid = 'file_chunks'::regclass
        or relid = (select reltoastrelid from pg_class where oid = 'file_chunks'::regclass)) as vacuums
""")


if __name__ == "__main__":
    main()
