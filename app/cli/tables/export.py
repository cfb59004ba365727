"""`tallyhook export`: what the views show, for other engines."""

from typing import Annotated

import typer

export = typer.Typer(help="Export what the views show, for other engines.", no_args_is_help=True)


@export.callback()
def _group() -> None:
    """One command so far; others may follow."""


@export.command()
def parquet(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="s3://…, gs://…, az://… or file:///folder.")],
    check: Annotated[
        bool, typer.Option("--check", help="Read each file back and compare rows and sums with the table.")
    ] = False,
) -> None:
    """Write every window that the views show as Parquet, laid out as in TALLYHOOK_PARQUET_STORE."""
    from app.cli.ending import run_once
    from app.cli.session import opened
    from app.sentences import count
    from app.tables.exporting import export as write

    async def act() -> int:
        async with opened() as res:
            return await write(res, to, check=check)

    written = run_once(act)
    typer.echo(f"{count(written, 'window')} written to {to}{', and read back' if check else ''}")
