"""Rows go with their file, or when they are no longer wanted: hidden at once, then deleted piece by piece."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import raw_connection
from app.db.rows import fetch_first
from app.resources import Resources
from app.tables.ddl import ROWS_SCHEMA
from app.tables.load_file import RULES_OFF

# Transactions are short and leave time for vacuum in between.
ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Leaving:
    """A removed load whose rows are still there."""

    id: int
    table_name: str


async def remove_of_files(session: AsyncSession, file_ids: Sequence[uuid.UUID]) -> None:
    """From the commit on, no view shows rows of these files; a load of one that is under way finds itself overtaken."""
    await session.execute(_REMOVE_OF_FILES, {"ids": list(file_ids)})


async def remove_of_rules_off(session: AsyncSession) -> None:
    """The same for all files of rules that are `off`."""
    await session.execute(_REMOVE_OF_RULES_OFF)


async def purge(res: Resources) -> bool:
    """Delete some rows of removed loads; False when there are none left."""
    async with res.sessions.begin() as session:
        leaving = await fetch_first(session, Leaving, _LEAVING)
        if leaving is None:
            return False
        if await _delete(session, leaving) < ROWS_AT_ONCE:
            await session.execute(_PURGED, {"id": leaving.id})
    return True


async def _delete(session: AsyncSession, leaving: Leaving) -> int:
    statement = sql.SQL(
        "delete from {table} where load_id = {id} and row_number in ("
        "select row_number from {table} where load_id = {id} order by row_number limit {limit})"
    ).format(table=sql.Identifier(ROWS_SCHEMA, leaving.table_name), id=leaving.id, limit=ROWS_AT_ONCE)
    async with raw_connection(session) as raw, raw.cursor() as cursor:
        return int((await cursor.execute(statement)).rowcount)


_REMOVE = """
update loads set state = 'removed', fence = fence + 1, lease_until = null, leased_by = null, object_due = true
"""
_REMOVE_OF_FILES = text(f"{_REMOVE} where file_id = any(:ids) and state <> 'removed'")
# An array, so that no plan reads the loads of any other rule.
_REMOVE_OF_RULES_OFF = text(f"""{_REMOVE} where state <> 'removed' and rule_id = any(array({RULES_OFF}))""")
# A table that was never created has nothing to delete.
_LEAVING = text("""
select id, table_name from loads where state = 'removed' and loaded_columns <> '{}'
    and to_regclass(format('report_rows.%I', table_name)) is not null
order by id limit 1 for update skip locked
""")
_PURGED = text("update loads set loaded_columns = '{}' where id = :id")
