"""A CSV of 1 GiB: from the files server into PostgreSQL by one worker process, and back out through the API.

The limit is a bare pipeline that does the same work in plain threads (`bare_files`): to receive, hash, compress and
COPY; to COPY out, decompress and send. `curl` into /dev/null and COPY alone, which do a part of it, stand beside it
without an aim. All rates are of the original's bytes.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

import psycopg

from benchmarks import bare_files
from benchmarks.harness import Row, against, alone, alternate, at_least, below
from benchmarks.rows import add_rules, one, rule, until
from benchmarks.stage import ADMIN_TOKEN, KEY, Stage
from benchmarks.stripe import Stripe, Wanted, first_day, stripe

TYPE = "balance_change_from_activity.itemized.7"
MB = 1_000_000
COPY_OUT = "copy (select * from file_chunks order by file_id, raw_start) to stdout (format binary)"
SECONDS = "select extract(epoch from stored_at - ready_at) from runs where state = 'stored'"


def measure(stage: Stage) -> Iterator[Row]:
    """Storing and reading."""
    size = 128 * 2**20 if stage.short else 2**30
    with stripe(Wanted(days=10, bytes_of={TYPE: size})) as simulator:
        yield from _storing(stage, simulator, size)
    with stripe(Wanted(days=10, bytes_of={TYPE: size})) as simulator, stage.database() as url:
        _store(stage, simulator, url)
        yield from _reading(stage, url, size)


def _storing(stage: Stage, simulator: Stripe, size: int) -> Iterator[Row]:
    peaks: list[float] = []

    def ours() -> tuple[float, ...]:
        with stage.database() as url:
            peaks.append(_store(stage, simulator, url))
            where = one(url, "select file_url from attempts")
            stored = size / MB / float(one(url, SECONDS))
            limits = (bare_files.store(where, KEY, url), _curl(where, KEY), _copy_in(url))
            return stored, *(size / MB / seconds for seconds in limits)

    # Each round, in turn: stores a file, stores the same one bare, fetches it, and copies its chunks.
    given = alternate(1 if stage.short else 3, {"ours": ours})["ours"]
    stored, bare, fetched, copied = (list(rates) for rates in zip(*given, strict=True))
    limits = {
        "a bare pipeline of threads": bare,
        "curl from the same server": fetched,
        "COPY of the same chunks from memory": copied,
    }
    for name, rates in limits.items():
        aim = at_least(0.7) if rates is bare else None
        yield against(f"store a file of {size / 2**30:g} GiB", stored, "MB/s", limit=name, limits=rates, aim=aim)
    yield alone("store a file: most memory of the worker", peaks, "MiB", aim=below(150, "MiB"))


def _store(stage: Stage, simulator: Stripe, url: str) -> float:
    """One run of a worker process; its peak memory, in MiB."""
    with stage.service("worker", url=url, stripe=simulator.base) as process:
        asyncio.run(add_rules(url, rule("big", TYPE, starts_on=first_day(1))))
        until(lambda: bool(one(url, "select count(*) from runs where state = 'stored'")), "the file is stored")
        return process.peak_mib()


def _curl(url: str, token: str, *headers: str) -> float:
    """Seconds that curl takes for it."""
    more = [part for header in (f"Authorization: Bearer {token}", *headers) for part in ("--header", header)]
    command = ["curl", "--silent", "--fail", "--output", "/dev/null", "--write-out", "%{time_total}", *more, url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _copy_in(url: str) -> float:
    """Seconds for the same chunks from memory into a table like theirs, in one COPY."""
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(COPY_OUT) as copy:
            pieces = list(copy)
        connection.execute("create table copied (like file_chunks including all)")
        connection.commit()
        began = time.perf_counter()
        with connection.cursor().copy("copy copied from stdin (format binary)") as copy:
            for piece in pieces:
                copy.write(piece)
        connection.commit()
        return time.perf_counter() - began


def _reading(stage: Stage, url: str, size: int) -> Iterator[Row]:
    run_id = one(url, "select id from runs where state = 'stored'")
    with (
        stage.service("serve", "--no-worker", "--port", "0", url=url) as service,
        bare_files.reading(url, size) as bare,
    ):
        where = f"{service.url}/v1/runs/{run_id}/file"
        contenders: dict[str, Callable[[], float]] = {
            "ours": partial(_curl, where, ADMIN_TOKEN),
            "packed": partial(_curl, where, ADMIN_TOKEN, "Accept-Encoding: zstd"),
            "bare": partial(_curl, bare, ""),
            "copy": partial(_copy_out, url),
        }
        given = alternate(1 if stage.short else 3, contenders)
    rates = {name: [size / MB / seconds for seconds in taken] for name, taken in given.items()}
    what, copy = f"read a file of {size / 2**30:g} GiB back through the API", "COPY out of the same chunks"
    bare_limit = "COPY out, decompress, socket, bare"
    yield against(what, rates["ours"], "MB/s", limit=bare_limit, limits=rates["bare"], aim=at_least(0.5))
    yield against(what, rates["ours"], "MB/s", limit=copy, limits=rates["copy"])
    yield against(f"{what}, as zstd", rates["packed"], "MB/s", limit=copy, limits=rates["copy"])


def _copy_out(url: str) -> float:
    with psycopg.connect(url) as connection:
        began = time.perf_counter()
        with connection.cursor().copy(COPY_OUT) as copy:
            for _ in copy:
                pass
        return time.perf_counter() - began
