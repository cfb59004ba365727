"""`tallyhook tables`: the tables of reports, what is loaded into them, and who may read them."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.cli.api import Api, AsJson, command

tables = typer.Typer(help="Tables: the rows of stored files, for queries in SQL.", no_args_is_help=True)
Table = Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")]
Column = Annotated[str, typer.Argument(metavar="COLUMN", help="The column's name in the file.")]
_COLUMNS = ("name", "rows", "files", "failed", "newest_interval_end", "set_aside")
_OF_CHANGE = ("rule", "window", "added", "removed", "connected_account")
_OF_COLUMN = ("name", "state", "kind", "personal", "zone", "meaning")


@command(tables, "list")
async def list_(api: Api, as_json: AsJson = False) -> None:
    """List the tables that files were loaded into."""
    from app.cli.output import show_list

    show_list(_COLUMNS, await api.list("/v1/tables", limit=10_000), as_json=as_json)


@command(tables)
async def show(
    api: Api,
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="The table's name; default with --dbt: all.")
    ] = None,
    dbt: Annotated[bool, typer.Option("--dbt", help="Print a sources.yml for dbt.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a table's columns and where they changed; or with --dbt, a sources.yml of one or all tables."""
    from app.cli.output import show_list

    if table is None and not dbt:
        raise typer.BadParameter("name a table, or give --dbt")
    names = [table] if table is not None else [one["name"] for one in await api.list("/v1/tables", limit=10_000)]
    found = [await api.get(f"/v1/tables/{quote(name, safe='')}") for name in names]
    if dbt:
        from app.cli.tables.dbt import sources

        typer.echo(sources(found), nl=False)
    else:
        show_list(_OF_COLUMN, found[0]["columns"], as_json=as_json)
        if found[0]["changes"] and not as_json:
            typer.echo("changed:")
            show_list(_OF_CHANGE, found[0]["changes"], as_json=False)


@command(tables)
async def load(
    api: Api,
    *,
    table: Annotated[str | None, typer.Option("--table", help="Only files of this table.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Only files of this account.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also files that are already loaded.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load stored files that are not loaded yet or failed to load, including those older than the tables."""
    from app.cli.output import show_json
    from app.sentences import count

    wanted = {name: value for name, value in {"table": table, "account": account}.items() if value is not None}
    found = await api.post("/v1/loads", {**wanted, "again": again})
    if as_json:
        show_json(found)
    else:
        typer.echo(f"{count(found['loads'], 'file is', 'files are')} queued; a worker loads what is queued")


@command(tables)
async def approve(
    api: Api,
    table: Table,
    column: Column,
    kind: Annotated[str | None, typer.Option(help="decimal, integer, timestamp or text.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="It contains no personal data: show it in all views.")
    ] = False,
) -> None:
    """Approve an unknown column, and reload the files that have it."""
    from app.sentences import count

    loads = await _decide(api, table, column, {"state": "approved", "kind": kind, "personal": not public})
    typer.echo(f"{table}.{column} is approved; {count(loads, 'file')} will be loaded again")


@command(tables)
async def ignore(api: Api, table: Table, column: Column) -> None:
    """Ignore an unknown column."""
    await _decide(api, table, column, {"state": "ignored"})
    typer.echo(f"{table}.{column} is ignored")


async def _decide(api: Api, table: str, column: str, asked: dict[str, Any]) -> int:
    given = {name: value for name, value in asked.items() if value is not None}
    path = f"/v1/tables/{quote(table, safe='')}/columns/{quote(column, safe='')}"
    return int((await api.post(path, given))["loads"])


@tables.command()
def grant(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="A database role.")],
    personal: Annotated[bool, typer.Option("--personal", help="Also the views with personal columns.")] = False,
) -> None:
    """Let a database role read the views, present and future, and nothing else."""
    from app.cli.ending import run_once
    from app.cli.session import actor, opened
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
    from app.cli.ending import run_once
    from app.cli.session import actor, opened
    from app.tables import grants

    async def act() -> None:
        async with opened() as res, res.sessions.begin() as session:
            await grants.drop(session, table, res.settings.reports_schema, by=actor())

    run_once(act)
    typer.echo(f"{table} is dropped")
