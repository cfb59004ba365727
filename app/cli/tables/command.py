"""`tallyhook tables`: the tables of reports, what is loaded into them, and who may read them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.tables.columns import ColumnState

tables = typer.Typer(help="Tables: the rows of stored files, for queries in SQL.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Table = Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")]
Column = Annotated[str, typer.Argument(metavar="COLUMN", help="The column's name in the file.")]
_COLUMNS = ("name", "rows", "files", "failed", "newest_interval_end", "set_aside")


@tables.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the tables that files were loaded into."""
    from app.api.schemas.tables import TableOut
    from app.cli.output import show_json, show_table
    from app.cli.session import opened, run_once
    from app.tables.listing import list_tables

    async def read() -> list[TableOut]:
        async with opened() as res, res.sessions() as session:
            return [TableOut.model_validate(table) for table in await list_tables(session)]

    found = run_once(read)
    if as_json:
        show_json([table.model_dump(mode="json") for table in found])
        return
    rows = [{**dict(table), "set_aside": ", ".join(table.set_aside)} for table in found]
    show_table(_COLUMNS, [[row[name] for name in _COLUMNS] for row in rows])


@tables.command()
def show(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="The table's name; default with --dbt: all.")
    ] = None,
    dbt: Annotated[bool, typer.Option("--dbt", help="Print a sources.yml for dbt.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a table's columns and what they mean; or with --dbt, a sources.yml of one or all tables."""
    from app.cli.output import show_json, show_table
    from app.cli.session import opened, run_once
    from app.cli.tables.dbt import sources
    from app.tables import listing

    if table is None and not dbt:
        raise typer.BadParameter("name a table, or give --dbt")

    async def read() -> tuple[Any, Any, str]:
        async with opened() as res, res.sessions() as session:
            found = await listing.list_tables(session) if table is None else [await listing.get_table(session, table)]
            columns = {one.name: await listing.columns_of(session, one.name) for one in found}
            return found, columns, res.settings.reports_schema

    found, columns, schema = run_once(read)
    if dbt:
        typer.echo(sources(found, columns, schema), nl=False)
        return
    headings = ("name", "state", "kind", "personal", "zone", "meaning")
    rows = [[getattr(column, name) for name in headings] for one in found for column in columns[one.name]]
    if as_json:
        show_json([dict(zip(headings, row, strict=True)) for row in rows])
    else:
        show_table(headings, rows)


@tables.command()
def load(
    *,
    table: Annotated[str | None, typer.Option("--table", help="Only files of this table.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Only files of this account.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also files that are loaded already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load stored files that are not loaded or failed, including files older than the tables."""
    from app.cli.output import show_json
    from app.cli.session import actor, opened, run_once
    from app.tables.listing import LoadFilters
    from app.tables.manual import load_matching

    async def act() -> int:
        async with opened() as res, res.sessions.begin() as session:
            return await load_matching(session, LoadFilters(table=table, account=account), again=again, by=actor())

    loads = run_once(act)
    if as_json:
        show_json({"loads": loads})
    else:
        typer.echo(f"{loads} file{' is' if loads == 1 else 's are'} queued; a worker loads them")


@tables.command()
def approve(
    table: Table,
    column: Column,
    kind: Annotated[str | None, typer.Option(help="decimal, integer, timestamp or text.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="It contains no personal data: show it in all views.")
    ] = False,
) -> None:
    """Approve an unknown column, and reload the files that have it."""
    from app.tables.catalogue import Kind
    from app.tables.columns import ColumnState

    if kind is not None and kind not in list(Kind):
        raise typer.BadParameter("--kind must be decimal, integer, timestamp or text")
    loads = _decide(table, column, ColumnState.APPROVED, kind=kind, personal=not public)
    typer.echo(f"{table}.{column} is approved; {loads} files are loaded again")


@tables.command()
def ignore(table: Table, column: Column) -> None:
    """Ignore an unknown column."""
    from app.tables.columns import ColumnState

    _decide(table, column, ColumnState.IGNORED, kind=None, personal=True)
    typer.echo(f"{table}.{column} is ignored")


def _decide(table: str, column: str, state: "ColumnState", *, kind: str | None, personal: bool) -> int:
    from app.cli.session import actor, opened, run_once
    from app.tables.catalogue import Kind
    from app.tables.manual import decide_column

    async def act() -> int:
        async with opened() as res, res.sessions.begin() as session:
            of_kind = None if kind is None else Kind(kind)
            return await decide_column(session, table, column, state, kind=of_kind, personal=personal, by=actor())

    return run_once(act)


@tables.command()
def grant(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="A role of the database.")],
    personal: Annotated[bool, typer.Option("--personal", help="Also the views with personal columns.")] = False,
) -> None:
    """Let a role of the database read the views, present and future, and nothing else."""
    from app.cli.session import actor, opened, run_once
    from app.db.report_schemas import personal_schema
    from app.tables import grants

    async def act() -> str:
        async with opened() as res, res.sessions.begin() as session:
            schema = res.settings.reports_schema
            await grants.grant(session, role, schema, by=actor())
            if personal:
                await grants.grant(session, role, personal_schema(schema), by=actor())
            return schema

    schema = run_once(act)
    typer.echo(f"{role} may read the views of {schema}{f' and {schema}_personal' if personal else ''}")
    typer.echo(f"recommended: ALTER ROLE {role} SET default_transaction_read_only = on;")
    typer.echo(f"             ALTER ROLE {role} SET statement_timeout = '5min';")


@tables.command()
def drop(table: Table) -> None:
    """Remove a table, its views and its rows; the files stay, and `tables load` restores the table."""
    from app.cli.session import actor, opened, run_once
    from app.tables import grants

    async def act() -> None:
        async with opened() as res, res.sessions.begin() as session:
            await grants.drop(session, table, res.settings.reports_schema, by=actor())

    run_once(act)
    typer.echo(f"{table} is dropped")
