"""Tables: what can be queried in SQL, what its columns mean, and what to do with unknown ones."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.checks import shown_window
from app.api.http.dependencies import CalledBy, Res, Session, TheSettings, for_every_account
from app.api.http.paging import page_by_name
from app.api.schemas.common import Page, PageIn
from app.api.schemas.tables import (
    ColumnIn,
    ColumnOut,
    ColumnsChangedOut,
    LeaderOut,
    LoadsAskedOut,
    TableDetailOut,
    TableName,
    TableOut,
)
from app.tables import manual, overview
from app.tables.columns import ColumnState
from app.tables.overview import ColumnsChanged

router = APIRouter(prefix="/v1/tables", tags=["tables"])

_Column = Annotated[str, Path(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


@router.get("")
async def list_tables(session: Session, asked: Annotated[PageIn, Query()]) -> Page[TableOut]:
    """The tables that have files, by name."""
    tables = [TableOut.model_validate(table) for table in await overview.list_tables(session)]
    return page_by_name("tables", tables, asked, lambda table: table.name)


@router.get("/{table}")
async def show_table(settings: TheSettings, session: Session, table: TableName) -> TableDetailOut:
    """One table: its columns with their meaning, the rules whose windows its plain view shows, and where the columns
    of its files changed."""
    found = await overview.get_table(session, table)
    columns = [ColumnOut.model_validate(column) for column in await overview.columns_of(session, table)]
    leaders = [LeaderOut.model_validate(leader) for leader in await overview.leaders_of(session, found)]
    changes = [_shown(change) for change in await overview.changes_of(session, table)]
    shown = dict(TableOut.model_validate(found))
    return TableDetailOut(**shown, in_schema=settings.reports_schema, columns=columns, leaders=leaders, changes=changes)


def _shown(change: ColumnsChanged) -> ColumnsChangedOut:
    window = shown_window(change.interval_start, change.interval_end, change.timezone)
    names = [name for name in ColumnsChangedOut.model_fields if name != "window"]
    return ColumnsChangedOut(window=window, **{name: getattr(change, name) for name in names})


@router.post("/{table}/columns/{column}", status_code=202)
async def decide_column(
    res: Res, caller: CalledBy, table: TableName, column: _Column, asked: ColumnIn
) -> LoadsAskedOut:
    """Approve a column that was set aside, and reload the files that have it; or ignore the column."""
    for_every_account(res)
    async with res.sessions.begin() as session:
        loads = await manual.decide_column(
            session, table, column, ColumnState(asked.state), kind=asked.kind, personal=asked.personal, by=caller.name
        )
    return LoadsAskedOut(loads=loads)
