"""The command line on a database and a Stripe of its own."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from app.simulator import Simulator
from tests.cli.command import Ended, tallyhook
from tests.service import make_environ

Command: TypeAlias = Callable[..., Awaitable[Ended]]


@pytest.fixture
def environ(database_url: str, simulator: Simulator) -> dict[str, str]:
    """The settings of a service that works."""
    return make_environ(database_url, simulator)


@pytest.fixture
def command(environ: dict[str, str], tmp_path: Path) -> Command:
    """Runs `tallyhook` with these settings, in an empty folder."""

    async def run(*arguments: object, stdin: str | None = None, **settings: str) -> Ended:
        return await tallyhook(*arguments, environ={**environ, **settings}, folder=tmp_path, stdin=stdin)

    return run
