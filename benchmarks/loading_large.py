"""A gigabyte into a table, beside raw COPY of the same bytes, and the memory of the child meanwhile."""

import asyncio
import uuid
from collections.abc import Iterator

from app.files import FileMetadata
from app.files.database_writer import DatabaseWriter
from app.resources import Resources, open_resources
from app.settings import load_settings
from app.tables import loading
from benchmarks.harness import Row, against, alone, at_least, below, quantile
from benchmarks.loading import TYPE, add_rule, copy_raw, keep, lateness, load_all, make_file, peak_mib, plan_run
from benchmarks.stage import KEY, Stage

BLOCK_ROWS = 50_000


def measure(stage: Stage) -> Iterator[Row]:
    """Megabytes a second beside COPY, the child's peak, and how late the event loop is."""
    size = 2**27 if stage.short else 2**30
    header, _, body = make_file(BLOCK_ROWS, seed=1).partition(b"\n")
    blocks = size // len(body)
    with stage.database() as url:
        took, peak, late = asyncio.run(_measured(url, header, body, blocks))
        copied = copy_raw(url, _pieces(header, body, blocks))
    mb = blocks * len(body) / 1e6
    what = f"loading {mb:,.0f} MB"
    yield against(what, [mb / took], "MB/s", limit="raw COPY csv", limits=[mb / copied], aim=at_least(0.5))
    yield alone(f"{what}: memory of the child, peak", [peak], "MiB", aim=below(80, "MiB"))
    yield alone(f"{what}: the event loop is late by (p99)", [late], "ms", aim=below(10, "ms"))


def _pieces(header: bytes, body: bytes, blocks: int) -> Iterator[bytes]:
    """The same rows over and over, each time with new ids."""
    yield header + b"\n"
    for number in range(blocks):
        yield body.replace(b"_00000", b"_%05d" % (number + 1))


async def _measured(url: str, header: bytes, body: bytes, blocks: int) -> tuple[float, float, float]:
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": KEY}, env_file=None)
    async with open_resources(settings) as res:
        await _store(res, await add_rule(res), _pieces(header, body, blocks))
        async with lateness() as late:
            took = await load_all(res)
        peak = peak_mib(loading.child_of(res).pid)
        await loading.end_child(res)
    return took, peak, quantile(late, 0.99)


async def _store(res: Resources, rule: uuid.UUID, pieces: Iterator[bytes]) -> None:
    run_id = await plan_run(res, rule, key="2026-10-01", revision=1)
    writer = DatabaseWriter(FileMetadata(run_id, rule, "default", TYPE, "file_large", "report.csv"), res.sessions.begin)
    for piece in pieces:
        await writer.write(piece)
    await keep(res, writer, run_id)
