"""Connections behave the same whatever the server, the database or the role sets, and leave a wrong server."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.cutting import end_soon
from app.db.engine import (
    CONNECT_TIMEOUT_SECONDS,
    FIRST_TIME,
    LAST_TIME,
    PREPARE_AFTER,
    make_engine,
    make_sessions,
    raw_connection,
)
from app.db.errors import is_slow, is_transient, is_wrong_server
from app.db.migrate import migrate
from app.errors import SchemaError, Unavailable
from app.resources import open_resources
from app.simulator import Simulator
from tests.database import PostgresServer
from tests.detour import detour
from tests.runs.stories import deliver_value
from tests.service import fetch, make_settings, work_off
from tests.until import PATIENCE_SECONDS, until

OTHER_WAYS = {
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'iso_8601'",
    "timezone": "'Asia/Kathmandu'",
    "client_encoding": "'LATIN1'",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "'serializable'",
}
READ_ONLY = "alter database {} set default_transaction_read_only = {}"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with two connections."""
    engine = make_engine(database_url, pool_size=2)
    yield engine
    await engine.dispose()


async def run_as_admin(database_url: str, statement: str) -> None:
    """Run a statement that names the database as `{}`."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("set default_transaction_read_only = off")
        await connection.execute(statement.format(connection.info.dbname).encode())


async def test_a_database_that_writes_dates_and_text_differently_is_read_alike(
    database_url: str, simulator: Simulator
) -> None:
    for name, value in OTHER_WAYS.items():
        await run_as_admin(database_url, f"alter database {{}} set {name} = {value}")

    async with open_resources(make_settings(database_url, simulator)) as res:
        await work_off(res)
        (found,) = await fetch(
            res, "select cast('2026-03-01T00:00:00Z' as timestamptz) as at, 'ä\\' as said,"
            " to_jsonb(cast('2026-03-01T00:00:00Z' as timestamptz)) as json,"
            " current_setting('transaction_isolation') as isolation",
        )  # fmt: skip

    assert found["at"] == datetime(2026, 3, 1, tzinfo=UTC)
    assert (found["said"], found["isolation"]) == ("ä\\", "read committed")
    assert found["json"] == "2026-03-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("held", "read"),
    [("infinity", LAST_TIME), ("10000-01-01T00:00Z", LAST_TIME), ("294276-12-31T00:00Z", LAST_TIME),
     ("-infinity", FIRST_TIME), ("4713-01-01T00:00Z BC", FIRST_TIME),
     ("2026-03-01T00:00Z", datetime(2026, 3, 1, tzinfo=UTC))],
)  # fmt: skip
async def test_every_time_that_the_database_can_hold_can_be_read(
    engine: AsyncEngine, held: str, read: datetime
) -> None:
    async with make_sessions(engine)() as session:
        found = (await session.execute(text("select cast(:held as timestamptz)"), {"held": held})).scalar_one()

    assert found == read
    assert found.astimezone(ZoneInfo("Pacific/Kiritimati")) == found.astimezone(ZoneInfo("Etc/GMT+12")) == read


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_store_every_text_is_refused_in_one_line(
    postgres_server: PostgresServer, encoding: str
) -> None:
    name = f"tallyhook_test_{encoding.lower()}"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} encoding '{encoding}' locale 'C' template template0".encode())
        try:
            with pytest.raises(SchemaError, match=f"stores text as {encoding}, and Tallyhook needs UTF8: create one"):
                migrate(postgres_server.url(name))
        finally:
            connection.execute(f"drop database {name} with (force)".encode())


def test_a_server_that_is_too_old_is_refused(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.migrate.OLDEST_VERSION", 99)

    with pytest.raises(SchemaError, match="Tallyhook needs 99 or newer: upgrade the server"):
        migrate(empty_database_url)


@pytest.mark.parametrize("raw", [False, True], ids=["by statement", "by the raw connection"])
async def test_connections_to_a_server_that_became_read_only_are_given_up(
    engine: AsyncEngine, database_url: str, raw: bool
) -> None:
    sessions = make_sessions(engine)

    async def write() -> None:
        async with sessions.begin() as session:
            if raw:
                async with raw_connection(session) as connection:
                    await connection.execute("insert into accounts (slug) values ('x') on conflict do nothing")
            else:
                await session.execute(text("insert into accounts (slug) values ('x') on conflict do nothing"))

    # Both connections are made while the server is read-only, and the server that is reached later is not.
    await run_as_admin(database_url, READ_ONLY.format("{}", "on"))
    async with engine.connect(), engine.connect():
        pass
    await run_as_admin(database_url, READ_ONLY.format("{}", "off"))

    with pytest.raises((DBAPIError, psycopg.Error)) as refused:
        await write()

    assert is_wrong_server(refused.value)
    assert is_transient(refused.value)
    for _ in range(3):
        await write()


async def test_a_prepared_statement_that_a_migration_outdated_passes_and_is_prepared_again(
    engine: AsyncEngine, database_url: str
) -> None:
    async def read() -> list[object]:
        async with make_sessions(engine).begin() as session:
            return list((await session.execute(text("select * from changing"))).one())

    await run_as_admin(database_url, "create table changing as select 1 as one")
    for _ in range(PREPARE_AFTER + 1):
        assert await read() == [1]

    await run_as_admin(database_url, "alter table changing add two int default 2")

    with pytest.raises(DBAPIError) as outdated:
        await read()
    assert is_transient(outdated.value)
    assert await read() == [1, 2]


async def test_webhooks_are_taken_again_as_soon_as_the_database_can_be_written_to(
    database_url: str, simulator: Simulator
) -> None:
    event = {"id": "evt_1", "object": "event", "created": 1, "livemode": False, "type": "x", "data": {"object": {}}}
    async with open_resources(make_settings(database_url, simulator)) as res:
        await run_as_admin(database_url, READ_ONLY.format("{}", "on"))
        await _cut_off(database_url)
        with pytest.raises(Unavailable):
            await deliver_value(res, event)
        await run_as_admin(database_url, READ_ONLY.format("{}", "off"))

        await deliver_value(res, event)


async def _cut_off(database_url: str) -> None:
    await run_as_admin(
        database_url,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}' and pid <> pg_backend_pid()",
    )


@pytest.mark.parametrize(
    ("sqlstate", "transient"),
    [("08006", True), ("25006", True), ("40P01", True), ("53300", True), ("55000", True), ("57P01", True),
     ("57014", False), ("22021", False), ("22P05", False), ("23505", False), ("42P01", False)],
)  # fmt: skip
def test_temporary_errors_are_known_by_their_sqlstate_alone(sqlstate: str, transient: bool) -> None:
    error = type("Error", (psycopg.errors.InternalError,), {"sqlstate": sqlstate})()

    assert is_transient(error) is transient
    assert is_slow(error) is (sqlstate == "57014")


async def test_more_statements_than_the_driver_remembers_by_itself_are_prepared_too(engine: AsyncEngine) -> None:
    for _ in range(PREPARE_AFTER + 1):
        for number in range(150):
            async with make_sessions(engine).begin() as session:
                await session.execute(text(f"select {number} as n"))

    async with make_sessions(engine).begin() as session:
        prepared = await session.execute(
            text("select count(*) from pg_prepared_statements where statement like '%as n'")
        )
        assert prepared.scalar_one() == 150


@pytest.mark.parametrize("asked", [b"version()", b"pg_backend_pid()"], ids=["by SQLAlchemy", "by us"])
async def test_a_connection_that_is_swallowed_while_it_is_opened_is_given_up_and_the_next_one_works(
    database_url: str, asked: bytes
) -> None:
    async with detour(database_url) as way:
        engine = make_engine(way.url, pool_size=1, transaction_seconds=0.3)
        way.swallow_at(asked)
        with pytest.raises(DBAPIError):
            async with asyncio.timeout(60), engine.connect():
                pass
        way.swallow_at(None)
        async with engine.connect() as connection:
            assert (await connection.execute(text("select 1"))).scalar_one() == 1
        await engine.dispose()


async def test_a_process_that_ends_waits_only_a_moment_for_a_silent_database_and_still_records_what_it_can(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a transaction that waits for an answer that a network has swallowed
    monkeypatch.setattr("app.db.cutting.LAST_SECONDS", 0.2)
    async with detour(database_url) as way:
        engine = make_engine(way.url, pool_size=2, transaction_seconds=3600)
        sessions = make_sessions(engine)

        async def ask(words: str) -> object:
            async with sessions.begin() as session:
                return (await session.execute(text(f"select '{words}'"))).scalar_one()

        way.swallow_at(b"lost")
        asking = asyncio.create_task(ask("lost"))
        await until(lambda: way.swallowed)
        way.swallow_at(None)

        # When the process ends, then the first is cut
        end_soon(engine)
        with pytest.raises(DBAPIError) as lost:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asking
        assert is_transient(lost.value)
        # and another one can still be made, on a connection that must be opened soon
        asked: list[float] = []
        event.listen(engine.sync_engine, "do_connect", lambda *opened: asked.append(opened[3]["connect_timeout"]))
        assert await ask("last words") == "last words"
        assert [seconds < CONNECT_TIMEOUT_SECONDS for seconds in asked] == [True]

        # but soon each fails at once, even on an open connection
        monkeypatch.setattr("app.db.cutting.NOTHING_AFTER_SECONDS", 0.0)
        assert engine.sync_engine.pool.checkedin() == 1  # type: ignore[attr-defined]
        with pytest.raises(DBAPIError, match="this process ends now") as late:
            await ask("too late")
        assert is_transient(late.value)
        await engine.dispose()


async def test_a_connection_is_usable_in_a_process_that_has_more_than_a_thousand_files_open(
    engine: AsyncEngine,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while (descriptor := os.open(os.devnull, os.O_RDONLY)) < 1100:
            opened.callback(os.close, descriptor)
        opened.callback(os.close, descriptor)
        async with engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            assert raw.fileno() > 1023
        await engine.dispose()
