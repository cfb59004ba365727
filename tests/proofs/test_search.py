"""A search for the story that breaks a promise: a fixed budget in every run of the tests, a long one by `make search`.

It shrinks what it finds to the shortest such story, and prints that as a program.
"""

import os
import sys
import time

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
    told = 0

    class Here(World):
        url = database_url

        def teardown(self) -> None:
            nonlocal told
            told += 1
            super().teardown()

    began = time.monotonic()
    seconds = 60 * float(os.environ.get("SEARCH_MINUTES", "30")) if searching else 0.0
    while not told or time.monotonic() - began < seconds:
        run_state_machine_as_test(Here, settings=budget)
    if searching:
        sys.stderr.write(f"\n{told} stories in {time.monotonic() - began:.0f} s, and none broke a promise\n")
