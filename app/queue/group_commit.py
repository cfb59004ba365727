"""Record together, in one transaction, what many calls came to while the last transaction was committing.

Under load this saves most statements and commits of a run; a lone outcome is recorded at once. The first caller to
come records for all who wait, and nobody goes on before the commit that holds his own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.db.engine import is_transient

T = TypeVar("T")
# `write(session, items)`: idempotent, because what was rolled back is written again.
Write = Callable[[AsyncSession, list[T]], Awaitable[None]]

GROUP_LIMIT = 50


class GroupCommit:
    """What waits in this process to be recorded, by what is recorded together."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._groups: dict[Hashable, _Group] = {}

    async def record(self, key: Hashable, write: Write[T], item: T) -> None:
        """Have `write(session, items)` done for this item and for others of the same `key`; returns after the commit.

        Raises what went wrong with this item; the database's trouble is everybody's.
        """
        group = self._groups.setdefault(key, _Group(self._sessions))
        await group.add(write, item)


class _Group:
    """The items that wait for the next transaction. There is no task of its own: one of the callers writes."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._waiting: list[tuple[Any, asyncio.Future[None]]] = []
        self._writing = asyncio.Lock()

    async def add(self, write: Write[T], item: T) -> None:
        """Hand the item in, and wait until it is committed."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        try:
            async with self._writing:
                while not done.done():
                    await self._write_next(write)
        finally:
            # A caller that is cancelled takes his item with him, if nobody has taken it up.
            self._waiting = [entry for entry in self._waiting if entry[1] is not done]
            done.cancel()
        done.result()

    async def _write_next(self, write: Write[T]) -> None:
        group, self._waiting = self._waiting[:GROUP_LIMIT], self._waiting[GROUP_LIMIT:]
        try:
            outcomes = await self._outcomes(write, [item for item, _ in group])
        except BaseException:
            # The one who wrote was cancelled: the next in line writes.
            self._waiting = [entry for entry in group if not entry[1].done()] + self._waiting
            raise
        for (_, done), error in zip(group, outcomes, strict=True):
            if not done.done():
                done.set_exception(error) if error is not None else done.set_result(None)

    async def _outcomes(self, write: Write[T], items: list[T]) -> list[Exception | None]:
        try:
            async with self._sessions.begin() as session:
                await write(session, items)
        except Exception as error:
            if len(items) == 1 or is_transient(error):
                return [error] * len(items)
            # Of many, only the one that is at fault may suffer.
            return [outcome for item in items for outcome in await self._outcomes(write, [item])]
        return [None] * len(items)
