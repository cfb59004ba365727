"""Bring the schema to head: under a lock, in one transaction; a failure is fatal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.db.engine import CONNECTING, prepare_connections, sqlalchemy_url
from app.db.report_schemas import ensure_schemas
from app.db.scoped import drop_views, ensure_views
from app.errors import SchemaError

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parents[2] / "migrations"
# Constraints with `nulls not distinct` came with it.
OLDEST_VERSION = 15
# An arbitrary number that all processes share.
MIGRATION_LOCK = 7_263_511


def migrate(url: str, revision: str = "head", *, reports_schema: str | None = None) -> None:
    """Upgrade the database at `url`; several processes may do so at once, one of them does it.

    `reports_schema` is where people read report rows; it is created together with its personal schema, unless it is
    None. A schema made by a newer version is left alone: it serves this version too, which a rollback needs. Raises
    `SchemaError` when a step fails, or for a database that cannot serve: then nothing has changed.
    """
    try:
        _in_one_transaction(url, lambda config, connection: _upgrade(config, connection, revision, reports_schema))
    except OperationalError:
        raise  # a database error: it is down, or out of space
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise SchemaError(f"a migration failed, and nothing has changed: {reason}") from error


def downgrade(url: str, revision: str) -> None:
    """Go back to `revision` (`base` empties the schema); for tests and for a rollback by hand."""
    _in_one_transaction(url, lambda config, connection: _downgrade(config, connection, revision))


def require_schema(url: str) -> None:
    """Raise `SchemaError` unless the schema serves this version: it is at head, or was made by a newer version."""
    revision = read_revision(url)
    if revision != head_revision() and (revision is None or revision in known_revisions()):
        raise SchemaError(f"{schema_is_at(revision)}, this version needs {head_revision()}: run `tallyhook migrate`")


def schema_is_at(revision: str | None) -> str:
    """The start of a sentence about the schema."""
    return "the database has no schema yet" if revision is None else f"the schema is at {revision}"


def read_revision(url: str) -> str | None:
    """The revision of the database at `url`; None for one that was never migrated."""
    with _engine(url) as engine, engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str:
    """The revision that this version of the code needs."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None
    return head


def known_revisions() -> frozenset[str]:
    """Every revision that this version of the code knows: any other was made by a newer one."""
    return frozenset(entry.revision for entry in ScriptDirectory(str(MIGRATIONS)).walk_revisions())


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = create_engine(sqlalchemy_url(url), hide_parameters=True, connect_args=CONNECTING)
    prepare_connections(engine)
    try:
        yield engine
    finally:
        engine.dispose()


def _in_one_transaction(url: str, step: Callable[[Config, Connection], None]) -> None:
    with _engine(url) as engine, engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        step(config, connection)


@dataclass(frozen=True, slots=True)
class Database:
    """The facts about a database that Tallyhook depends on; `version` is PostgreSQL's `server_version_num`."""

    version: int
    encoding: str

    def unfit(self) -> tuple[str, str] | None:
        """What is wrong with it and what to do about that; None if it will do."""
        if self.version < OLDEST_VERSION * 10_000:
            what = f"this PostgreSQL is version {self.version // 10_000}, and Tallyhook needs {OLDEST_VERSION} or newer"
            return what, "upgrade the server, or let DATABASE_URL lead to a newer one"
        if self.encoding != "UTF8":
            what = f"the database stores text as {self.encoding}, and Tallyhook needs UTF8"
            make = "create one with `create database … ENCODING 'UTF8' TEMPLATE template0`"
            return what, f"{make}, and let DATABASE_URL lead to it"
        return None


def _check(connection: Connection) -> None:
    if unfit := Database(**connection.execute(_DATABASE).mappings().one()).unfit():
        raise SchemaError(": ".join(unfit))


def _upgrade(config: Config, connection: Connection, revision: str, reports_schema: str | None) -> None:
    _check(connection)
    newer = set(MigrationContext.configure(connection).get_current_heads()) - known_revisions()
    if newer:
        log.warning("schema.newer", revision=", ".join(sorted(newer)), known=head_revision())
        return
    if MigrationContext.configure(connection).get_current_revision() != head_revision():
        drop_views(connection)
    command.upgrade(config, revision)
    ensure_views(connection)
    if reports_schema is not None:
        ensure_schemas(connection, reports_schema)


def _downgrade(config: Config, connection: Connection, revision: str) -> None:
    drop_views(connection)
    command.downgrade(config, revision)
    if revision != "base":
        ensure_views(connection)


_DATABASE = text("""
select cast(current_setting('server_version_num') as int) as version, current_setting('server_encoding') as encoding
""")
