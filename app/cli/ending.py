"""Runs commands on an event loop until they end: by themselves, or cleanly by a signal."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from app.errors import TallyhookError

# From a supervisor, Ctrl-C, and a closed terminal.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Of host names.
LOOKUPS_AT_ONCE = 32

T = TypeVar("T")


def run(command: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a command on an event loop; a signal that ends the process (ENDING_SIGNALS) sets the command's stop event."""
    # Host names are looked up in threads, by default in two at a time: two dead name servers would stop all lookups.
    os.environ.setdefault("UV_THREADPOOL_SIZE", str(2 * LOOKUPS_AT_ONCE))
    import uvloop

    async def with_signals() -> None:
        stop = asyncio.Event()
        for number in ENDING_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores SIGHUP on purpose
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await command(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(with_signals())


def run_once(command: Callable[[], Awaitable[T]]) -> T:
    """Run the command; SIGTERM and SIGINT cancel it, and everything it has open is closed."""
    results: list[T] = []

    async def until_stopped(stop: asyncio.Event) -> None:
        work, stopper = asyncio.ensure_future(command()), asyncio.create_task(stop.wait())
        await asyncio.wait([work, stopper], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
        stopper.cancel()
        with suppress(asyncio.CancelledError):
            results.append(await work)

    run(until_stopped)
    if not results:
        raise TallyhookError("stopped before the end")
    return results[0]
