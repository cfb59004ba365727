"""Tests here load files in a real child process; it ends with its test."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.resources import Resources
from app.tables import loading
from tests.api.conftest import client_of


@pytest.fixture
async def tables(res: Resources) -> AsyncIterator[Resources]:
    """The service's resources, whose child ends with the test."""
    yield res
    await loading.end_child(res)


@pytest.fixture
async def api(tables: Resources) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the admin API, with the admin token."""
    async with client_of(tables) as client:
        yield client
