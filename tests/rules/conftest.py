"""The admin API for tests of rules."""

from tests.api.conftest import api

__all__ = ["api"]
