"""Cuts connections that take too long: one that a silent network or proxy has swallowed never ends by itself.

A cut wakes the task that waits for an answer. Cancelling the task would not do: the driver then asks the server to
cancel the statement, and waits for its answer for up to 10 s.
"""

import asyncio
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import AdaptedConnection, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

# When the process ends (within 15 s, as promised), transactions under way get this long, which is less than the grace
# of calls in flight;
LAST_SECONDS = 5.0
# what is recorded and released later than that gets this long;
LATER_SECONDS = 2.0
# and from here on each fails at once, so that no number of them can take long together.
NOTHING_AFTER_SECONDS = 9.5


class _Watch:
    """Watches over the connections of one engine that are in use."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timers: dict[Any, asyncio.TimerHandle] = {}
        self._ends_since: float | None = None

    def end_soon(self) -> None:
        """Be brief from now on."""
        now = self._ends_since = asyncio.get_running_loop().time()
        for raw, timer in list(self._timers.items()):
            if timer.when() > now + LAST_SECONDS:
                self._cut_in(LAST_SECONDS, raw)

    def opens(self, _dialect: Any, _record: Any, _positional: Any, options: dict[str, Any]) -> None:
        """Before a connection is opened."""
        left = self._seconds_left()
        if left <= 0:
            raise psycopg.OperationalError("this process ends now")
        if self._ends_since is not None:
            options["connect_timeout"] = math.ceil(min(left, options["connect_timeout"]))

    def begin(self, dbapi_connection: AdaptedConnection, record: ConnectionPoolEntry, _proxy: Any = None) -> None:
        """A connection is opened, or handed out."""
        forget_watch(record.info)
        left = self._seconds_left()
        if left <= 0:
            raise DisconnectionError("this process ends now")
        raw = dbapi_connection.driver_connection
        self._cut_in(left, raw)
        record.info[_Watch] = partial(self._forget, raw)

    def end(self, _dbapi_connection: AdaptedConnection | None, record: ConnectionPoolEntry) -> None:
        """It is returned."""
        forget_watch(record.info)

    def _seconds_left(self) -> float:
        """How long a transaction that begins now may take."""
        if self._ends_since is None:
            return self._seconds
        gone = asyncio.get_running_loop().time() - self._ends_since
        return min(self._seconds, max(LAST_SECONDS - gone, LATER_SECONDS), NOTHING_AFTER_SECONDS - gone)

    def _cut_in(self, seconds: float, raw: Any) -> None:
        self._forget(raw)
        self._timers[raw] = asyncio.get_running_loop().call_later(seconds, self._cut, raw)

    def _cut(self, raw: Any) -> None:
        self._forget(raw)
        cut(raw)

    def _forget(self, raw: Any) -> None:
        if (timer := self._timers.pop(raw, None)) is not None:
            timer.cancel()


_watches: WeakKeyDictionary[Engine, _Watch] = WeakKeyDictionary()


def watch(engine: AsyncEngine, seconds: float) -> None:
    """Cut each connection of this engine that is in use for longer than that."""
    one = _watches[engine.sync_engine] = _Watch(seconds)
    event.listen(engine.sync_engine, "do_connect", one.opens)
    # Before all other listeners: SQLAlchemy and we ask a new connection a few things before it is handed out, and
    # the driver's time limit has ended with the login.
    event.listen(engine.sync_engine, "connect", one.begin, insert=True)
    event.listen(engine.sync_engine, "checkout", one.begin)
    event.listen(engine.sync_engine, "checkin", one.end)


def end_soon(engine: AsyncEngine) -> None:
    """The process ends: a database that does not answer may delay that by `NOTHING_AFTER_SECONDS` at most."""
    _watches[engine.sync_engine].end_soon()


def forget_watch(info: dict[Any, Any]) -> None:
    """No longer cut this connection of the pool for being out for long; `info` is the pool's record of it."""
    if (forget := info.pop(_Watch, None)) is not None:
        forget()


@contextmanager
def cut_after(seconds: float, raw: Any) -> Iterator[None]:
    """Cut this connection (psycopg's) if the block takes longer."""
    timer = asyncio.get_running_loop().call_later(seconds, cut, raw)
    try:
        yield
    finally:
        timer.cancel()


def cut(raw: Any) -> None:
    """Shut down the socket of this connection (psycopg's); from any thread."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(raw.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)
