"""Bring the schema to head: under a lock, in one transaction; a failure is fatal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import structlog
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.db.engine import CONNECTING, prepare_connections, sqlalchemy_url
from app.db.in_thread import limited, taking_its_time
from app.db.report_schemas import ensure_schemas
from app.db.revisions import MIGRATIONS, head_revision, known_revisions
from app.db.scoped import drop_views, ensure_views
from app.errors import SchemaError
from app.observability.lighter import lightly

log = structlog.get_logger()

# Constraints with `nulls not distinct` came with it.
OLDEST_VERSION = 15
# An arbitrary number that all processes share.
MIGRATION_LOCK = 7_263_511
LOCK_POLL_SECONDS = 0.25
# Our code takes only a moment between two statements. After this long the server assumes that the machine is lost, and
# releases the lock; its kernel would notice after two hours.
IDLE = "60s"


def migrate(url: str, revision: str = "head", *, reports_schema: str | None = None) -> None:
    """Upgrade the database at `url`; if several processes try at once, one of them does it.

    `reports_schema` is where people read report rows; it is created together with its personal schema, unless it is
    None. A schema made by a newer version is left alone: it serves this version too, which a rollback needs. Raises
    `SchemaError` when a step fails, or for a database that cannot serve: then nothing has changed.
    """
    try:
        with _transaction(url) as connection:
            _upgrade(connection, revision, reports_schema)
    except OperationalError:
        raise  # a database error: it is down, or out of space
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise SchemaError(f"a migration failed, and nothing has changed: {reason}") from error


def downgrade(url: str, revision: str) -> None:
    """Go back to `revision` (`base` empties the schema); for tests and for a rollback by hand."""
    with _transaction(url) as connection:
        drop_views(connection)
        _step(connection, "downgrade", revision)
        if revision != "base":
            ensure_views(connection)


def require_schema(url: str) -> None:
    """Raise `SchemaError` unless the schema serves this version: it is at head, or was made by a newer version."""
    revision = read_revision(url)
    if revision != head_revision() and (revision is None or revision in known_revisions()):
        needed = f"this version needs {head_revision()}"
        raise SchemaError(f"{schema_is_at(revision)}, but {needed}: run `tallyhook migrate`")


def schema_is_at(revision: str | None) -> str:
    """The start of a sentence about the schema."""
    return "the database has no schema yet" if revision is None else f"the schema is at {revision}"


def read_revision(url: str) -> str | None:
    """The revision of the database at `url`; None for one that was never migrated."""
    with _engine(url) as engine, engine.connect() as connection:
        return _revision(connection)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = create_engine(sqlalchemy_url(url), hide_parameters=True, connect_args=CONNECTING)
    prepare_connections(engine)
    try:
        with limited(engine):
            yield engine
    finally:
        engine.dispose()


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    """One transaction for all steps, during which no other process migrates."""
    with _engine(url) as engine, engine.begin() as connection:
        # We ask repeatedly: a wait in the server would look like a silent network.
        while not connection.execute(_LOCK, {"lock": MIGRATION_LOCK, "idle": IDLE}).one().locked:
            time.sleep(LOCK_POLL_SECONDS)
        yield connection


def _revision(connection: Connection) -> str | None:
    if connection.execute(_VERSIONS).scalar_one() is None:
        return None
    revision: str | None = connection.execute(_VERSION).scalar_one_or_none()
    return revision


@dataclass(frozen=True, slots=True)
class Database:
    """The facts about a database that Tallyhook depends on; `version` is PostgreSQL's `server_version_num`."""

    version: int
    encoding: str

    def unfit(self) -> tuple[str, str] | None:
        """What is wrong with it, and what to do about it; None if nothing is."""
        if self.version < OLDEST_VERSION * 10_000:
            what = f"this PostgreSQL is version {self.version // 10_000}, and Tallyhook needs {OLDEST_VERSION} or newer"
            return what, "upgrade the server, or point DATABASE_URL to a newer one"
        if self.encoding != "UTF8":
            what = f"the database stores text as {self.encoding}, and Tallyhook needs UTF8"
            make = "create one with `create database … ENCODING 'UTF8' TEMPLATE template0`"
            return what, f"{make}, and point DATABASE_URL to it"
        return None


def _check(connection: Connection) -> None:
    if unfit := Database(**connection.execute(_DATABASE).mappings().one()).unfit():
        raise SchemaError(": ".join(unfit))


def _upgrade(connection: Connection, revision: str, reports_schema: str | None) -> None:
    _check(connection)
    present = _revision(connection)
    if present is not None and present not in known_revisions():
        log.warning("schema.newer", revision=present, known=head_revision())
        return
    if present != head_revision():
        drop_views(connection)
        _step(connection, "upgrade", revision)
    ensure_views(connection)
    if reports_schema is not None:
        ensure_schemas(connection, reports_schema)


def _step(connection: Connection, way: Literal["upgrade", "downgrade"], revision: str) -> None:
    # Loaded only when needed: with the migrations it takes a twentieth of a second, and most starts are at head.
    with lightly():
        from alembic import command
        from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    with taking_its_time(connection):
        getattr(command, way)(config, revision)


# A step that is given up ends in the server too, if the server's system can tell that we are gone: it holds the lock.
_LOCK = text("""
select set_config('idle_in_transaction_session_timeout', :idle, true),
    case when version() like '%linux%' then set_config('client_connection_check_interval', '2s', true) end,
    pg_try_advisory_xact_lock(:lock) as locked
""")
_VERSIONS = text("select to_regclass('alembic_version')")
_VERSION = text("select version_num from alembic_version")
_DATABASE = text("""
select cast(current_setting('server_version_num') as int) as version, current_setting('server_encoding') as encoding
""")
