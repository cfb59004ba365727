"""The command line. Errors are one clear line and exit code 1."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from app import __version__
from app.errors import TallyhookError

_HELP = "Automates Stripe's financial reports: every report you are owed, complete, once, on time, with proof."
app = typer.Typer(
    name="tallyhook",
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script: run a command, and show expected errors as one line."""
    try:
        app()
    except Exception as error:
        line = _explained(error)
        if line is None:
            raise
        sys.exit(f"tallyhook: {line}")


def _explained(error: Exception) -> str | None:
    """The message to show instead of a traceback; None for unexpected errors."""
    if isinstance(error, TallyhookError):
        return str(error)
    from app.db.errors import is_transient

    if isinstance(error, OSError) or not is_transient(error):
        return None
    said = str(getattr(error, "orig", None) or error).strip().splitlines()
    return f"the database cannot be reached: {said[0] if said else type(error).__name__}"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tallyhook {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]


@app.callback(help=_HELP)
def _before_any_command(version: Version = False) -> None:
    pass


def _register() -> None:
    from app.cli.api import command as of_api
    from app.cli.commands import demo, migrate, serve, worker
    from app.cli.connected_accounts import connected_accounts
    from app.cli.doctor.command import doctor
    from app.cli.events import events
    from app.cli.login import login_link
    from app.cli.looking import audit, pack, report_types
    from app.cli.rules import looking  # noqa: F401 - registers its commands
    from app.cli.rules.command import rules
    from app.cli.runs.command import runs
    from app.cli.simulator import simulator
    from app.cli.tables.checks import checks
    from app.cli.tables.command import tables
    from app.cli.tables.export import export
    from app.cli.targets import targets

    every: tuple[Callable[..., None], ...] = (serve, worker, migrate, demo, simulator, doctor, login_link)
    for command in every:
        app.command(command.__name__.replace("_", "-"))(command)
    for asked in (report_types, audit, pack):
        of_api(app)(asked)
    for name, group in (
        ("rules", rules),
        ("runs", runs),
        ("events", events),
        ("tables", tables),
        ("checks", checks),
        ("export", export),
        ("targets", targets),
        ("connected-accounts", connected_accounts),
    ):
        app.add_typer(group, name=name)


_register()
