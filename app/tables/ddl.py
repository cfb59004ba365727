"""The tables and views themselves, made while the service runs, from the columns of the files. In the child (sync).

A short transaction of its own before the load: ALTER keeps its lock until commit, and readers would queue behind a
gigabyte. A crash between the two leaves an empty column, which does no harm.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from app.tables.catalogue import Family, Kind, find_column
from app.tables.columns import METADATA, Field, sql_name

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

ROWS_SCHEMA = "report_rows"
# A reader with an open transaction keeps us from changing a table. We wait this long, then try again later.
LOCK_MILLISECONDS = 200

_TYPES = {Kind.DECIMAL: "numeric", Kind.INTEGER: "bigint", Kind.TIMESTAMP: "timestamp", Kind.TEXT: "text"}
_TYPES_JSON = "jsonb"
_ZONES = {"utc": "in UTC", "run": "in the zone of the run (_timezone)", "date": "a date"}

# From a file for all connected accounts, the lines of those that the rule leaves out are not shown.
ACCOUNT_COLUMN = "connected_account"
_IS_WANTED = f"coalesce(load.connected_account is not null or line.{ACCOUNT_COLUMN} <> all(rule.excepted), true)"

# The columns before those of the report in every view: name, expression, comment.
PROVENANCE: tuple[tuple[str, str, str], ...] = (
    ("_account", "load.account", "The account, by its name in Tallyhook, whose key requested the report."),
    ("_connected_account", "load.connected_account", "The connected account that the report was made for."),
    ("_report_type", "load.report_type", "The report type, with its version."),
    ("_rule", "rule.name", "The rule that requested the report."),
    ("_revision", "load.revision", "Which revision of its window it is; 1 is the first."),
    ("_interval_start", "load.interval_start", "Start of the window, inclusive."),
    ("_interval_end", "load.interval_end", "End of the window, exclusive."),
    ("_timezone", "load.timezone", "The zone of the window's days and of times without _utc."),
    ("_run_id", "load.run_id", "The run: GET /v1/runs/{id} shows its history and its file."),
    ("_row", "line.row_number", "The row in the file; the first data row is 1."),
)


def together(connection: Connection) -> AbstractContextManager[object]:
    """Statements within it are sent at once, and answered at its end; through a pooler, one after the other."""
    # If statements can be prepared, no pooler is in between (`child._connected`).
    return nullcontext() if connection.prepare_threshold is None else connection.pipeline()


def prepare_table(connection: Connection, family: Family, fields: Sequence[Field], reports_schema: str) -> None:
    """Make the family's table and views fit these fields; nothing is changed if they already do.

    The connection is in autocommit. Raises `psycopg.errors.LockNotAvailable` while readers are in the way.
    """
    wanted = {field.sql_name: field for field in fields if field.sql_name is not None}
    has_metadata = any(field.sql_name is None for field in fields)
    if _missing(connection, family.table, wanted, has_metadata) is None:
        return
    with connection.transaction():
        connection.execute(sql.SQL("set local lock_timeout = {}").format(f"{LOCK_MILLISECONDS}ms"))
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"table:{family.table}"])
        missing = _missing(connection, family.table, wanted, has_metadata)
        if missing is not None:
            _add(connection, family, missing)
            _note_columns(connection, family.table, fields)
            make_views(connection, family.table, reports_schema)


@dataclass(frozen=True, slots=True)
class _View:
    """A view over a table of rows: `front`, then `columns`, of the loads that meet the condition `shows`."""

    schema: str
    name: str
    table: str
    columns: list[str]
    shows: str
    about: str
    front: tuple[tuple[str, str, str], ...] = PROVENANCE


def make_views(connection: Connection, table: str, reports_schema: str) -> None:
    """The three views of a table, with their comments; inside the caller's transaction."""
    columns = list(_columns(connection, table))
    personal = _personal_columns(connection, table) | {METADATA}
    public = [name for name in columns if name not in personal]
    shown = "load.is_current and load.leads and load.state <> 'removed'"
    if ACCOUNT_COLUMN in columns:
        shown = f"{shown} and {_IS_WANTED}"
    every = "load.loaded_at is not null and load.state <> 'removed'"
    about = "newest revision of each window, of the leading rule"
    current = ("_is_current", shown, "Whether the plain view shows the row.")
    for view in (
        _View(reports_schema, table, table, public, shown, about),
        _View(reports_schema, f"{table}_all", table, public, every, "every revision and rule", (*PROVENANCE, current)),
        _View(f"{reports_schema}_personal", table, table, columns, shown, f"{about}, with personal columns"),
    ):
        _make_view(connection, view)


def _missing(
    connection: Connection, table: str, wanted: dict[str, Field], has_metadata: bool
) -> list[tuple[str, str]] | None:
    """Names and types of the columns that the table lacks; None when it exists and lacks none."""
    there = _columns(connection, table)
    missing = [(name, _TYPES[field.kind]) for name, field in wanted.items() if name not in there]
    if has_metadata and METADATA not in there:
        missing.append((METADATA, _TYPES_JSON))
    return missing if missing or not there else None


def _add(connection: Connection, family: Family, missing: Sequence[tuple[str, str]]) -> None:
    table = sql.Identifier(ROWS_SCHEMA, family.table)
    connection.execute(
        sql.SQL(
            "create table if not exists {} (load_id bigint not null, row_number bigint not null,"
            " primary key (load_id, row_number))"
        ).format(table)
    )
    added = [sql.SQL("add column {} {}").format(sql.Identifier(name), sql.SQL(type_)) for name, type_ in missing]
    if added:
        connection.execute(sql.SQL("alter table {} {}").format(table, sql.SQL(", ").join(added)))
    looked_up = next((name for name in family.row_key or () if name.endswith("_id")), None)
    if looked_up is not None and looked_up in dict(missing):
        connection.execute(sql.SQL("create index on {} ({})").format(table, sql.Identifier(looked_up)))


def _note_columns(connection: Connection, table: str, fields: Sequence[Field]) -> None:
    connection.execute(
        """
        insert into table_columns (table_name, column_name, state, kind, personal)
        select %(table)s, new.name, 'loaded', new.kind, new.personal
        from unnest(%(names)s::text[], %(kinds)s::text[], %(personal)s::bool[]) as new(name, kind, personal)
        on conflict (table_name, column_name) do update set state = 'loaded'
            where table_columns.state in ('withheld', 'set_aside')
        """,
        {
            "table": table,
            "names": [field.name for field in fields],
            "kinds": [field.kind.value for field in fields],
            "personal": [field.personal for field in fields],
        },
    )


def _columns(connection: Connection, table: str) -> dict[str, str]:
    """The columns of a table of rows, in their order; none if there is no such table."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            """
            select attname, format_type(atttypid, null) from pg_attribute
            where attrelid = to_regclass(format('report_rows.%%I', %s::text)) and attnum > 0 and not attisdropped
            order by attnum
            """,
            [table],
        )
        return {str(name): str(type_) for name, type_ in cursor if name not in ("load_id", "row_number")}


def _personal_columns(connection: Connection, table: str) -> set[str]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute("select column_name from table_columns where table_name = %s and personal", [table])
        return {sql_name(str(name)) for (name,) in cursor}


def _make_view(connection: Connection, view: _View) -> None:
    name = sql.Identifier(view.schema, view.name)
    selected: list[sql.Composable] = [sql.SQL(f"{expression} as {column}") for column, expression, _ in view.front]
    selected += [sql.SQL("line.{}").format(sql.Identifier(column)) for column in view.columns]
    body = sql.SQL(
        "select {columns} from {rows} as line join loads as load on load.id = line.load_id"
        " left join rules as rule on rule.id = load.rule_id where load.table_name = {table} and {shows}"
    ).format(
        columns=sql.SQL(", ").join(selected),
        rows=sql.Identifier(ROWS_SCHEMA, view.table),
        table=sql.Literal(view.table),
        shows=sql.SQL(view.shows),
    )
    if not _grows(connection, view):
        connection.execute(sql.SQL("drop view {}").format(name))
    connection.execute(sql.SQL("create or replace view {} as {}").format(name, body))
    connection.execute(sql.SQL("comment on view {} is {}").format(name, sql.Literal(f"{view.table}: {view.about}")))
    comments = [(column, said) for column, _, said in view.front] + [(one, meaning(one)) for one in view.columns]
    for column, comment in comments:
        place = sql.Identifier(view.schema, view.name, column)
        connection.execute(sql.SQL("comment on column {} is {}").format(place, sql.Literal(comment)))


def _grows(connection: Connection, view: _View) -> bool:
    """Whether the view can be replaced: it does not exist yet, or the new one only adds columns at its end."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "select attname from pg_attribute where attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))"
            " and attnum > 0 and not attisdropped order by attnum",
            [view.schema, view.name],
        )
        there = [str(name) for (name,) in cursor]
    return [*(column for column, _, _ in view.front), *view.columns][: len(there)] == there


def meaning(column: str) -> str | None:
    """What a column holds, in words, and in which zone its times are."""
    found = find_column(column)
    if found is None or found.meaning is None:
        return None
    zone = _ZONES.get(found.zone or "")
    return found.meaning if zone is None else f"{found.meaning} ({zone})"
