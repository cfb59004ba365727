"""Single reads at Stripe outside the lanes, within the account's rate limit."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.accounts import holds
from app.errors import NotNow
from app.resources import Resources
from app.vocabulary import CallKind

T = TypeVar("T")

# How long a call waits for the rate limit before the rest is left to the next round.
_LIMIT_TRIES, _LIMIT_PAUSE_SECONDS = 40, 0.25


async def read_call(res: Resources, account: str, call: Callable[[], Awaitable[T]]) -> T:
    """Make a call within the account's rate limit. Raises NotNow, KeyRefused and Refused."""
    for _ in range(_LIMIT_TRIES):
        async with res.sessions.begin() as session:
            permit = await holds.permit(
                session, account, CallKind.READ, 1, limiter=res.limiter, probe_seconds=res.settings.retry_max_seconds
            )
            if not permit.calls and await holds.is_held(session, account, CallKind.READ):
                raise NotNow("the account's read calls are on hold")
        if permit.calls:
            return await call()
        await asyncio.sleep(_LIMIT_PAUSE_SECONDS)
    raise NotNow("the account's rate limit is used up")
