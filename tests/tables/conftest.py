"""Tests here load files in a real child process; it ends with its test."""

from collections.abc import AsyncIterator

import pytest

from app.resources import Resources
from app.tables import loading


@pytest.fixture
async def tables(res: Resources) -> AsyncIterator[Resources]:
    """The service's resources, whose child ends with the test."""
    yield res
    await loading.end_child(res)
