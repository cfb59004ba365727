"""The long budget of the search (`make search`), beside the fixed one that every run of the tests has."""

from hypothesis import settings

settings.register_profile("search", max_examples=50, stateful_step_count=60, deadline=None, print_blob=True)
