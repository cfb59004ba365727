"""Connections to PostgreSQL: one driver (psycopg 3) for the service, the files' COPY, LISTEN and the migrations."""

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import AdaptedConnection, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

# What a database in trouble raises; `is_transient` says whether it will pass, or whether the row at hand is to blame.
DATABASE_ERRORS = (
    OperationalError,
    InterfaceError,
    DisconnectionError,
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ConnectionError,
)
# By class of SQLSTATE: connections, who may log in, which databases there are, circles of locks, no room, locked,
# shutting down or starting, trouble with the disk. And two by name: a server that became a standby refuses writes,
# and it ends transactions that do nothing for long.
_PASSING_CLASSES = frozenset({"08", "28", "3D", "40", "53", "55", "57", "58"})
_PASSING = frozenset({"25006", "25P03"})
# A statement that takes longer than the database allows will do so again.
_QUERY_CANCELED = "57014"

# A database that is away must show within the 5 s in which a webhook gets its 503 (contract §4).
CONNECT_TIMEOUT_SECONDS = 3
POOL_TIMEOUT_SECONDS = 4
# Every transaction of the service is short; one that takes this long has lost its connection to a network, or to a
# proxy, that says nothing: the socket is closed under it, and it is made again on another one.
TRANSACTION_SECONDS = 60.0
# What the kernel notices itself: a peer that is gone, in about 10 s.
TCP: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def is_transient(error: BaseException) -> bool:
    """Whether the database itself is in trouble, and will recover: no event or run is to blame, and nothing is counted.

    False for what it will say again to the same row (a limit of its own, a statement too slow), and for our errors.
    """
    if isinstance(error, DisconnectionError | PoolTimeout | ConnectionError):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is None:  # the driver's own word: the connection is gone
        return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return cause.sqlstate in _PASSING or (cause.sqlstate[:2] in _PASSING_CLASSES and cause.sqlstate != _QUERY_CANCELED)


def sqlalchemy_url(url: str) -> URL:
    """The URL with the driver named: users write `postgresql://…`, as every other tool takes it."""
    return make_url(url).set(drivername="postgresql+psycopg")


def libpq_conninfo(url: str) -> str:
    """What libpq, and so psycopg itself, takes: no URL, because SQLAlchemy reads and writes those in its own way."""
    parts = make_url(url)
    query = {name: value if isinstance(value, str) else ",".join(value) for name, value in parts.query.items()}
    return make_conninfo("", **parts.translate_connect_args(username="user", database="dbname"), **query)


def make_engine(
    url: str, *, pool_size: int, transaction_seconds: float = TRANSACTION_SECONDS, autocommit: bool = False
) -> AsyncEngine:
    """An engine whose connections keep no session state, so that a transaction-mode pooler may stand between.

    No prepared statements (a pooler hands the next transaction to another server connection), no session
    settings, and a connection that died is noticed before it is handed out, or at last when a transaction on it
    takes longer than `transaction_seconds`. With `autocommit` every statement is a transaction, in one round trip.
    """
    engine = create_async_engine(
        sqlalchemy_url(url),
        isolation_level="AUTOCOMMIT" if autocommit else None,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=False,
        hide_parameters=True,  # they hold what customers and Stripe wrote, and errors would repeat it
        connect_args={
            "prepare_threshold": None,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "tallyhook",
            **TCP,
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_a_dead_connection)
    _watch(engine, transaction_seconds)
    return engine


def _refuse_a_dead_connection(dbapi_connection: AdaptedConnection, _record: Any, _proxy: Any) -> None:
    # libpq knows a connection that the server closed once its socket is readable at end of file; asking the
    # socket costs microseconds, where a ping before each transaction would cost a round trip.
    raw = dbapi_connection.driver_connection
    if raw.closed or select.select([raw.fileno()], [], [], 0)[0]:
        raise DisconnectionError("the server closed this connection")


def _watch(engine: AsyncEngine, seconds: float) -> None:
    def begin(dbapi_connection: AdaptedConnection, record: ConnectionPoolEntry, _proxy: Any) -> None:
        raw = dbapi_connection.driver_connection
        record.info[_watch] = asyncio.get_running_loop().call_later(seconds, _cut, raw)

    def end(_dbapi_connection: AdaptedConnection | None, record: ConnectionPoolEntry) -> None:
        if (timer := record.info.pop(_watch, None)) is not None:
            timer.cancel()

    event.listen(engine.sync_engine, "checkout", begin)
    event.listen(engine.sync_engine, "checkin", end)


def _cut(raw: Any) -> None:
    # Whoever waits for an answer wakes up with the connection's end; to cancel the task would wait for the server.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(raw.fileno())) as shared:
        shared.shutdown(socket.SHUT_RDWR)


def make_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions for short transactions: `async with sessions.begin() as session`."""
    return async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def autocommit_session(sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
    """A session for reading only, one round trip a statement: without a transaction's begin and commit."""
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        yield session


async def raw_connection(connection: AsyncConnection | AsyncSession) -> Any:
    """The psycopg connection below, for COPY and binary parameters, inside the same transaction."""
    holder = connection if isinstance(connection, AsyncConnection) else await connection.connection()
    return (await holder.get_raw_connection()).driver_connection
