"""Manual actions: load again, approve or ignore a column, write a note. Audited. Database only."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.rows import fetch, fetch_first
from app.errors import Conflict, Gone, NotFound
from app.resources import Resources
from app.tables import loads
from app.tables.catalogue import Kind, family_of, find_column
from app.tables.columns import ColumnState, suggested_kind
from app.tables.listing import LoadFilters

# Short transactions, so that work on these loads never waits long.
BATCH = 1000
NO_LOAD = "missing"


@dataclass(frozen=True, slots=True)
class _Run:
    """A run, its stored file, its load, and what its rule says about loading; None where there is none."""

    state: str
    stored_at: datetime | None
    removed_at: datetime | None
    load_id: int | None
    table_state: str | None


@dataclass(frozen=True, slots=True)
class _Stored:
    """A run with a file, and its load; None where there is none."""

    run_id: uuid.UUID
    report_type: str
    load_id: int | None
    table_name: str | None

    @property
    def table(self) -> str:
        return self.table_name or family_of(self.report_type).table


@dataclass(frozen=True, slots=True)
class _Column:
    state: str
    kind: str


async def load_run(session: AsyncSession, run_id: uuid.UUID, *, by: str) -> None:
    """Load the file of a run, again if it was loaded. Raises NotFound, Conflict without a file, Gone without bytes."""
    row = await fetch_first(session, _Run, _RUN, {"id": run_id})
    if row is None:
        raise NotFound(f"there is no run {run_id}: GET /v1/runs lists them")
    if row.stored_at is None:
        raise Conflict(f"run {run_id} has no file yet: it is {row.state}")
    if row.removed_at is not None:
        raise Gone(f"the file of run {run_id} was removed")
    if row.table_state == "off":
        raise Conflict(f"run {run_id} is not loaded: its rule has `table.state: off`; change that first")
    if row.load_id is None:
        await loads.owe(session, [run_id])
    else:
        await loads.again(session, [row.load_id])
    await audit.note(session, actor=by, action="load.asked", subject=run_id)


async def load_matching(res: Resources, filters: LoadFilters, *, again: bool, by: str) -> int:
    """Load the stored files that match and whose load is missing, failed or removed; with `again`, loaded ones too.
    Returns how many. Begins with the newest runs."""
    states = {NO_LOAD, "failed", "removed", *(["loaded"] if again else [])}
    states &= {filters.state} if filters.state else states
    values = {"states": sorted(states), "rule_id": filters.rule_id, "account": filters.account, "limit": BATCH}
    asked, before = 0, uuid.UUID(int=2**128 - 1)
    while True:
        async with res.sessions.begin() as session:
            found = await fetch(session, _Stored, _MATCHING, {**values, "before": before})
            wanted = [one for one in found if filters.table in (None, one.table)]
            done = await loads.owe(session, [one.run_id for one in wanted if one.load_id is None])
            done += await loads.again(session, [one.load_id for one in wanted if one.load_id is not None])
            if done:
                await audit.note(session, actor=by, action="loads.asked", after={"loads": done, "again": again})
        asked += done
        if len(found) < BATCH:
            return asked
        before = found[-1].run_id


async def decide_column(
    session: AsyncSession, table: str, column: str, state: ColumnState, *, kind: Kind | None, personal: bool, by: str
) -> int:
    """Approve or ignore a column that was set aside; returns how many loads are repeated. Raises NotFound, Conflict."""
    found = await fetch_first(session, _Column, _COLUMN, {"table": table, "column": column})
    if found is None:
        raise NotFound(f"no file of table {table!r} has a column {column!r}")
    if found.state not in (ColumnState.SET_ASIDE, ColumnState.IGNORED, ColumnState.APPROVED):
        raise Conflict(f"the column is {found.state}: only unknown columns are approved or ignored")
    if found.state == ColumnState.APPROVED and kind is not None and kind != found.kind:
        raise Conflict(f"the column is already of kind {found.kind}, which never changes")
    known = find_column(column)
    decided = kind or (Kind(found.kind) if found.state == ColumnState.APPROVED else None)
    decided = decided or (known.kind if known is not None else suggested_kind(column))
    values = {"table": table, "column": column, "state": state.value, "kind": decided.value, "personal": personal}
    await session.execute(_DECIDE, values)
    await audit.note(
        session, actor=by, action=f"column.{state.value}", subject=f"{table}.{column}",
        before={"state": found.state}, after={"kind": decided.value, "personal": personal},
    )  # fmt: skip
    if state is not ColumnState.APPROVED:
        return 0
    ids = (await session.execute(_WITH_COLUMN, {"table": table, "column": column})).scalars().all()
    return await loads.again(session, ids)


async def note_check(session: AsyncSession, check_id: int, note: str, *, by: str) -> None:
    """Write a note about a verdict. Raises NotFound."""
    if (await session.execute(_CHECK, {"id": check_id})).first() is None:
        raise NotFound(f"there is no check {check_id}")
    await session.execute(_NOTE, {"id": check_id, "note": note, "actor": by})
    await audit.note(session, actor=by, action="check.noted", subject=check_id, after={"note": note})


_RUN = text("""
select runs.state, files.stored_at, files.removed_at, loads.id as load_id, rules."table" ->> 'state' as table_state
from runs left join files on files.run_id = runs.id and files.stored_at is not null
left join loads on loads.run_id = runs.id left join rules on rules.id = runs.rule_id where runs.id = :id
""")
_MATCHING = text(f"""
select runs.id as run_id, runs.report_type, loads.id as load_id, loads.table_name
from files join runs on runs.id = files.run_id left join loads on loads.run_id = files.run_id
where files.run_id < :before and files.stored_at is not null and files.removed_at is null
    and coalesce(loads.state, '{NO_LOAD}') = any(cast(:states as text[]))
    and (cast(:rule_id as uuid) is null or files.rule_id = :rule_id)
    and (cast(:account as text) is null or files.account = :account)
order by files.run_id desc limit :limit
""")  # noqa: S608 - of constants only
_COLUMN = text("""
select state, kind from table_columns where table_name = :table and column_name = :column for update
""")
_DECIDE = text("""
update table_columns set state = :state, kind = :kind, personal = :personal
where table_name = :table and column_name = :column
""")
_WITH_COLUMN = text("""
select id from loads where table_name = :table and :column = any(header) and state in ('loaded', 'failed')
order by id desc
""")
_CHECK = text("select 1 from checks where id = :id")
_NOTE = text("insert into check_notes (check_id, note, actor) values (:id, :note, :actor)")
