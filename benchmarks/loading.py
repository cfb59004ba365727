"""Files into tables: beside raw COPY of the same bytes into a table of the same columns and indexes, in the same run.

Also: many small files, the memory of the child, how late the event loop is, a diff of two large revisions, Parquet out.
"""

import asyncio
import csv
import io
import random
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy import text

from app.files import FileMetadata
from app.files.database_writer import DatabaseWriter
from app.resources import Resources, open_resources
from app.settings import load_settings
from app.tables import checking, listing, loading, loads, parquet
from app.tables.child_process import Child
from benchmarks.harness import Row, against, alone, at_least, below, quantile
from benchmarks.rows import finish
from benchmarks.stage import KEY, Stage

TYPE = "balance_change_from_activity.itemized.6"
TABLE = "balance_change_from_activity_itemized"
MB = 1_000_000
_TURN_SECONDS = 0.005
COLUMNS = (
    "balance_transaction_id", "created_utc", "created", "available_on_utc", "available_on", "currency", "gross", "fee",
    "net", "reporting_category", "source_id", "customer_facing_amount", "customer_facing_currency",
    "automatic_payout_id", "customer_id", "charge_id", "payment_intent_id", "invoice_id", "subscription_id",
    "payment_method_type", "card_brand", "card_country", "dispute_reason", "regulatory_tag",
)  # fmt: skip
DECIMALS = {"gross", "fee", "net", "customer_facing_amount"}
TIMES = {"created_utc", "created", "available_on_utc", "available_on"}


@dataclass(slots=True)
class Measured:
    """Seconds of each round, and other observations."""

    ours: list[float] = field(default_factory=list)
    copied: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)  # ms
    peak_mib: float = 0.0
    small_per_second: float = 0.0
    diff_seconds: float = 0.0
    parquet_seconds: float = 0.0


def measure(stage: Stage) -> Iterator[Row]:
    """Each row beside its limit."""
    rows = 20_000 if stage.short else 200_000
    small = 200 if stage.short else 2_000
    content, changed = make_file(rows, seed=1), make_file(rows, seed=1, changed=500)
    with stage.database() as url:
        found = asyncio.run(_measured(url, content, changed, small=small, rounds=1 if stage.short else 3))
    size = len(content) / MB
    ours, copied = [size / s for s in found.ours], [size / s for s in found.copied]
    aim = at_least(0.5)
    yield against(f"loading {size:.0f} MB", ours, "MB/s", limit="raw COPY csv", limits=copied, aim=aim)
    yield alone("memory of the child, peak", [found.peak_mib], "MiB", aim=below(80, "MiB"))
    yield alone("loading: the event loop is late by (p99)", [quantile(found.late, 0.99)], "ms", aim=below(10, "ms"))
    yield alone(f"{small:,} files of 5 kB", [found.small_per_second], "/s", aim=at_least(60, "/s"))
    yield alone(f"diff of 2 × {rows:,} rows", [found.diff_seconds], "s", aim=below(1, "s"))
    if parquet.is_possible():
        yield alone("Parquet, from the stored file", [size / found.parquet_seconds], "MB/s", aim=at_least(100, "MB/s"))


async def _measured(url: str, content: bytes, changed: bytes, *, small: int, rounds: int) -> Measured:
    found = Measured()
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": KEY}, env_file=None)
    async with open_resources(settings) as res:
        rule = await add_rule(res)
        await store(res, rule, make_file(20, seed=3), key="2026-09-01", revision=1)
        await load_all(res)  # the child has started
        for number in range(rounds):
            await store(res, rule, content, key=f"2026-10-{number + 1:02}", revision=1)
            async with lateness() as late:
                found.ours.append(await load_all(res))
            found.late += late
            found.copied.append(await asyncio.to_thread(copy_raw, url, [content]))
        found.peak_mib = peak_mib(loading.child_of(res).pid)
        await store(res, rule, changed, key="2026-10-01", revision=2)
        await load_all(res)
        found.diff_seconds = await _diff(res)
        if parquet.is_possible():
            found.parquet_seconds = await _parquet(res)
        await _many_small(res, rule, small)
        found.small_per_second = small / await load_all(res)
        await loading.end_child(res)
    return found


def make_file(rows: int, *, seed: int, changed: int = 0) -> bytes:
    """A report of 24 columns; in a `changed` one so many rows have another net."""
    draw, out = random.Random(seed), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number in range(rows):
        at = f"2026-10-{draw.randint(1, 28):02} 08:{draw.randint(0, 59):02}:12"
        gross, fee = draw.randint(100, 99_999), draw.randint(10, 99)
        net = gross - fee + (1 if number < changed else 0)
        values = {"currency": "usd", "gross": f"{gross / 100:.2f}", "fee": f"{fee / 100:.2f}",
                  "net": f"{net / 100:.2f}", "reporting_category": "charge",
                  "payment_method_type": "card", "card_brand": "visa",
                  "card_country": "US", "dispute_reason": "two\nlines" if number % 50 == 0 else ""}  # fmt: skip
        for name in COLUMNS:
            if name in TIMES:
                values[name] = at
            elif name.endswith("_id") and name not in ("invoice_id", "subscription_id"):
                values[name] = f"{name[:4]}_{number:024}"
        writer.writerow([values.get(name, "") for name in COLUMNS])
    return out.getvalue().encode()


def copy_raw(url: str, content: Iterable[bytes]) -> float:
    """Seconds that COPY takes for these bytes, into a table of the same columns and indexes."""
    types = {name: "numeric" if name in DECIMALS else "timestamp" if name in TIMES else "text" for name in COLUMNS}
    columns = ", ".join(f"{name} {types[name]}" for name in COLUMNS)
    with psycopg.connect(url) as connection:
        connection.execute("drop table if exists raw")
        connection.execute(f"create table raw (load_id bigint default 1, row_number bigserial, {columns},"
                           " primary key (load_id, row_number))")  # fmt: skip
        connection.execute("create index on raw (balance_transaction_id)")
        connection.commit()
        began = time.monotonic()
        with (
            connection.cursor() as cursor,
            cursor.copy(f"copy raw ({', '.join(COLUMNS)}) from stdin csv header") as copy,
        ):
            for piece in content:
                for start in range(0, len(piece), 256 * 1024):
                    copy.write(piece[start : start + 256 * 1024])
        connection.commit()
        return time.monotonic() - began


async def add_rule(res: Resources, *, table: str = "auto", report_type: str = TYPE) -> uuid.UUID:
    """A rule that plans nothing, and what is done with its rows."""
    id_ = uuid.uuid4()
    values = {"id": id_, "type": report_type, "table": f'{{"state": "{table}", "personal": []}}'}
    async with res.sessions.begin() as session:
        await session.execute(_RULE, values)
    return id_


async def plan_run(res: Resources, rule: uuid.UUID, *, key: str, revision: int, report_type: str = TYPE) -> uuid.UUID:
    """A stored run of a day, its file still to come."""
    id_ = uuid.uuid4()
    values = {"id": id_, "rule": rule, "type": report_type, "key": key, "revision": revision}
    async with res.sessions.begin() as session:
        await session.execute(_RUN, values)
    return id_


async def store(
    res: Resources, rule: uuid.UUID, content: bytes, *, key: str, revision: int, report_type: str = TYPE
) -> uuid.UUID:
    """A stored run with its file, to be loaded unless the rule says `off`."""
    run_id = await plan_run(res, rule, key=key, revision=revision, report_type=report_type)
    about = FileMetadata(run_id, rule, "default", report_type, f"file_{run_id}", "report.csv")
    writer = DatabaseWriter(about, res.sessions.begin)
    await writer.write(content)
    await keep(res, writer, run_id)
    return run_id


async def keep(res: Resources, writer: DatabaseWriter, run_id: uuid.UUID) -> None:
    """Finish a file that is written, as a download does."""
    await writer.facts()
    async with res.sessions.begin() as session:
        await finish(session, writer)
        await loads.owe(session, [run_id])


@asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """How late the event loop is meanwhile, in milliseconds: something wants a turn every few of them."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_TURN_SECONDS)
            late.append((time.monotonic() - began - _TURN_SECONDS) * 1000)

    watching = asyncio.create_task(watch())
    try:
        yield late
    finally:
        watching.cancel()


async def _many_small(res: Resources, rule: uuid.UUID, count: int) -> None:
    content = make_file(20, seed=2)
    for number in range(count):
        await store(res, rule, content, key=f"{2100 + number // 12}-{number % 12 + 1:02}-01", revision=1)


async def load_all(res: Resources) -> float:
    """Load and check everything that is due, as a worker does; returns the seconds."""
    began = time.monotonic()
    while claims := await loading.claim_loads(res, 2):
        await asyncio.gather(*(loading.load(res, claim) for claim in claims))
    while await checking.check_due(res):
        pass
    return time.monotonic() - began


async def _diff(res: Resources) -> float:
    """Seconds that the summary of a difference takes on request; what the load found is forgotten first."""
    async with res.sessions.begin() as session:
        run_id = (await session.execute(text("select run_id from diffs join loads on loads.id = load_id"))).scalar_one()
        await session.execute(text("delete from diffs"))
        load = await listing.get_load(session, run_id, loaded=True)
        pair = await listing.pair_of(session, load, None)
        began = time.monotonic()
        await listing.compare(session, load, pair)
    return time.monotonic() - began


async def _parquet(res: Resources) -> float:
    async with res.sessions() as session:
        run_id = (await session.execute(text("select run_id from loads order by id offset 1 limit 1"))).scalar_one()
    child = Child(res)
    with tempfile.TemporaryDirectory() as folder:
        await child.write_parquet(run_id, Path(folder) / "warm.parquet", whole=True)
        began = time.monotonic()
        await child.write_parquet(run_id, Path(folder) / "part.parquet", whole=True)
        took = time.monotonic() - began
    await child.end()
    return took


def peak_mib(pid: int | None) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


_RULE = text("""
insert into rules (id, account, name, report_type, enabled, cadence, timezone, starts_on, settle_hours, parameters,
    connected_accounts, "table") values (:id, 'default', :id, :type, false, 'daily', 'UTC', '1999-01-01', 0, '{}',
    '{}', cast(:table as jsonb))
""")
_RUN = text("""
insert into runs (id, account, rule_id, report_type, window_key, revision, interval_start, interval_end, timezone,
    parameters, state, attempts_granted, stored_at) values (:id, 'default', :rule, :type, :key, :revision,
    cast(cast(:key as text) as date), cast(cast(:key as text) as date) + 1, 'UTC', '{}', 'stored', 3, now())
""")
