"""The command line on a database and a Stripe of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from app.resources import Resources
from app.simulator import Simulator
from tests.api.conftest import listening
from tests.cli.command import Ended, tallyhook
from tests.service import ADMIN_TOKEN, make_environ

Command: TypeAlias = Callable[..., Awaitable[Ended]]


@pytest.fixture
def environ(database_url: str, simulator: Simulator) -> dict[str, str]:
    """The settings of a working service."""
    return make_environ(database_url, simulator)


@pytest.fixture
def command(environ: dict[str, str], tmp_path: Path) -> Command:
    """Runs `tallyhook` with these settings, in an empty folder."""

    async def run(*arguments: object, stdin: str | None = None, **settings: str) -> Ended:
        return await tallyhook(*arguments, environ={**environ, **settings}, folder=tmp_path, stdin=stdin)

    return run


@pytest.fixture
async def remote(res: Resources, tmp_path: Path) -> AsyncIterator[Command]:
    """Runs `tallyhook` with only the address of a server and a token."""
    async with listening(res) as port:

        async def run(*arguments: object, **environ: str) -> Ended:
            given = {"TALLYHOOK_URL": f"http://127.0.0.1:{port}", "TALLYHOOK_TOKEN": ADMIN_TOKEN, **environ}
            return await tallyhook(*arguments, environ=given, folder=tmp_path)

        yield run
