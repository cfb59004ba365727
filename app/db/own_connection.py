"""A connection that one task keeps to itself, for a few statements that run thousands of times a second.

It is one of its engine's, with the same care: if it died, that is noticed before it is used; if it takes too long, it
is cut; after an error it is replaced. The pool, the session and the driver's cursor would cost more than the
statements, which go straight to libpq (docs/decisions/0024).
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.db.cutting import forget_watch
from app.db.engine import is_dead, is_direct, leave_server
from app.db.errors import is_wrong_server

_DONE = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})


class OwnConnection:
    """Opened when it is first used; closed at the end of the block."""

    def __init__(self, engine: AsyncEngine, *, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds
        self._holder: AsyncConnection | None = None
        self._wire: _Wire | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def execute(self, statement: str, parameters: Sequence[bytes] = ()) -> PGresult:
        """The result of a statement, which is a transaction and may take `seconds`.

        Its parameters are called $1, $2, …; they and the result are in PostgreSQL's binary format. It is prepared if
        the connection leads to the server itself. Raises psycopg.Error, and SQLAlchemy's errors of a connection that
        cannot be opened.
        """
        if self._wire is None or self._wire.has_ended or is_dead(self._wire.raw):
            await self._close()
            self._wire = await self._open()
        timer = asyncio.get_running_loop().call_later(self._seconds, self._wire.give_up)
        try:
            return await self._wire.execute(statement, parameters)
        except BaseException as error:
            if is_wrong_server(error):
                leave_server(self._engine.sync_engine)
            await self._close()
            raise
        finally:
            timer.cancel()

    async def _open(self) -> "_Wire":
        self._holder = await self._engine.connect()
        pooled = await self._holder.get_raw_connection()
        forget_watch(pooled.info)
        return _Wire(pooled.driver_connection)

    async def _close(self) -> None:
        holder, self._holder, wire, self._wire = self._holder, None, self._wire, None
        if wire is not None:
            wire.end()
        if holder is not None:
            await holder.invalidate()
            await holder.close()


class _Wire:
    """Sends one statement after the other, and reads answers as they arrive.

    Once it has ended, its descriptor may belong to another socket: libpq closes the socket as soon as it reads its end.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.has_ended = False
        self._pgconn, self._socket = raw.pgconn, raw.fileno()
        self._loop = asyncio.get_running_loop()
        self._names: dict[str, bytes] | None = {} if is_direct(raw) else None  # of prepared statements
        self._result: PGresult | None = None
        self._waiting: asyncio.Future[PGresult] | None = None
        self._loop.add_reader(self._socket, self._read)

    async def execute(self, statement: str, parameters: Sequence[bytes]) -> PGresult:
        """See `OwnConnection`; after an error nothing else can be executed."""
        text, formats = statement.encode(), [Format.BINARY] * len(parameters)
        if self._names is None:
            sent = partial(self._pgconn.send_query_params, text, parameters, None, formats, Format.BINARY)
            return await self._result_of(sent)
        name = self._names.get(statement)
        if name is None:
            name = b"own_%d" % len(self._names)
            await self._result_of(partial(self._pgconn.send_prepare, name, text))
            self._names[statement] = name
        return await self._result_of(
            partial(self._pgconn.send_query_prepared, name, parameters, formats, Format.BINARY)
        )

    def end(self) -> None:
        """Stop reading: the connection is about to be closed."""
        if not self.has_ended:
            self.has_ended = True
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)

    def give_up(self) -> None:
        """The statement under way takes too long."""
        self._fail(psycopg.OperationalError("the statement took too long"))

    async def _result_of(self, send: Callable[[], None]) -> PGresult:
        if self.has_ended:  # just after the statement was prepared
            raise psycopg.OperationalError("the connection has ended")
        self._waiting = self._loop.create_future()
        send()
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._write)
        result = await self._waiting
        if result.status not in _DONE:
            raise error_from_result(result)
        return result

    def _write(self) -> None:
        try:
            if not self._pgconn.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._fail(error)

    def _read(self) -> None:
        if self._waiting is None:
            # The server's goodbye stays unread, so that `is_dead` finds it, and the socket stays ours until then.
            self.end()
            return
        try:
            self._pgconn.consume_input()
            while self._waiting is not None and not self._pgconn.is_busy():
                # After the last result comes None; only then is the connection ready for the next statement.
                result = self._pgconn.get_result()
                if result is None:
                    self._tell()
                else:
                    self._result = result
        except psycopg.Error as error:
            self._fail(error)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            assert self._result is not None
            waiting.set_result(self._result)

    def _fail(self, error: psycopg.Error) -> None:
        self.end()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
