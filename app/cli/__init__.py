"""The command line: one command, one file where it is long. Errors are one clear line and exit code 1."""

import sys
from collections.abc import Callable

import typer
from sqlalchemy.exc import OperationalError

from app.errors import TallyhookError

app = typer.Typer(
    name="tallyhook",
    help="Automates Stripe's financial reports: every report that is owed is there, whole, once, soon, with proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script: run a command, and turn what we raise on purpose into one line."""
    try:
        app()
    except TallyhookError as error:
        sys.exit(f"tallyhook: {error}")
    except OperationalError as error:
        sys.exit(f"tallyhook: the database cannot be reached: {str(error.orig).strip().splitlines()[0]}")


def _register() -> None:
    from app.cli.commands import demo, migrate, serve, worker
    from app.cli.simulator import simulator

    every: tuple[Callable[..., None], ...] = (serve, worker, migrate, demo, simulator)
    for command in every:
        app.command()(command)


_register()
