"""Record together, in one transaction, what many calls came to while the last transaction was committing.

Under load this saves most statements and commits of a run; a lone outcome is recorded at once. Whoever comes first
records for all who wait, and nobody goes on before the commit that holds his own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import is_transient
from app.resources import Resources

T = TypeVar("T")
# `write(res, session, items)`: idempotent, because what was rolled back is written again.
Write = Callable[[Resources, AsyncSession, list[T]], Awaitable[None]]

GROUP_LIMIT = 50


async def together(res: Resources, account: str, write: Write[T], item: T) -> None:
    """Have `write(res, session, items)` done for this item and for others of the account; returns after the commit.

    Raises what went wrong with this item; the database's trouble is everybody's.
    """
    group = res.groups.setdefault((write, account), Group())
    await group.add(res, write, item)


class Group:
    """The items that wait for the next transaction. There is no task of its own: one of the callers writes."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, asyncio.Future[None]]] = []
        self._writing = asyncio.Lock()

    async def add(self, res: Resources, write: Write[T], item: T) -> None:
        """Hand the item in, and wait until it is committed."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        try:
            async with self._writing:
                while not done.done():
                    await self._write_next(res, write)
        finally:
            # A caller that is cancelled takes his item with him, if nobody has taken it up.
            self._waiting = [entry for entry in self._waiting if entry[1] is not done]
            done.cancel()
        done.result()

    async def _write_next(self, res: Resources, write: Write[T]) -> None:
        group, self._waiting = self._waiting[:GROUP_LIMIT], self._waiting[GROUP_LIMIT:]
        try:
            outcomes = await _outcomes(res, write, [item for item, _ in group])
        except BaseException:
            # The one who wrote was cancelled: the next in line writes.
            self._waiting = [entry for entry in group if not entry[1].done()] + self._waiting
            raise
        for (_, done), error in zip(group, outcomes, strict=True):
            if not done.done():
                done.set_exception(error) if error is not None else done.set_result(None)


async def _outcomes(res: Resources, write: Write[T], items: list[T]) -> list[Exception | None]:
    try:
        async with res.sessions.begin() as session:
            await write(res, session, items)
    except Exception as error:
        if len(items) == 1 or is_transient(error):
            return [error] * len(items)
        # Of many, only the one that is at fault may suffer.
        return [outcome for item in items for outcome in await _outcomes(res, write, [item])]
    return [None] * len(items)
