"""Five failures that the demo causes on purpose, and a second worker that is there to be killed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from app.simulator import Simulator


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failure: the sentence that announces it and its recovery, and the function that causes it."""

    line: str
    make: Callable[[], object]


def troubles(simulator: Simulator, worker: asyncio.subprocess.Process) -> Sequence[Trouble]:
    """One for each half day, starting with the first."""
    return (
        Trouble(
            "PROBLEM: a webhook is lost. Polling finds what it announced.",
            lambda: simulator.inject("event_lost", match={"event": "report_type.updated"}),
        ),
        Trouble(
            "PROBLEM: Stripe fails to make a report. It is requested again.",
            lambda: simulator.inject("run_fails"),
        ),
        Trouble(
            "PROBLEM: a download breaks off. It resumes where it stopped.",
            lambda: simulator.inject("file_cut", bytes=200),
        ),
        Trouble(
            "PROBLEM: a worker is killed (SIGKILL). Another takes over its work.",
            lambda: _kill(worker),
        ),
        Trouble(
            "PROBLEM: a row is missing from a report. Its sums do not agree with the balance.",
            lambda: simulator.inject(
                "report_missing_row", match={"report_type": "balance_change_from_activity.itemized.7"}
            ),
        ),
    )


@asynccontextmanager
async def second_worker(environ: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tallyhook worker` beside the service; it is ended with the demo, however that ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "worker"),
        env={**os.environ, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        _kill(process)
        await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
