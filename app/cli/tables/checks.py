"""`tallyhook checks`: whether the numbers in the files agree."""

from typing import Annotated

import typer

from app.cli.api import Api, AsJson, Limit, command

checks = typer.Typer(help="Checks: numbers that must agree, and whether they do.", no_args_is_help=True)


def _check_id(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise typer.BadParameter(f"{text} is not a verdict's id: `tallyhook checks list` shows them")


CheckId = Annotated[int, typer.Argument(metavar="CHECK_ID", help="The verdict's id.", parser=_check_id)]
_COLUMNS = ("id", "name", "verdict", "account", "window", "currency", "left", "right", "difference", "reason")


@command(checks, "list")
async def list_(
    api: Api,
    *,
    verdict: Annotated[str | None, typer.Option(help="Only this verdict: agrees, differs or not_comparable.")] = None,
    name: Annotated[str | None, typer.Option(help="Only checks of this name.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only checks of this rule: its name or id.")] = None,
    run: Annotated[str | None, typer.Option(help="Only checks of this run's file: the run's id.")] = None,
    account: Annotated[str | None, typer.Option(help="Only checks of this account.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="Windows from this local date on.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Windows before this local date.")] = None,
    through: Annotated[str | None, typer.Option("--through", help="Windows through this local date.")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Every verdict, not only the newest on each subject.")
    ] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest verdict on each subject, newest first."""
    from app.cli.output import show_list

    found = await api.list(
        "/v1/checks", limit=limit, verdict=verdict, name=name, rule=rule, run_id=run, account=account,
        from_=first, to=to, through=through, history=history or None,
    )  # fmt: skip
    show_list(_COLUMNS, found, as_json=as_json)


@command(checks)
async def show(api: Api, check_id: CheckId, as_json: AsJson = False) -> None:
    """Show one verdict."""
    from app.cli.output import show_fields

    show_fields(await api.get(f"/v1/checks/{check_id}"), as_json=as_json)


@command(checks)
async def note(
    api: Api, check_id: CheckId, text: Annotated[str, typer.Argument(metavar="NOTE", help="The text of the note.")]
) -> None:
    """Write a note about a verdict: health then treats it as acknowledged."""
    await api.post(f"/v1/checks/{check_id}/note", {"note": text})
    typer.echo(f"noted on check {check_id}")
