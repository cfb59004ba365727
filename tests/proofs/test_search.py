"""A search for the story that breaks a promise: a fixed budget in every run of the tests, a long one by `make search`.

It shrinks what it finds to the shortest such story, and prints that as a program.
"""

import os
import sys
import time
from datetime import date
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from app.vocabulary import Cadence
from tests import service
from tests.proofs.machine import World
from tests.proofs.model import ModelRule, schedule

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


def test_the_model_allows_what_a_restored_rule_owed_until_it_was_deleted(database_url: str) -> None:
    class Here(World):
        url = database_url

    world = Here()
    try:
        first = ModelRule(UUID(int=0), service.REPORT_TYPE, schedule(Cadence.DAILY, "UTC", date(2026, 2, 28)))
        world.begin(delivering=True, delay=0, first=first)
        world.database_is_backed_up()
        world.data_advances(type=service.REPORT_TYPE, half_days=4)
        world.database_is_restored(hours=1)
        world.an_hour_goes_by_as_usual()  # plans what became due while the rules were away
        world.rule_is_deleted(number=0)
    finally:
        world.teardown()
