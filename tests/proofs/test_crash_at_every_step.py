"""Killed at any instruction, the service keeps its promises: each effect of a story is a place to die at, in turn.

The service does one thing after the other here, so right after an effect is right before the next one: every run of
the tests dies right before each. `make sweep` dies on both sides of each, and writes a report.
"""

import pytest

from tests.proofs.crash_story import tell

SHARDS = 4


async def test_the_story_ends_well_without_a_crash(database_url: str) -> None:
    told = await tell(database_url)

    assert told.broken == []
    assert {effect.kind for effect in told.effects} == {"commit", "call", "piece"}


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
async def test_dying_right_before_any_effect_breaks_no_promise(database_url: str, shard: int) -> None:
    effects = (await tell(database_url)).effects

    for effect in effects[shard::SHARDS]:
        told = await tell(database_url, crash=(effect.number, "before"))

        assert told.crashed_at is not None, f"the story did not come to {effect}"
        assert told.broken == [], f"after dying right before {told.crashed_at}"
