"""`tallyhook checks`: whether the numbers in the files agree."""

from typing import Annotated

import typer

checks = typer.Typer(help="Checks: numbers that must agree, and whether they do.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CheckId = Annotated[int, typer.Argument(metavar="CHECK_ID", help="The verdict's id.")]
_COLUMNS = ("id", "name", "verdict", "account", "interval_start", "currency", "left", "right", "difference", "reason")


@checks.command("list")
def list_(
    *,
    verdict: Annotated[str | None, typer.Option(help="Only this verdict: agrees, differs or not_comparable.")] = None,
    name: Annotated[str | None, typer.Option(help="Only checks of this name.")] = None,
    account: Annotated[str | None, typer.Option(help="Only checks of this account.")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Every verdict, not only the newest on each subject.")
    ] = False,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest verdict on each subject, newest first."""
    from app.api.checks import shown
    from app.cli.output import show_json, show_table
    from app.cli.session import opened, run_once
    from app.tables.checks.listing import CheckFilters, ShownCheck, list_checks

    filters = CheckFilters(verdict=verdict, name=name, account=account, history=history)

    async def read() -> list[ShownCheck]:
        async with opened() as res, res.sessions() as session:
            return await list_checks(session, filters, before=None, limit=limit)

    found = run_once(read)
    if as_json:
        show_json([shown(check).model_dump(mode="json") for check in found])
    else:
        show_table(_COLUMNS, [[getattr(check, column) for column in _COLUMNS] for check in found])


@checks.command()
def show(check_id: CheckId) -> None:
    """Show one verdict."""
    from app.api.checks import shown
    from app.cli.output import show_json
    from app.cli.session import opened, run_once
    from app.tables.checks.listing import ShownCheck, get_check

    async def read() -> ShownCheck:
        async with opened() as res, res.sessions() as session:
            return await get_check(session, check_id)

    show_json(shown(run_once(read)).model_dump(mode="json"))


@checks.command()
def note(check_id: CheckId, text: Annotated[str, typer.Argument(metavar="NOTE", help="The text of the note.")]) -> None:
    """Write a note about a verdict: health then takes it as acknowledged."""
    from app.cli.session import actor, opened, run_once
    from app.tables.manual import note_check

    async def act() -> None:
        async with opened() as res, res.sessions.begin() as session:
            await note_check(session, check_id, text, by=actor())

    run_once(act)
    typer.echo(f"noted at check {check_id}")
