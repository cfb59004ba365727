"""Workers in this process and in others, and what to wait for."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from app.resources import Resources
from app.simulator import Simulator
from tests.runs.stories import (
    database_of,
    states,
)
from tests.service import (
    ADMIN_TOKEN,
    WEBHOOK_SECRET,
)
from tests.until import until

QUICK = {"TALLYHOOK_STALLED_AFTER_SECONDS": 1}


async def until_stored(res: Resources, runs: int) -> None:
    """Wait until this many runs are stored."""

    async def stored() -> bool:
        try:
            return (await states(res))["stored"] == runs
        except Exception:
            return False  # the database is away

    await until(stored, f"{runs} runs are stored")


@asynccontextmanager
async def worker_process(
    res: Resources, simulator: Simulator, *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tallyhook worker` as a process of its own; killed in the end, if it is still there."""
    settings = {
        "DATABASE_URL": database_of(res),
        "STRIPE_API_KEY": next(iter(simulator.world.keys)),
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "STRIPE_API_BASE": simulator.base_url,
        "STRIPE_FILES_BASE": simulator.base_url,
        "TALLYHOOK_ADMIN_TOKEN": ADMIN_TOKEN,
        "TALLYHOOK_REQUESTS_PER_SECOND": "0",
        "TALLYHOOK_STALLED_AFTER_SECONDS": "1",
        "TALLYHOOK_PENDING_POLL_SECONDS": "0.1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "worker", *arguments, env={**os.environ, **settings},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def called(simulator: Simulator, route: str, times: int = 1) -> Callable[[], Awaitable[bool]]:
    """Whether a fault has struck a call of that route so often: then the call is under way."""

    async def met() -> bool:
        return sum(fault.struck for fault in simulator.faults) >= times

    return met
