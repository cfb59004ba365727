"""The tables for display: what is in them, their columns, and the rules that lead them. Only reads."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.errors import NotFound
from app.tables.catalogue import find_column
from app.tables.ddl import meaning

_MOST_CHANGES = 20


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table that has loads, summed up."""

    name: str
    families: list[str]
    report_types: list[str]
    rows: int
    files: int
    failed: int
    newest_interval_end: datetime | None
    set_aside: list[str]


@dataclass(frozen=True, slots=True)
class ShownColumn:
    """A column of a table's files."""

    name: str
    state: str
    kind: str
    personal: bool
    filled: int
    longest: int
    first_seen_at: datetime

    @property
    def meaning(self) -> str | None:
        """What it holds, in words."""
        return meaning(self.name)

    @property
    def zone(self) -> str | None:
        """How to read its times: `utc`, `run` or `date`."""
        found = find_column(self.name)
        return None if found is None else found.zone


@dataclass(frozen=True, slots=True)
class Leader:
    """A rule and the period in which its windows are shown."""

    rule_id: uuid.UUID
    rule: str
    account: str
    connected_account: str | None
    starts_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class ColumnsChanged:
    """A file whose columns differ from those of its rule's previous file, and when it was stored."""

    rule_id: uuid.UUID
    rule: str
    account: str
    connected_account: str | None
    run_id: uuid.UUID
    interval_start: datetime
    interval_end: datetime
    timezone: str | None
    added: list[str]
    removed: list[str]
    at: datetime | None


async def list_tables(session: AsyncSession) -> list[ShownTable]:
    """Every table that files are loaded into, by name."""
    return await fetch(session, ShownTable, _TABLES)


async def get_table(session: AsyncSession, name: str) -> ShownTable:
    """One of them. Raises NotFound."""
    for table in await list_tables(session):
        if table.name == name:
            return table
    raise NotFound(f"there is no table {name!r}: no file of such a report has been stored yet")


async def columns_of(session: AsyncSession, table: str) -> list[ShownColumn]:
    """Every column of a table's files, in the order in which they first appeared."""
    return await fetch(session, ShownColumn, _COLUMNS, {"table": table})


async def leaders_of(session: AsyncSession, table: ShownTable) -> list[Leader]:
    """The rules whose windows the plain view shows, and for which periods, newest first."""
    return await fetch(session, Leader, _LEADERS, {"families": table.families})


async def changes_of(session: AsyncSession, table: str) -> list[ColumnsChanged]:
    """The files with which the columns of a table's reports changed: the newest 20, newest first."""
    return await fetch(session, ColumnsChanged, _CHANGES, {"table": table, "limit": _MOST_CHANGES})


_TABLES = text("""
select table_name as name, array_agg(distinct family) as families, array_agg(distinct report_type) as report_types,
    cast(coalesce(sum(rows) filter (where is_current and leads and state <> 'removed'), 0) as bigint) as rows,
    count(*) filter (where loaded_at is not null and state <> 'removed') as files,
    count(*) filter (where state = 'failed') as failed,
    max(interval_end) filter (where loaded_at is not null) as newest_interval_end,
    array(select column_name from table_columns where table_columns.table_name = loads.table_name
        and state = 'set_aside' order by 1) as set_aside
from loads group by table_name order by table_name
""")
_COLUMNS = text("""
select column_name as name, state, kind, personal, filled, longest, first_seen_at from table_columns
where table_name = :table order by first_seen_at, column_name
""")
_LEADERS = text("""
select rule_id, rules.name as rule, leaderships.account, nullif(scope, '') as connected_account, starts_at, ends_at
from leaderships join rules on rules.id = rule_id where family = any(:families) order by starts_at desc, scope
""")
_CHANGES = text("""
select loads.rule_id, rules.name as rule, loads.account, loads.connected_account, loads.run_id, loads.interval_start,
    loads.interval_end, loads.timezone, added_columns as added, removed_columns as removed, runs.stored_at as at
from loads join rules on rules.id = loads.rule_id join runs on runs.id = loads.run_id
where added_columns is not null and is_current and table_name = :table order by loads.id desc limit :limit
""")
