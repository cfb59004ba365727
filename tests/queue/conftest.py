"""Back-off takes no time here, as in the tests of runs."""

from tests.runs.conftest import res

__all__ = ["res"]
