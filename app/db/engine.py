"""Connections to PostgreSQL: one driver (psycopg 3) for the service, the files' COPY, LISTEN and the migrations."""

import select
from typing import Any

import psycopg
from sqlalchemy import AdaptedConnection, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

# The database's own trouble, never an event's or a run's: it is away, restarting, or broke off a circle of locks.
DATABASE_TROUBLE = (
    OperationalError,
    InterfaceError,
    DisconnectionError,
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    OSError,
)

# A database that is away must show within the 5 s in which a webhook gets its 503 (contract §4).
CONNECT_TIMEOUT_SECONDS = 3
POOL_TIMEOUT_SECONDS = 4


def sqlalchemy_url(url: str) -> URL:
    """The URL with the driver named: users write `postgresql://…`, as every other tool takes it."""
    return make_url(url).set(drivername="postgresql+psycopg")


def libpq_url(url: str) -> str:
    """The URL as libpq, and so psycopg itself, takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def make_engine(url: str, *, pool_size: int) -> AsyncEngine:
    """An engine whose connections keep no session state, so that a transaction-mode pooler may stand between.

    No prepared statements (a pooler hands the next transaction to another server connection), no session
    settings, and a connection that died is noticed before it is handed out.
    """
    engine = create_async_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=False,
        connect_args={
            "prepare_threshold": None,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "tallyhook",
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_a_dead_connection)
    return engine


def _refuse_a_dead_connection(dbapi_connection: AdaptedConnection, _record: Any, _proxy: Any) -> None:
    # libpq knows a connection that the server closed once its socket is readable at end of file; asking the
    # socket costs microseconds, where a ping before each transaction would cost a round trip.
    raw = dbapi_connection.driver_connection
    if raw.closed or select.select([raw.fileno()], [], [], 0)[0]:
        raise DisconnectionError("the server closed this connection")


def make_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions for short transactions: `async with sessions.begin() as session`."""
    return async_sessionmaker(engine, expire_on_commit=False)


async def raw_connection(connection: AsyncConnection | AsyncSession) -> Any:
    """The psycopg connection below, for COPY and binary parameters, inside the same transaction."""
    holder = connection if isinstance(connection, AsyncConnection) else await connection.connection()
    return (await holder.get_raw_connection()).driver_connection
