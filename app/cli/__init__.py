"""The command line. Errors are one clear line and exit code 1."""

import sys
from collections.abc import Callable

import typer

from app.errors import TallyhookError

app = typer.Typer(
    name="tallyhook",
    help="Automates Stripe's financial reports: every report you are owed, complete, once, on time, with proof.",
    no_args_is_help=True,
    add_completion=False,
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
    from app.db.engine import is_transient

    if isinstance(error, OSError) or not is_transient(error):
        return None
    said = str(getattr(error, "orig", None) or error).strip().splitlines()
    return f"the database cannot be reached: {said[0] if said else type(error).__name__}"


def _register() -> None:
    from app.cli.commands import demo, migrate, serve, worker
    from app.cli.doctor.command import doctor
    from app.cli.events import events
    from app.cli.login import login_link
    from app.cli.rules.command import rules
    from app.cli.runs.command import runs
    from app.cli.simulator import simulator
    from app.cli.tables.checks import checks
    from app.cli.tables.command import tables
    from app.cli.tables.export import export

    every: tuple[Callable[..., None], ...] = (serve, worker, migrate, demo, simulator, doctor, login_link)
    for command in every:
        app.command(command.__name__.replace("_", "-"))(command)
    for name, group in (
        ("rules", rules),
        ("runs", runs),
        ("events", events),
        ("tables", tables),
        ("checks", checks),
        ("export", export),
    ):
        app.add_typer(group, name=name)


_register()
