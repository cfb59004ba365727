"""Background loops of a process: each survives and logs every error, so that none dies silently."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Never, TypeVar

import structlog

from app.db.errors import is_transient

log = structlog.get_logger()
T = TypeVar("T")


@contextmanager
def cancellation_first() -> Iterator[None]:
    """If the task is cancelled in the block, that is its end, even if the block turned it into an error.

    The driver does so in the middle of a pipeline.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    try:
        yield
    except Exception as error:
        if task.cancelling() > cancelled_before:
            raise asyncio.CancelledError from error
        raise


async def outlive(who: str, work: Awaitable[T], **ids: object) -> T | None:
    """The result of the work; None after an error, which is logged: briefly if it is a database error.

    The lines are called `<who>.database_trouble` and `<who>.crashed`. A cancellation is never outlived.
    """
    try:
        with cancellation_first():
            return await work
    except Exception as error:
        trouble, crash = f"{who}.database_trouble", f"{who}.crashed"
        if is_transient(error):
            log.warning(trouble, error=type(error).__name__, **ids)
        else:
            log.exception(crash, **ids)
    return None


async def repeat(who: str, work: Callable[[], Awaitable[object]], *, every: float) -> Never:
    """Repeat the work every `every` seconds, whatever its result."""
    while True:
        await asyncio.sleep(every)
        await outlive(who, work())


@asynccontextmanager
async def beside(**loops: Coroutine[Any, Any, Never]) -> AsyncIterator[None]:
    """Run these loops beside the block, until it ends. A loop that ends first ends the block, with its error."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_never_to_end(name, loop), name=name) for name, loop in loops.items()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _never_to_end(name: str, loop: Coroutine[Any, Any, Never]) -> None:
    try:
        await loop
    except Exception:
        log.exception("background.ended", loop=name)
        raise
    raise RuntimeError(f"the background loop `{name}` ended by itself")
