"""How long to wait before the next try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.planning.backoff import full_jitter
from tests.planning.strategies import properties


@pytest.mark.parametrize(
    ("tries", "seconds"),
    [(0, 2), (1, 4), (2, 8), (8, 512), (9, 900), (10, 900), (63, 900), (64, 900), (5000, 900), (10**9, 900)],
)
def test_the_longest_wait_doubles_up_to_the_maximum(tries: int, seconds: float) -> None:
    assert full_jitter(tries, base=2, maximum=900, random=lambda: 1.0) == seconds


@pytest.mark.parametrize(("drawn", "seconds"), [(0.0, 0), (0.25, 2), (0.5, 4)])
def test_any_time_up_to_the_longest_may_be_drawn(drawn: float, seconds: float) -> None:
    assert full_jitter(2, base=2, maximum=900, random=lambda: drawn) == seconds


@given(
    st.integers(0, 10_000), st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.floats(0, 1, exclude_max=True)
)  # fmt: skip
@properties
def test_no_wait_exceeds_the_maximum(tries: int, base: float, maximum: float, drawn: float) -> None:
    assert 0 <= full_jitter(tries, base=base, maximum=maximum, random=lambda: drawn) <= maximum
