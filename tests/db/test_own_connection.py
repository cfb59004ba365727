"""A connection that one task keeps: it lives while it is healthy, and whatever happens to it, the next one works."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import psycopg
import pytest

from app.db.engine import make_engine
from app.db.errors import is_transient
from app.db.own_connection import OwnConnection


@pytest.fixture
async def own(database_url: str) -> AsyncIterator[OwnConnection]:
    """One on an engine of its own, with time enough."""
    engine = make_engine(database_url, pool_size=1, autocommit=True)
    async with OwnConnection(engine, seconds=60) as one:
        yield one
    await engine.dispose()


async def _hang_up(_reader: asyncio.StreamReader | None, writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def _backend_of(own: OwnConnection) -> bytes | None:
    return (await own.execute("select pg_backend_pid()::text")).get_value(0, 0)


async def test_a_connection_that_is_kept_outlives_the_time_that_a_transaction_may_take(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1, transaction_seconds=0.1, autocommit=True)
    async with OwnConnection(engine, seconds=5) as own:
        first = await _backend_of(own)
        # The pool's own watch would end both the statement and the connection after a tenth of a second.
        await own.execute("select pg_sleep(0.5)")
        assert await _backend_of(own) == first
    await engine.dispose()


async def test_a_statement_that_takes_too_long_is_cut_and_the_next_one_has_a_new_connection(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1, autocommit=True)
    async with OwnConnection(engine, seconds=0.2) as own:
        with pytest.raises(psycopg.OperationalError):
            async with asyncio.timeout(30):
                await own.execute("select pg_sleep(60)")
        own._seconds = 30.0
        assert (await own.execute("select 'well'")).get_value(0, 0) == b"well"
    await engine.dispose()


async def test_a_statement_larger_than_any_buffer_arrives_whole_and_so_does_its_answer(own: OwnConnection) -> None:
    sent = b"x" * 50_000_000

    assert (await own.execute("select $1::text", [sent])).get_value(0, 0) == sent


async def test_each_statement_is_a_transaction_and_is_prepared_once(own: OwnConnection) -> None:
    await own.execute("create temporary table seen (number text)")
    for number in (b"1", b"2", b"3"):
        await own.execute("insert into seen values ($1)", [number])

    found = await own.execute("select count(distinct xmin::text)::text from seen")
    assert found.get_value(0, 0) == b"3"
    found = await own.execute("select count(*)::text from pg_prepared_statements where statement like 'insert%'")
    assert found.get_value(0, 0) == b"1"


@pytest.mark.parametrize("statement", ["select 1/0", "no sql"])
async def test_an_error_of_the_server_comes_as_the_drivers_and_the_next_statement_has_a_new_connection(
    own: OwnConnection, statement: str
) -> None:
    first = await _backend_of(own)

    with pytest.raises((psycopg.errors.DivisionByZero, psycopg.errors.SyntaxError)):
        await own.execute(statement)

    assert await _backend_of(own) not in (None, first)


async def test_a_backend_that_is_ended_in_the_middle_of_a_statement_is_an_error_that_passes(own: OwnConnection) -> None:
    first = await _backend_of(own)

    with pytest.raises(psycopg.OperationalError) as ended:
        await own.execute("select pg_terminate_backend(pg_backend_pid())")

    assert is_transient(ended.value)
    assert await _backend_of(own) not in (None, first)


async def test_a_backend_that_was_ended_meanwhile_is_noticed_before_the_next_statement(
    own: OwnConnection, database_url: str
) -> None:
    first = await _backend_of(own)
    assert first is not None
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await other.execute("select pg_terminate_backend(%s, 60000)", [int(first)])

    assert await _backend_of(own) not in (None, first)


async def test_a_statement_that_is_given_up_takes_its_connection_with_it(own: OwnConnection) -> None:
    first = await _backend_of(own)
    given_up = asyncio.create_task(own.execute("select pg_sleep(60)"))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)

    assert await _backend_of(own) not in (None, first)


@pytest.mark.parametrize("accepts", [False, True], ids=["alone", "beside new connections of others"])
async def test_connections_that_all_died_come_back_whatever_number_their_sockets_get(
    database_url: str, accepts: bool
) -> None:
    # libpq closes a dead socket by itself, and the next one that anybody opens gets its number.
    engine = make_engine(database_url, pool_size=3, autocommit=True)
    async with AsyncExitStack() as stack:
        one, two, three = [await stack.enter_async_context(OwnConnection(engine, seconds=60)) for _ in range(3)]
        pids = [int(await _backend_of(own) or 0) for own in (one, two, three)]
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            await other.execute("select pg_terminate_backend(pid, 60000) from unnest(%s::int[]) as pid", [pids])
        for _ in range(5):
            await asyncio.sleep(0.01)  # the loop has seen the end of each
        if accepts:
            server = await stack.enter_async_context(await asyncio.start_server(_hang_up, "127.0.0.1", 0))
            for _ in range(8):
                _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                stack.push_async_callback(_hang_up, None, writer)

        async with asyncio.timeout(30):
            back = [int(await _backend_of(own) or 0) for own in (three, two, one, three)]

    assert back[0] == back[3]
    assert not set(back) & {0, *pids}
    await engine.dispose()


async def test_a_statement_that_takes_too_long_ends_although_nobody_reads_its_connection(
    own: OwnConnection,
) -> None:
    await own.execute("select 1")
    assert own._wire is not None
    asyncio.get_running_loop().remove_reader(own._wire.raw.fileno())
    own._seconds = 0.1

    with pytest.raises(psycopg.OperationalError):
        async with asyncio.timeout(30):
            await own.execute("select 1")


async def test_a_connection_that_ends_between_preparing_and_executing_is_an_error_that_passes(
    own: OwnConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await own.execute("select 1")
    assert own._wire is not None
    told = own._wire._tell

    def tell_and_end() -> None:
        told()
        assert own._wire is not None
        own._wire.end()

    monkeypatch.setattr(own._wire, "_tell", tell_and_end)
    with pytest.raises(psycopg.OperationalError) as ended:
        async with asyncio.timeout(30):
            await own.execute("select 2")

    assert is_transient(ended.value)
    assert await _backend_of(own) is not None
