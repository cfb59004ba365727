"""Loads for display: their sums, their rows, and how revisions differ. Only reads."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.rows import class_row, dict_row
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import raw_connection
from app.db.rows import fetch, fetch_first
from app.errors import Conflict, Gone, NotFound
from app.tables import diffs
from app.tables.catalogue import family_of, is_metadata
from app.tables.columns import METADATA, is_withheld_by_default, sql_name
from app.tables.ddl import ROWS_SCHEMA
from app.tables.diffs import Pair, Side, Summary
from app.tables.facts import TOTAL_LINE
from app.tables.overview import columns_of


@dataclass(frozen=True, slots=True)
class ShownLoad:
    """A load; `table` is its table's name."""

    id: int
    run_id: uuid.UUID
    rule_id: uuid.UUID | None
    account: str
    connected_account: str | None
    report_type: str
    table: str
    revision: int
    state: str
    is_current: bool
    leads: bool
    rows: int | None
    header: list[str] | None
    header_sha256: str | None
    loaded_columns: list[str] | None
    set_aside: list[str] | None
    first_created: str | None
    last_created: str | None
    key_repeats: int | None
    net_breaks: int | None
    error: dict[str, Any] | None
    loaded_at: datetime | None


@dataclass(frozen=True, slots=True)
class ShownSum:
    """The sums of a category of a file in a currency."""

    category: str
    currency: str
    rows: int
    gross: Decimal | None
    fee: Decimal | None
    net: Decimal | None


@dataclass(frozen=True, slots=True)
class LoadFilters:
    """A filter of loads; None matches any."""

    state: str | None = None
    table: str | None = None
    rule_id: uuid.UUID | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of a file: its number, and its values as texts."""

    row: int
    values: dict[str, str | None] = field(default_factory=dict)


async def loads_of(session: AsyncSession, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, ShownLoad]:
    """The loads of these runs, by run."""
    found = await fetch(session, ShownLoad, _LOADS_OF, {"run_ids": list(run_ids)})
    return {load.run_id: load for load in found}


async def list_loads(session: AsyncSession, filters: LoadFilters, *, before: int | None, limit: int) -> list[ShownLoad]:
    """Up to `limit` loads that match, newest first, starting after `before`."""
    return await fetch(session, ShownLoad, _LOADS, {**asdict(filters), "before": before, "limit": limit})


async def get_load(session: AsyncSession, run_id: uuid.UUID, *, loaded: bool = False) -> ShownLoad:
    """The load of a run. Raises NotFound and, if it must be `loaded`, Conflict and Gone."""
    load = (await loads_of(session, [run_id])).get(run_id)
    if load is None:
        if (await session.execute(_RUN_EXISTS, {"id": run_id})).first() is None:
            raise NotFound(f"there is no run {run_id}: GET /v1/runs lists them")
        raise Conflict(f"the file of run {run_id} is not loaded: load it with POST /v1/runs/{run_id}/load")
    if loaded and load.state == "removed":
        raise Gone(f"the rows of run {run_id} were removed with its file")
    if loaded and load.loaded_at is None:
        raise Conflict(f"the file of run {run_id} is not loaded: its load is {load.state}")
    return load


async def sums_of(session: AsyncSession, load: ShownLoad) -> list[ShownSum]:
    """The sums of a load's rows, without `total` lines."""
    return await fetch(session, ShownSum, _SUMS, {"id": load.id, "total": TOTAL_LINE})


async def rows_of(session: AsyncSession, load: ShownLoad, *, after: int, limit: int, personal: bool) -> list[FileRow]:
    """Up to `limit` rows of a loaded file, starting after row `after`; without personal columns, unless they are
    requested."""
    columns = await shown_columns(session, load.table, load.loaded_columns or [], personal=personal)
    if not load.loaded_columns:
        return []
    values = [sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns]
    statement = sql.SQL(
        "select row_number, array[{values}]::text[] as found from {table} where load_id = {id} and row_number > {after}"
        " order by row_number limit {limit}"
    ).format(
        values=sql.SQL(", ").join(values), table=sql.Identifier(ROWS_SCHEMA, load.table), id=load.id, after=after,
        limit=limit,
    )  # fmt: skip
    async with raw_connection(session) as raw, raw.cursor(row_factory=dict_row) as cursor:
        found = await (await cursor.execute(statement)).fetchall()
    return [FileRow(row["row_number"], dict(zip(columns, row["found"], strict=True))) for row in found]


async def shown_columns(session: AsyncSession, table: str, names: Sequence[str], *, personal: bool) -> list[str]:
    """The table's names of these columns of a file, in their order; personal ones on request only."""
    known = {column.name: column.personal for column in await columns_of(session, table)}
    wanted = [name for name in names if personal or not known.get(name, is_withheld_by_default(name))]
    return list(dict.fromkeys(METADATA if is_metadata(name) else sql_name(name) for name in wanted))


@dataclass(frozen=True, slots=True)
class DiffRow:
    """A row that is different, by its key: its old and its new values."""

    key: str
    row: int | None
    old: dict[str, str | None] | None
    new: dict[str, str | None] | None


async def compare(session: AsyncSession, load: ShownLoad, pair: Pair) -> Summary:
    """How the two differ: as found when the file was loaded, or as found now."""
    kept = await fetch_first(session, Summary, _DIFF, {"id": load.id, "against": pair.old.id})
    if kept is not None:
        return kept
    async with raw_connection(session) as raw, raw.cursor(row_factory=dict_row) as cursor:
        found = await (await cursor.execute(diffs.summary(load.table, pair))).fetchone()
        sums = await (await cursor.execute(diffs.SUMS, diffs.sums_values(pair))).fetchall()
    return diffs.summed_up(pair, found, sums)


async def pair_of(session: AsyncSession, load: ShownLoad, against: int | None) -> Pair:
    """A load and the revision to compare it with: the loaded one before it, or the given one. Raises NotFound."""
    sides = await fetch(session, Side, _SIDES, {"id": load.id})
    new = next((side for side in sides if side.id == load.id), None)
    if new is None:
        raise NotFound("the file is not loaded")
    fits = [side for side in sides if (side.revision < new.revision if against is None else side.revision == against)]
    old = fits[-1] if fits else None
    if old is None:
        which = "earlier revision" if against is None else f"revision {against}"
        raise NotFound(f"there is no loaded {which} of this window to compare with")
    return diffs.pair_of(family_of(load.report_type), old, new)


async def diff_rows(
    session: AsyncSession, load: ShownLoad, pair: Pair, kind: str, *, after: str, limit: int, personal: bool
) -> list[DiffRow]:
    """Rows that were added, removed or changed, after a key. Raises Conflict if the report has no key."""
    if not pair.key:
        raise Conflict("rows of this report have no key to tell them apart: only their number is compared")
    names = [name for name in load.loaded_columns or [] if name not in pair.left_out]
    shown = await shown_columns(session, load.table, names, personal=personal)
    async with raw_connection(session) as raw, raw.cursor(row_factory=class_row(DiffRow)) as cursor:
        statement = diffs.rows(load.table, pair, kind, shown)
        values = {"after": after, "limit": limit}
        found: list[DiffRow] = await (await cursor.execute(statement, values)).fetchall()
    return found


_LOAD = """
select id, run_id, rule_id, account, connected_account, report_type, table_name as table, revision, state, is_current,
    leads, rows, header, header_sha256, loaded_columns, set_aside, first_created, last_created, key_repeats, net_breaks,
    error, loaded_at
from loads
"""
_LOADS_OF = text(f"{_LOAD} where run_id = any(:run_ids)")
_LOADS = text(f"""{_LOAD}
where (cast(:state as text) is null or state = :state) and (cast(:table as text) is null or table_name = :table)
    and (cast(:rule_id as uuid) is null or rule_id = :rule_id)
    and (cast(:account as text) is null or account = :account)
    and (cast(:before as bigint) is null or id < :before)
order by id desc limit :limit
""")
_RUN_EXISTS = text("select 1 from runs where id = :id")
_SUMS = text("""
select category, currency, rows, gross, fee, net from load_sums where load_id = :id and category <> :total
order by category, currency
""")
_DIFF = text("""
select against_revision as against, added, removed, changed, columns, left_out, sums from diffs
where load_id = :id and against_load_id = :against
""")
_SIDES = text("""
select other.id, other.revision, other.loaded_columns, other.key_repeats from loads as one join loads as other
    on other.id = one.id or (other.rule_id = one.rule_id and other.window_key is not distinct from one.window_key
        and other.connected_account is not distinct from one.connected_account)
where one.id = :id and other.state <> 'removed' and other.loaded_at is not null and other.loaded_columns <> '{}'
order by other.revision
""")
