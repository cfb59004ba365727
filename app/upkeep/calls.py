"""Single reads at Stripe outside the lanes, within the account's rate limit."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from app.accounts import holds
from app.errors import KeyRefused, NotNow
from app.resources import Resources
from app.vocabulary import CallKind

T = TypeVar("T")

# How long a call waits for the rate limit before the rest is left to the next go.
_LIMIT_TRIES, _LIMIT_PAUSE_SECONDS = 40, 0.25


class _NoPermit(NotNow):
    """None of the account's reads may be made now: they are on hold, or the rate limit is used up."""


class Troubles:
    """The accounts that could not be read in one round: they hold up no other, and are reported together at its end."""

    def __init__(self) -> None:
        self._first: dict[str, NotNow] = {}
        self.without_permit: set[str] = set()  # more calls for them would only wait

    @property
    def accounts(self) -> frozenset[str]:
        """The accounts of which something could not be read."""
        return frozenset(self._first)

    @contextmanager
    def of(self, account: str) -> Iterator[None]:
        """Work for this account: NotNow ends it, and is kept."""
        try:
            yield
        except NotNow as error:
            self._first.setdefault(account, error)
            if isinstance(error, _NoPermit):
                self.without_permit.add(account)

    def raise_any(self) -> None:
        """Raises NotNow if something could not be read."""
        if self._first:
            raise NotNow(str(self))

    def __str__(self) -> str:
        return "; ".join(f"{account}: {error}" for account, error in self._first.items())


async def read_of_reports(res: Resources, account: str, call: Callable[[], Awaitable[T]]) -> T:
    """Make a call that reads reports. Raises NotNow and Refused.

    As in the lanes, a refused key holds the account's reads, and one that is accepted ends the hold.
    """
    permit = await _permit(res, account)
    try:
        answer = await call()
    except KeyRefused as error:
        async with res.sessions.begin() as session:
            await holds.hold(session, account, CallKind.READ, error, probing=permit.probing, backoff=res.backoff)
        raise NotNow(str(error)) from error
    async with res.sessions.begin() as session:
        await holds.accepted(session, account, CallKind.READ)
    return answer


async def read_one(res: Resources, account: str, call: Callable[[], Awaitable[T]]) -> T:
    """Make a call that may be refused to a key that reads reports: about one run, or with a permission of its own.

    Raises NotNow, KeyRefused and Refused; holds nothing.
    """
    await _permit(res, account)
    return await call()


async def _permit(res: Resources, account: str) -> holds.Permit:
    """A permit for one read; waits for the rate limit. Raises NotNow."""
    for _ in range(_LIMIT_TRIES):
        async with res.sessions.begin() as session:
            permit = await holds.permit(session, account, CallKind.READ, 1, res.claim_terms, queue=True)
            if not permit.calls and await holds.is_held(session, account, CallKind.READ):
                raise _NoPermit("the account's read calls are on hold")
        if permit.calls:
            return permit
        await asyncio.sleep(_LIMIT_PAUSE_SECONDS)
    raise _NoPermit("the account's rate limit is used up")
