"""The one way to wait in tests: for something that has to become true, however busy the machine is."""

import asyncio
from collections.abc import Awaitable, Callable

# Nothing is measured: this only ends a test that would hang.
PATIENCE_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 0.05


async def until(
    is_so: Callable[[], Awaitable[object]] | Callable[[], object], what: str = "", *, seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until `is_so()` answers true; `what` names it when it never does, and the test fails."""
    pause = 0.001
    try:
        async with asyncio.timeout(seconds):
            while not await _answer(is_so):
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    except TimeoutError as error:
        raise AssertionError(f"this never became true: {what or getattr(is_so, '__qualname__', is_so)}") from error


async def _answer(is_so: Callable[[], object]) -> object:
    answer = is_so()
    return await answer if isinstance(answer, Awaitable) else answer
