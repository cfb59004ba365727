"""Killed at any instruction, the service keeps its promises: each effect of a story is a place to die at, in turn.

The service does one thing after the other here, so right after an effect is right before the next one: every run of
the tests dies right before each. `make sweep` dies on both sides of each, and writes a report.
"""

from pathlib import Path

import pytest

from tests.database import PostgresServer, fresh_database
from tests.proofs.crash_story import Told, tell

SHARDS = 4
FILE_STEPS = ("files.", "runs.download", "runs.transfer", "runs.retention", "runs.together")


@pytest.fixture(scope="module")
async def calm(postgres_server: PostgresServer, template_database: str) -> Told:
    """The story without a crash."""
    with fresh_database(postgres_server, template=template_database) as name:
        return await tell(postgres_server.url(name))


async def test_the_story_ends_well_without_a_crash(calm: Told) -> None:
    assert calm.broken == []
    assert {effect.kind for effect in calm.effects} == {"commit", "call", "piece"}


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
async def test_dying_right_before_any_effect_breaks_no_promise(database_url: str, calm: Told, shard: int) -> None:
    for effect in calm.effects[shard::SHARDS]:
        told = await tell(database_url, crash=(effect.number, "before"))

        # If a lane wakes once less, the story ends before its last effects: then there was nothing to die around.
        came_to_it = told.crashed_at is not None or effect.number > len(told.effects)
        assert came_to_it, f"the story did not come to {effect}"
        assert told.broken == [], f"after dying right before {told.crashed_at}"


@pytest.mark.slow
async def test_dying_around_a_file_that_goes_into_a_folder_leaves_no_object_behind(
    database_url: str, tmp_path: Path
) -> None:
    told = await tell(database_url, folder=tmp_path / "calm")
    assert told.broken == []
    commits = [effect for effect in told.effects if effect.kind == "commit" and effect.place.startswith(FILE_STEPS)]
    pieces = [effect for effect in told.effects if effect.kind == "piece"]
    assert {effect.place for effect in commits} >= {"files.rows.begin_all"}

    first_of_each = {effect.place: effect for effect in reversed(commits)}
    for effect in [*first_of_each.values(), *pieces[::8]]:
        told = await tell(database_url, crash=(effect.number, "before"), folder=tmp_path / str(effect.number))

        # If a lane wakes once less, the story ends before its last effects: then there was nothing to die around.
        came_to_it = told.crashed_at is not None or effect.number > len(told.effects)
        assert came_to_it, f"the story did not come to {effect}"
        assert told.broken == [], f"after dying right before {told.crashed_at}"
