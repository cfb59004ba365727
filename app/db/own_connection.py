"""A connection that one task keeps to itself, for a statement that is made thousands of times a second.

It is one of its engine's, with the same care: one that died is noticed before it is used, one that takes too long is
cut, after an error there is a new one. It saves going through the pool, which costs more than the statement.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.db.cutting import cut_after, forget_watch
from app.db.engine import is_dead, leave_server
from app.db.errors import is_wrong_server


class OwnConnection:
    """Opened when it is first used; closed at the end of the block."""

    def __init__(self, engine: AsyncEngine, *, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds
        self._holder: AsyncConnection | None = None
        self._raw: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """The connection, for this block, which may take `seconds`."""
        if self._raw is None or is_dead(self._raw):
            await self._close()
            await self._open()
        try:
            with cut_after(self._seconds, self._raw):
                yield self._raw
        except BaseException as error:
            if is_wrong_server(error):
                leave_server(self._engine.sync_engine)
            await self._close()
            raise

    async def _open(self) -> None:
        self._holder = await self._engine.connect()
        pooled = await self._holder.get_raw_connection()
        forget_watch(pooled.info)
        self._raw = pooled.driver_connection

    async def _close(self) -> None:
        holder, self._holder, self._raw = self._holder, None, None
        if holder is not None:
            await holder.invalidate()
            await holder.close()
