"""The simulator in a separate process, set up for benchmarks; a service beside it never waits for its Python."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection

import uvloop

from app.simulator import Simulator, serve
from app.simulator.reports import csv_files
from benchmarks.stage import cpu_seconds

REPORT_TYPES = ("balance_change_from_activity.itemized.7", "balance.summary.1", "payouts.itemized.5")

CONNECTED_TYPE = "connected_account_balance_change_from_activity.itemized.3"
# Of big files, 8 MiB: no chunk and no window of a compressor holds a row twice, as it would in the simulator's own
# files, where 2,000 rows are repeated.
ROWS_BEFORE_REPEATED = 60_000


def midnight() -> datetime:
    """The last midnight in UTC: where the data of all types ends, unless a benchmark says otherwise."""
    return datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)


def first_day(days: int) -> date:
    """The first of the last `days` days."""
    return midnight().date() - timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The simulator that is wanted: data of so many days up to midnight, files of so many bytes if given."""

    days: int
    instant: bool = True
    bytes_of: Mapping[str, int] = field(default_factory=dict)
    connected: int = 0  # accounts that are connected, and have a type of their own (CONNECTED_TYPE)


@dataclass(frozen=True, slots=True)
class Stripe:
    """A simulator that answers at `base`."""

    base: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        return cpu_seconds(self.pid)


@contextmanager
def stripe(wanted: Wanted) -> Iterator[Stripe]:
    """A simulator, up; ended afterwards."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_simulate, args=(theirs, wanted), daemon=True)
    process.start()
    theirs.close()  # so that a simulator that cannot start is noticed
    try:
        base, pid = ours.recv()
        yield Stripe(base, pid)
    finally:
        process.terminate()
        process.join()


def prepare(simulator: Simulator, wanted: Wanted) -> None:
    """Set what is wanted, for a simulator in any process."""
    simulator.configure(instant=wanted.instant)
    for name in (*REPORT_TYPES, *wanted.bytes_of):
        start = midnight() - timedelta(days=wanted.days)
        simulator.add_report_type(name, start=start.timestamp(), end=midnight().timestamp())
    if wanted.connected:
        first = midnight() - timedelta(days=wanted.days)
        simulator.add_report_type(CONNECTED_TYPE, start=first.timestamp(), end=midnight().timestamp(), rows_per_day=5)
        for number in range(wanted.connected):
            simulator.connect_account(f"acct_{number:08}", created=first.timestamp() - number)
    csv_files.BLOCK_ROWS = ROWS_BEFORE_REPEATED if wanted.bytes_of else csv_files.BLOCK_ROWS
    for name, size in wanted.bytes_of.items():
        simulator.add_report_type(name, bytes=size, rows_per_day=ROWS_BEFORE_REPEATED)


def _simulate(pipe: Connection, wanted: Wanted) -> None:
    async def simulate() -> None:
        simulator = Simulator()
        prepare(simulator, wanted)
        async with serve(simulator) as base:
            pipe.send((base, os.getpid()))
            await asyncio.Event().wait()

    uvloop.run(simulate())
