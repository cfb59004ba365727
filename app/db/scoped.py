"""What a caller limited to some accounts sees of each table: a schema of views, put in front of the tables per session.

Every statement names its tables without a schema. In a limited session the schema of this module comes first in the
search path, so each name means a view that shows only the rows of the session's accounts; changes go through the
views as well. A new table is either in `CONDITIONS`, or has a column `account`, or is in `FOR_EVERYBODY`
(docs/decisions/0020).
"""

import hashlib
from collections.abc import Iterable

from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, SessionTransaction

SCHEMA = "tallyhook_scoped"
_ACCOUNTS = "cast(current_setting('tallyhook.accounts') as text[])"
# SQL that is true in sessions that see every account. (Where a session was limited before, the setting is left empty.)
UNLIMITED = "coalesce(current_setting('tallyhook.accounts', true), '') = ''"
_OF_ACCOUNT = f"account = any({_ACCOUNTS})"
_OF_TARGET = f"accounts is not null and accounts <@ {_ACCOUNTS}"
_UUID = "'^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'"


def _of(parent: str, key: str, by: str = "id", condition: str = _OF_ACCOUNT) -> str:
    return f"exists (select from {parent} as parent where parent.{by} = {key} and {condition})"


# Tables without a column `account`: which of their rows are shown.
CONDITIONS = {
    "accounts": f"slug = any({_ACCOUNTS})",
    # An entry about one of the caller's runs, rules or targets, or about an account itself.
    "audit": f"""case when subject ~ {_UUID}
        then {_of("runs", "cast(subject as uuid)")} or {_of("rules", "cast(subject as uuid)")}
            or {_of("targets", "cast(subject as uuid)", condition=_OF_TARGET)}
        else subject = any({_ACCOUNTS}) end""",
    "backfills": _of("rules", "rule_id"),
    "check_notes": _of("checks", "check_id"),
    "deliveries": _of("targets", "target_id", condition=_OF_TARGET),
    "delivery_attempts": _of("targets", "target_id", condition=_OF_TARGET),
    "diffs": _of("loads", "load_id"),
    "load_sums": _of("loads", "load_id"),
    # A ping belongs to no account, but is sent to one of the caller's targets.
    "messages": f"""({_OF_ACCOUNT} or account is null and exists (
        select from deliveries join targets on targets.id = deliveries.target_id
        where deliveries.message_id = messages.id and {_OF_TARGET}))""",
    "rule_progress": _of("rules", "rule_id"),
    "targets": _OF_TARGET,
    "withdrawals": _of("rules", "rule_id"),
}
# These belong to no account: what the service knows about itself, and what no answer shows.
FOR_EVERYBODY = frozenset(
    {
        "alembic_version", "dropped_objects", "file_chunks", "file_store_probes", "login_links", "notices",
        "table_columns", "tables_since", "timetable", "web_sessions", "workers",
    }
)  # fmt: skip


class _LimitedSession(Session):
    """A session whose `info["accounts"]` says which accounts it sees."""


@event.listens_for(_LimitedSession, "after_begin")
def _limit(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:
        connection.execute(_LIMIT, {"accounts": session.info["accounts"]})


def limited_sessions(engine: AsyncEngine, accounts: Iterable[str]) -> async_sessionmaker[AsyncSession]:
    """Sessions like those of `make_sessions`, which see only these accounts."""
    named = {"accounts": "{" + ",".join(sorted(accounts)) + "}"}  # slugs need no quotes
    return async_sessionmaker(engine, sync_session_class=_LimitedSession, expire_on_commit=False, info=named)


def drop_views(connection: Connection) -> None:
    """Before a migration: no table can be changed that a view reads."""
    connection.exec_driver_sql(f"drop schema if exists {SCHEMA} cascade")


def ensure_views(connection: Connection) -> None:
    """Create the views of the tables as they are, unless they exist."""
    columns = connection.execute(_COLUMNS).all()
    tables = {name: "account" in names.split(",") for name, names in columns}
    wanted = [
        _VIEW.format(schema=SCHEMA, name=name, condition=condition, check=_check(name, has_account))
        for name, has_account in sorted(tables.items())
        if (condition := CONDITIONS.get(name, _OF_ACCOUNT if has_account else ""))
    ]
    version = hashlib.sha256(repr((columns, wanted)).encode()).hexdigest()
    if connection.execute(_COMMENT, {"name": SCHEMA}).scalar_one_or_none() == version:
        return
    drop_views(connection)
    connection.exec_driver_sql(f"create schema {SCHEMA}")
    for statement in wanted:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"comment on schema {SCHEMA} is '{version}'")


def _check(name: str, has_account: bool) -> str:
    """Nothing is written for another account, whatever a statement says."""
    return "with local check option" if has_account and name not in (*CONDITIONS, "run_readiness") else ""


_VIEW = 'create view {schema}."{name}" as select * from "{name}" where {condition} {check}'
_LIMIT = text(f"""
select set_config('search_path', '{SCHEMA}, ' || current_setting('search_path'), true),
    set_config('tallyhook.accounts', :accounts, true)
""")
_COLUMNS = text("""
select relname, string_agg(attname, ',' order by attnum) from pg_class
join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
where relnamespace = cast(current_schema() as regnamespace) and relkind in ('r', 'p', 'v')
group by relname order by relname
""")
_COMMENT = text("select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = :name")
