"""Files into tables: beside raw COPY of the same bytes into a table of the same columns and indexes, in the same run.

Also: many small files, the memory of the child, a diff of two large revisions, Parquet out.
"""

import asyncio
import csv
import io
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy import text

from app.files import FileMetadata
from app.files.database_writer import DatabaseWriter
from app.resources import Resources, open_resources
from app.settings import load_settings
from app.tables import checking, loading, loads, parquet
from app.tables.child_process import Child
from benchmarks.harness import Row, against, at_least, below
from benchmarks.rows import finish
from benchmarks.stage import KEY, Stage

TYPE = "balance_change_from_activity.itemized.6"
TABLE = "balance_change_from_activity_itemized"
MB = 1_000_000
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
    """Seconds of each round, and what else was seen."""

    ours: list[float] = field(default_factory=list)
    copied: list[float] = field(default_factory=list)
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
    yield _figure("memory of the child, peak", found.peak_mib, "MiB", below(80, "MiB"))
    yield _figure(f"{small:,} files of 5 kB", found.small_per_second, "/s", at_least(60, "/s"))
    yield _figure(f"diff of 2 × {rows:,} rows", found.diff_seconds, "s", below(1, "s"))
    if parquet.is_possible():
        yield _figure("Parquet, from the stored file", size / found.parquet_seconds, "MB/s", at_least(100, "MB/s"))


def _figure(what: str, value: float, unit: str, aim: object) -> Row:
    met = aim.met(value)  # type: ignore[attr-defined]  # an Aim of the harness
    return Row(what, f"{value:.3g} {unit}", aim=str(aim), met=met)


async def _measured(url: str, content: bytes, changed: bytes, *, small: int, rounds: int) -> Measured:
    found = Measured()
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": KEY}, env_file=None)
    async with open_resources(settings) as res:
        rule = await _rule(res)
        await _store(res, rule, make_file(20, seed=3), key="2026-09-01", revision=1)
        await _load_all(res)  # the child is there
        for number in range(rounds):
            await _store(res, rule, content, key=f"2026-10-{number + 1:02}", revision=1)
            found.ours.append(await _load_all(res))
            found.copied.append(await asyncio.to_thread(_copy, url, content))
        found.peak_mib = _peak(loading.child_of(res).pid)
        await _store(res, rule, changed, key="2026-10-01", revision=2)
        found.diff_seconds = await _load_all(res, only_diff=True)
        if parquet.is_possible():
            found.parquet_seconds = await _parquet(res)
        await _many_small(res, rule, small)
        found.small_per_second = small / await _load_all(res)
        await loading.end_child(res)
    return found


def make_file(rows: int, *, seed: int, changed: int = 0) -> bytes:
    """A report of 24 columns; of a `changed` one so many rows have another net."""
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


def _copy(url: str, content: bytes) -> float:
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
            for start in range(0, len(content), 256 * 1024):
                copy.write(content[start : start + 256 * 1024])
        connection.commit()
        return time.monotonic() - began


async def _rule(res: Resources) -> uuid.UUID:
    id_ = uuid.uuid4()
    async with res.sessions.begin() as session:
        await session.execute(_RULE, {"id": id_, "type": TYPE})
    return id_


async def _store(res: Resources, rule: uuid.UUID, content: bytes, *, key: str, revision: int) -> None:
    run_id = uuid.uuid4()
    async with res.sessions.begin() as session:
        await session.execute(_RUN, {"id": run_id, "rule": rule, "type": TYPE, "key": key, "revision": revision})
    about = FileMetadata(run_id, rule, "default", TYPE, f"file_{run_id}", "report.csv")
    writer = DatabaseWriter(about, res.sessions.begin)
    await writer.write(content)
    await writer.facts()
    async with res.sessions.begin() as session:
        await finish(session, writer)
        await loads.owe(session, [run_id])


async def _many_small(res: Resources, rule: uuid.UUID, count: int) -> None:
    content = make_file(20, seed=2)
    for number in range(count):
        await _store(res, rule, content, key=f"{2000 + number // 12}-{number % 12 + 1:02}-01", revision=1)


async def _load_all(res: Resources, *, only_diff: bool = False) -> float:
    began = time.monotonic()
    while claims := await loading.claim_loads(res, 2):
        await asyncio.gather(*(loading.load(res, claim) for claim in claims))
    while await checking.check_due(res):
        pass
    took = time.monotonic() - began
    if not only_diff:
        return took
    from app.tables import listing

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


def _peak(pid: int | None) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


_RULE = text("""
insert into rules (id, account, name, report_type, enabled, cadence, timezone, starts_on, settle_hours, parameters,
    connected_accounts) values (:id, 'default', 'bench', :type, true, 'daily', 'UTC', '1999-01-01', 0, '{}', '{}')
""")
_RUN = text("""
insert into runs (id, account, rule_id, report_type, window_key, revision, interval_start, interval_end, timezone,
    parameters, state, attempts_granted, stored_at) values (:id, 'default', :rule, :type, :key, :revision,
    cast(cast(:key as text) as date), cast(cast(:key as text) as date) + 1, 'UTC', '{}', 'stored', 3, now())
""")
