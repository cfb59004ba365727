"""A connection that one task keeps is not cut for having been out of the pool for long, but for a statement that is."""

import asyncio

import psycopg
import pytest

from app.db.engine import make_engine
from app.db.own_connection import OwnConnection


async def test_a_connection_that_is_kept_outlives_the_time_that_a_transaction_may_take(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1, transaction_seconds=0.1, autocommit=True)
    async with OwnConnection(engine, seconds=5) as own:
        async with own.use() as raw:
            first = raw.info.backend_pid
            # The pool's own watch would end both the statement and the connection after a tenth of a second.
            await raw.execute("select pg_sleep(0.5)")
        async with own.use() as raw:
            assert raw.info.backend_pid == first
    await engine.dispose()


async def test_a_statement_that_takes_too_long_is_cut_and_the_next_one_has_a_new_connection(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1, autocommit=True)
    async with OwnConnection(engine, seconds=0.2) as own:
        with pytest.raises(psycopg.OperationalError):
            async with asyncio.timeout(30), own.use() as raw:
                await raw.execute("select pg_sleep(60)")
        own._seconds = 30.0
        async with own.use() as raw:
            assert await (await raw.execute("select 1")).fetchone() == (1,)
    await engine.dispose()
