"""What short commands have in common: settings, an existing database."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import typer

from app.errors import TallyhookError
from app.observability.logs import configure_logs
from app.settings import Settings, load_settings

if TYPE_CHECKING:
    from app.resources import Resources


def quiet_settings() -> Settings:
    """The settings; shows their warnings, and logs only errors."""
    settings = load_settings()
    quieten(settings)
    for warning in settings.warnings:
        typer.echo(f"tallyhook: {warning}", err=True)
    return settings


def quieten(settings: Settings | None = None) -> None:
    """Log only errors: these commands print their own results."""
    configure_logs(secrets=() if settings is None else settings.secret_values())
    logging.getLogger().setLevel(logging.ERROR)


@asynccontextmanager
async def opened() -> "AsyncIterator[Resources]":
    """The service's resources on an existing database at head: these commands neither create nor migrate one."""
    from app.db.migrate import require_schema
    from app.resources import has_database, open_resources

    settings = quiet_settings()
    if not has_database(settings):
        raise TallyhookError(
            f"there is no database in {settings.data_dir} yet: `tallyhook migrate` or `serve` creates it, "
            "or point DATABASE_URL or TALLYHOOK_DATA_DIR to it"
        )
    async with open_resources(settings, schema=require_schema) as res:
        yield res


def actor() -> str:
    """The actor for histories: `cli:` and the account of the operating system."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        import os

        return f"cli:{os.getuid()}"
