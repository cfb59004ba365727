"""Back-off takes no time here: what is tried again is due at once."""

from dataclasses import replace

import pytest

from app.resources import Resources


@pytest.fixture
async def res(res: Resources) -> Resources:
    return replace(res, random=lambda: 0.0)
