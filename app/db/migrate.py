"""Bring the schema to head: under a lock, in one transaction, and fatal when it fails."""

from collections.abc import Callable
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.db.engine import CONNECT_TIMEOUT_SECONDS, sqlalchemy_url
from app.db.report_schemas import ensure_schemas
from app.errors import TallyhookError

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parents[2] / "migrations"
# Any number will do, as long as all processes take the same one.
MIGRATION_LOCK = 7_263_511


class SchemaError(TallyhookError):
    """The schema could not be brought to what this version needs."""


def migrate(url: str, revision: str = "head", *, reports_schema: str | None = None) -> None:
    """Upgrade the database at `url`; several processes may do so at once, one of them does it.

    `reports_schema` is where people read report rows; it is made, with its personal sister, unless it is None.

    A schema that a newer version made is left as it is: it serves this version too, and that is what a rollback needs.
    Raises `SchemaError` when a step fails: then nothing has changed.
    """
    try:
        _in_one_transaction(url, lambda config, connection: _upgrade(config, connection, revision, reports_schema))
    except OperationalError:
        raise  # the database's own trouble: it is away, or has no room
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise SchemaError(f"a migration failed, and nothing has changed: {reason}") from error


def downgrade(url: str, revision: str) -> None:
    """Go back to `revision` (`base` empties the schema); for tests and for a rollback by hand."""
    _in_one_transaction(url, lambda config, _: command.downgrade(config, revision))


def require_schema(url: str) -> None:
    """Raise `SchemaError` unless the schema serves this version: it is at head, or was made by a newer version."""
    revision = read_revision(url)
    if revision != head_revision() and (revision is None or revision in known_revisions()):
        raise SchemaError(f"{schema_is_at(revision)}, this version needs {head_revision()}: run `tallyhook migrate`")


def schema_is_at(revision: str | None) -> str:
    """The beginning of a sentence about the schema."""
    return "the database has no schema yet" if revision is None else f"the schema is at {revision}"


def read_revision(url: str) -> str | None:
    """The revision of the database at `url`; None for one that was never migrated."""
    engine = create_engine(
        sqlalchemy_url(url), hide_parameters=True, connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    )
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def head_revision() -> str:
    """The revision that this version of the code needs."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None
    return head


def known_revisions() -> frozenset[str]:
    """Every revision that this version of the code knows: any other was made by a newer one."""
    return frozenset(entry.revision for entry in ScriptDirectory(str(MIGRATIONS)).walk_revisions())


def _engine(url: str) -> Engine:
    connecting = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    return create_engine(sqlalchemy_url(url), hide_parameters=True, connect_args=connecting)


def _in_one_transaction(url: str, step: Callable[[Config, Connection], None]) -> None:
    engine = create_engine(
        sqlalchemy_url(url), hide_parameters=True, connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    )
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            step(config, connection)
    finally:
        engine.dispose()


def _upgrade(config: Config, connection: Connection, revision: str, reports_schema: str | None) -> None:
    newer = set(MigrationContext.configure(connection).get_current_heads()) - known_revisions()
    if newer:
        log.warning("schema.newer", revision=", ".join(sorted(newer)), known=head_revision())
        return
    command.upgrade(config, revision)
    if reports_schema is not None:
        ensure_schemas(connection, reports_schema)
