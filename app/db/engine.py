"""Connections to PostgreSQL: one driver (psycopg 3) for the service, the files' COPY, LISTEN and the migrations."""

import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import make_conninfo
from psycopg.pq import Format
from sqlalchemy import AdaptedConnection, event, make_url
from sqlalchemy.engine import URL, Engine, ExceptionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.db.cutting import watch
from app.db.errors import is_wrong_server

# We must notice that the database is down within the 5 s in which we promise a webhook its 503.
CONNECT_TIMEOUT_SECONDS = 3
POOL_TIMEOUT_SECONDS = 4
# The last five are for the kernel: it notices a peer that is gone in about 10 s.
CONNECTING: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "client_encoding": "utf8",
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# Every transaction of the service is short; one that takes this long has lost its connection to a silent network or
# proxy: its socket is closed, and the transaction is repeated on another connection. The same holds for the queries on
# a new connection before its first transaction.
TRANSACTION_SECONDS = 60.0
# Planning the statements of a run costs PostgreSQL more than executing them; rare statements are not worth
# remembering.
PREPARE_AFTER = 3
# More than there are statements: the driver forgets the least recently used, and counts their uses from zero again.
MOST_PREPARED = 500


# Our statements and the driver rely on these, whatever the role or the database sets. Servers and poolers report their
# values at connect, so that only a different one costs a round trip.
_SESSION = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}


# They replace times outside of Python's range: a day inside, so that any zone can show them.
FIRST_TIME = datetime(1, 1, 2, tzinfo=UTC)
LAST_TIME = datetime(9999, 12, 30, tzinfo=UTC)


def sqlalchemy_url(url: str) -> URL:
    """The URL with the driver named: users write `postgresql://…`, as for every other tool."""
    return make_url(url).set(drivername="postgresql+psycopg")


def libpq_conninfo(url: str) -> str:
    """Parameters for libpq, and so for psycopg; not a URL, because SQLAlchemy reads and writes URLs in its own way."""
    parts = make_url(url)
    query = {name: value if isinstance(value, str) else ",".join(value) for name, value in parts.query.items()}
    return make_conninfo("", **parts.translate_connect_args(username="user", database="dbname"), **query)


def make_engine(
    url: str,
    *,
    pool_size: int,
    transaction_seconds: float = TRANSACTION_SECONDS,
    autocommit: bool = False,
    prepare_after: int = PREPARE_AFTER,
) -> AsyncEngine:
    """An engine whose connections keep no session state, so that a transaction-mode pooler may be in between.

    It sets only what every pooler passes on. Statements are prepared, once they were executed `prepare_after` times,
    only where the connection was found to lead to the server itself: a pooler hands the next transaction to another
    server connection. A connection that died is noticed before it is handed out, or at the latest when a transaction
    on it takes longer than `transaction_seconds`. A server that became read-only is left. With `autocommit` every
    statement is a transaction, in one round trip.
    """
    engine = create_async_engine(
        sqlalchemy_url(url),
        isolation_level="AUTOCOMMIT" if autocommit else "READ COMMITTED",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=False,
        pool_use_lifo=True,  # a few connections that know the statements, not all in turn
        hide_parameters=True,  # they contain what customers and Stripe wrote, and errors would repeat it
        connect_args={
            "prepare_threshold": None,
            **CONNECTING,
            "application_name": "tallyhook",
        },
    )
    prepare_connections(engine.sync_engine)
    event.listen(engine.sync_engine, "connect", partial(_prepare_statements_where_direct, after=prepare_after))
    event.listen(engine.sync_engine, "checkout", _refuse_a_dead_connection)
    _leave_wrong_servers(engine.sync_engine)
    watch(engine, transaction_seconds)
    return engine


class _Times(Loader):
    """Reads any time that the database can hold; `infinity` and years outside Python's range become the nearest one.

    Otherwise one such value would make its row unreadable.
    """

    format = Format.TEXT
    usual = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, Format.TEXT)

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        assert self.usual is not None
        self._usual = self.usual(oid, context)

    def load(self, data: Buffer) -> Any:
        try:
            return self._usual.load(data)
        except psycopg.DataError:
            text = bytes(data)
            return FIRST_TIME if text.startswith(b"-") or text.endswith(b"BC") else LAST_TIME


def prepare_connections(engine: Engine) -> None:
    """Give every connection of the engine the settings that its statements rely on."""

    def prepare(dbapi_connection: Any, _record: Any) -> None:
        raw = getattr(dbapi_connection, "driver_connection", dbapi_connection)
        raw.adapters.register_loader("timestamptz", _Times)
        said = {name: raw.info.parameter_status(name) for name in _SESSION}
        others = {name: _SESSION[name] for name, value in said.items() if value not in (None, _SESSION[name])}
        if others:
            cursor = dbapi_connection.cursor()
            for name, value in others.items():
                cursor.execute("select set_config(%s, %s, false)", (name, value))
            cursor.close()
            dbapi_connection.commit()

    event.listen(engine, "connect", prepare)


def _prepare_statements_where_direct(dbapi_connection: Any, _record: Any, *, after: int) -> None:
    # A server tells its process id at the login. A pooler answers the login itself, with a number of its own.
    cursor = dbapi_connection.cursor()
    cursor.execute("select pg_backend_pid()")
    (pid,) = cursor.fetchone() or (None,)
    cursor.close()
    dbapi_connection.commit()
    raw = dbapi_connection.driver_connection
    if pid == raw.info.backend_pid:
        raw.prepare_threshold, raw.prepared_max = after, MOST_PREPARED


def is_direct(raw: Any) -> bool:
    """Whether this connection (psycopg's) leads straight to the server."""
    return raw.prepare_threshold is not None


# When an engine noticed that its connections are unusable: the server became read-only, for example.
_left_at: WeakKeyDictionary[Engine, float] = WeakKeyDictionary()


def leave_server(engine: Engine) -> None:
    """Never use the current connections again: each is replaced when it is next needed."""
    _left_at[engine] = time.monotonic()


def _leave_wrong_servers(engine: Engine) -> None:
    def made(_dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[_leave_wrong_servers] = time.monotonic()

    def refuse_those_before(_dbapi_connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        if record.info[_leave_wrong_servers] < _left_at.get(engine, 0.0):
            raise DisconnectionError(
                "the server of this connection became read-only, or a migration has outdated its statements"
            )

    def notice(context: ExceptionContext) -> None:
        if is_wrong_server(context.original_exception):
            leave_server(engine)

    event.listen(engine, "connect", made)
    event.listen(engine, "checkout", refuse_those_before)
    event.listen(engine, "handle_error", notice)


def is_dead(raw: Any) -> bool:
    """Whether the server closed this connection, which nobody uses now.

    A closed socket is readable at end of file; asking the socket costs microseconds, whereas a ping before
    each transaction would cost a round trip.
    """
    if raw.closed:
        return True
    # `select.select` refuses descriptors above 1023, which a process with many senders has.
    readable = select.poll()
    readable.register(raw.fileno(), select.POLLIN)
    return bool(readable.poll(0))


def _refuse_a_dead_connection(dbapi_connection: AdaptedConnection, _record: Any, _proxy: Any) -> None:
    if is_dead(dbapi_connection.driver_connection):
        raise DisconnectionError("the server closed this connection")


def make_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions for short transactions: `async with sessions.begin() as session`."""
    return async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def autocommit_session(sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
    """A session for reading only, one round trip a statement: without a transaction's begin and commit."""
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        yield session


@asynccontextmanager
async def raw_connection(connection: AsyncConnection | AsyncSession) -> AsyncIterator[Any]:
    """The underlying psycopg connection, for COPY and binary parameters, inside the same transaction."""
    holder = connection if isinstance(connection, AsyncConnection) else await connection.connection()
    try:
        yield (await holder.get_raw_connection()).driver_connection
    except psycopg.Error as error:
        if is_wrong_server(error):
            leave_server(holder.engine.sync_engine)
        raise
