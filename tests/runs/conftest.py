"""Back-off takes no time here: what is tried again is due at once."""

import pytest

from app.resources import Resources


@pytest.fixture
async def res(res: Resources) -> Resources:
    res.random = lambda: 0.0
    return res
