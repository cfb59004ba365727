"""A search for the story that breaks a promise: a fixed budget in every run of the tests, a long one by `make search`.

It shrinks what it finds to the shortest such story, and prints that as a program.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.proofs.machine import World

# The same stories in every run, so that a change is blamed for what it did.
FIXED = settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True, database=None)


@pytest.mark.slow
def test_no_story_breaks_a_promise(database_url: str) -> None:
    searching = settings.get_current_profile_name() == "search"
    budget = settings(settings.get_profile("search") if searching else FIXED, suppress_health_check=list(HealthCheck))

    class Here(World):
        url = database_url

    run_state_machine_as_test(Here, settings=budget)
