"""The schema: up, down and up again, by many processes at once, all or nothing."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError
from structlog.testing import capture_logs

from app.db import alembic_models  # noqa: F401 - its tables belong to the schema too
from app.db import migrate as migrations
from app.db.engine import sqlalchemy_url
from app.db.in_thread import in_thread, taking_its_time
from app.db.migrate import downgrade, migrate
from app.db.models import Base
from app.db.revisions import MIGRATIONS, head_revision, known_revisions
from tests.detour import detour
from tests.proofs.processes import Forked
from tests.until import PATIENCE_SECONDS, until


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    """The database, without any table."""
    engine = create_engine(sqlalchemy_url(empty_database_url))
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    """All existing tables."""
    return set(inspect(engine).get_table_names())


def revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def test_the_schema_goes_up_down_and_up_again(engine: Engine, empty_database_url: str) -> None:
    migrate(empty_database_url)
    first = tables(engine)
    downgrade(empty_database_url, "base")
    assert tables(engine) == {"alembic_version"}

    migrate(empty_database_url)

    assert tables(engine) == first
    assert revision(engine) == head_revision()


def test_the_revisions_are_those_that_alembic_finds() -> None:
    folder = ScriptDirectory(str(MIGRATIONS))

    assert head_revision() == folder.get_current_head()
    assert known_revisions() == {entry.revision for entry in folder.walk_revisions()}


def test_migrating_what_is_at_head_changes_nothing_and_needs_no_alembic(
    engine: Engine, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_database_url)
    monkeypatch.setitem(sys.modules, "alembic", None)
    with engine.begin() as connection:
        connection.execute(text("insert into accounts (slug) values ('kept')"))

    migrate(empty_database_url)

    with engine.connect() as connection:
        assert connection.execute(text("select slug from accounts")).scalars().all() == ["kept"]


def test_models_and_migrations_say_the_same(engine: Engine, empty_database_url: str) -> None:
    migrate(empty_database_url)

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_column_takes_time_zones_where_it_takes_a_time(engine: Engine, empty_database_url: str) -> None:
    migrate(empty_database_url)

    with engine.connect() as connection:
        naive = connection.execute(
            text(
                "select table_name, column_name from information_schema.columns"
                " where table_schema = 'public' and data_type = 'timestamp without time zone'"
            )
        ).all()

    assert naive == []


@pytest.mark.slow
def test_processes_that_migrate_at_once_do_not_collide(engine: Engine, empty_database_url: str, tmp_path: Path) -> None:
    environ = {**os.environ, "DATABASE_URL": empty_database_url}
    processes = [Forked(["app", "migrate"], cwd=tmp_path, env=environ, log=tmp_path / f"{n}.log") for n in range(4)]

    for process in processes:
        process.wait()
    codes = [process.poll() for process in processes]

    assert codes == [0, 0, 0, 0]
    assert revision(engine) == head_revision()


def test_a_step_that_fails_is_fatal_and_changes_nothing(
    engine: Engine, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The table that the last step makes exists already: everything before it must be undone.
    with engine.begin() as connection:
        connection.execute(text("create table file_chunks (mine int)"))
    before = tables(engine)

    with pytest.raises(Exception, match="file_chunks"):
        migrate(empty_database_url)

    assert tables(engine) == before
    assert revision(engine) is None


def test_a_failure_ends_the_command_with_one_clear_line(engine: Engine, empty_database_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("create table file_chunks (mine int)"))

    ended = subprocess.run(
        [sys.executable, "-m", "app", "migrate"],
        env={**os.environ, "DATABASE_URL": empty_database_url},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "file_chunks" in ended.stderr.splitlines()[-1]


def test_a_schema_that_is_newer_is_left_alone_so_that_a_rollback_can_start(
    engine: Engine, empty_database_url: str
) -> None:
    migrate(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = 'of_the_future'"))

    with capture_logs() as logs:
        migrate(empty_database_url)

    assert revision(engine) == "of_the_future"
    assert [(line["event"], line["revision"]) for line in logs] == [("schema.newer", "of_the_future")]


def test_a_second_migration_waits_for_the_first(engine: Engine, empty_database_url: str) -> None:
    with ThreadPoolExecutor(1) as pool, engine.connect() as holder:
        _lock(holder)
        waiting = pool.submit(migrate, empty_database_url)
        while not found_waiting(engine):
            assert not waiting.done()
        holder.rollback()
        waiting.result(timeout=60)

    assert revision(engine) == head_revision()


def test_a_machine_that_is_lost_while_it_migrates_releases_the_lock(
    engine: Engine, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        with migrations._transaction(empty_database_url):
            # It says nothing more, and another one migrates.
            monkeypatch.setattr(migrations, "IDLE", "60s")
            migrate(empty_database_url)

    monkeypatch.setattr(migrations, "IDLE", "200ms")

    with pytest.raises(DBAPIError, match="idle-in-transaction timeout"):
        lost()

    assert revision(engine) == head_revision()


@pytest.mark.parametrize(
    "asked", [b"version()", b"pg_try_advisory_xact_lock", b"server_version_num"], ids=["opening", "the lock", "facts"]
)
async def test_a_network_that_falls_silent_before_the_first_step_ends_the_migration(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, asked: bytes
) -> None:
    monkeypatch.setattr("app.db.in_thread.ANSWER_SECONDS", 0.3)
    async with detour(empty_database_url) as way:
        way.swallow_at(asked)

        with pytest.raises(OperationalError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await in_thread(partial(migrate, way.url))


async def test_a_step_may_take_longer_than_an_answer(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.in_thread.ANSWER_SECONDS", 0.3)

    def work() -> None:
        with migrations._transaction(empty_database_url) as connection, taking_its_time(connection):
            connection.execute(text("select pg_sleep(1)"))

    await in_thread(work)


@pytest.mark.parametrize("stage", ["opening", "waiting for the lock", "a step"])
async def test_a_process_that_stops_does_not_wait_for_its_migration(
    engine: Engine, empty_database_url: str, stage: str
) -> None:
    # Given a migration that will not end
    def step() -> None:
        with migrations._transaction(way.url) as connection, taking_its_time(connection):
            connection.execute(text("select 'a step'"))

    async with detour(empty_database_url) as way, asyncio.timeout(PATIENCE_SECONDS):
        with engine.connect() as holder:
            if stage == "waiting for the lock":
                _lock(holder)
                migrating = asyncio.create_task(in_thread(partial(migrate, way.url)))
                await until(lambda: found_waiting(engine))
            else:
                way.swallow_at(b"version()" if stage == "opening" else b"a step")
                work = partial(migrate, way.url) if stage == "opening" else step
                migrating = asyncio.create_task(in_thread(work))
                await until(lambda: way.swallowed)

            # When the process stops
            migrating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await migrating

            # Then the thread ends too, for which the end of a process waits
            await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_step_that_is_given_up_ends_in_the_server_too_and_releases_the_lock(
    engine: Engine, empty_database_url: str
) -> None:
    def step() -> None:
        with migrations._transaction(empty_database_url) as connection, taking_its_time(connection):
            connection.execute(text("select pg_sleep(3600)"))

    asleep = text("select 1 from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")

    def steps() -> int:
        with engine.connect() as watcher:
            return len(watcher.execute(asleep).all())

    stepping = asyncio.create_task(in_thread(step))
    await until(lambda: steps() == 1)
    stepping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stepping

    await until(lambda: steps() == 0)
    with engine.connect() as connection:
        _lock(connection)  # free


def found_waiting(engine: Engine) -> bool:
    """Whether a migration waits for another one."""
    with engine.connect() as watcher:
        return bool(watcher.execute(text(WAITS)).all())


# Between two questions the one that waits is idle.
WAITS = """
select 1 from pg_stat_activity
where datname = current_database() and query like '%pg_try_advisory_xact_lock%' and state = 'idle in transaction'
"""


def _lock(connection: Connection) -> None:
    connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": migrations.MIGRATION_LOCK})
