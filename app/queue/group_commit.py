"""Group commit: outcomes that arrive while a transaction is committing are recorded together in the next one.

Under load this saves most statements and commits of a run; a single outcome is recorded at once. The first caller
writes for all that wait, and each returns only after the commit that contains its own outcome.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.background import cancellation_first
from app.db.errors import is_transient

T = TypeVar("T")
# `write(session, items)` must be idempotent: after a rollback it is called again.
Write = Callable[[AsyncSession, list[T]], Awaitable[None]]

GROUP_LIMIT = 50


class GroupCommit:
    """The outcomes of this process that wait to be recorded, grouped by key."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._groups: dict[Hashable, _Group] = {}

    async def record(self, key: Hashable, write: Write[T], item: T) -> None:
        """Call `write(session, items)` for this item and others with the same `key`; returns after the commit.

        Raises what went wrong with this item; a database error is raised to all callers.
        """
        group = self._groups.setdefault(key, _Group(self._sessions))
        await group.add(write, item)


class _Group:
    """The items that wait for the next transaction. It needs no task of its own: one of the callers writes."""

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
            # A cancelled caller withdraws its item, unless it is being written already.
            self._waiting = [entry for entry in self._waiting if entry[1] is not done]
            done.cancel()
        done.result()

    async def _write_next(self, write: Write[T]) -> None:
        group, self._waiting = self._waiting[:GROUP_LIMIT], self._waiting[GROUP_LIMIT:]
        try:
            outcomes = await self._outcomes(write, [item for item, _ in group])
        except BaseException:
            # The writing caller was cancelled: the next in line writes.
            self._waiting = [entry for entry in group if not entry[1].done()] + self._waiting
            raise
        for (_, done), error in zip(group, outcomes, strict=True):
            if not done.done():
                done.set_exception(error) if error is not None else done.set_result(None)

    async def _outcomes(self, write: Write[T], items: list[T]) -> list[Exception | None]:
        try:
            with cancellation_first():
                async with self._sessions.begin() as session:
                    await write(session, items)
        except Exception as error:
            if len(items) == 1 or is_transient(error):
                return [error] * len(items)
            # One at a time, so that only the faulty item fails.
            return [outcome for item in items for outcome in await self._outcomes(write, [item])]
        return [None] * len(items)
