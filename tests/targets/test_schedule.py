"""Ten tries over three days."""

from itertools import pairwise

from app.targets.schedule import DELAYS, MOST_TRIES, seconds_until_retry

HOUR = 3600.0


def test_the_first_retry_comes_within_twenty_seconds_and_the_last_try_after_three_days() -> None:
    latest = [seconds_until_retry(tries, random=lambda: 1.0) for tries in range(1, MOST_TRIES)]

    assert latest[0] is not None
    assert latest[0] <= 20
    assert 72 * HOUR <= sum(DELAYS) <= 80 * HOUR


def test_after_the_tenth_try_there_is_none() -> None:
    assert MOST_TRIES == 10
    assert seconds_until_retry(10, random=lambda: 0.5) is None


def test_each_pause_is_longer_than_the_one_before_whatever_the_jitter() -> None:
    shortest = [seconds_until_retry(tries, random=lambda: 0.0) or 0.0 for tries in range(1, MOST_TRIES)]
    longest = [seconds_until_retry(tries, random=lambda: 1.0) or 0.0 for tries in range(1, MOST_TRIES)]

    assert all(earlier < later for earlier, later in pairwise(shortest))
    assert all(low < high for low, high in zip(shortest, longest, strict=True))


def test_a_pause_that_the_receiver_asks_for_is_heeded_up_to_the_step_after() -> None:
    assert seconds_until_retry(1, retry_after=120.0, random=lambda: 0.5) == 120.0
    assert seconds_until_retry(1, retry_after=10 * HOUR, random=lambda: 0.5) == DELAYS[2]
    assert seconds_until_retry(3, retry_after=1.0, random=lambda: 0.5) == DELAYS[3]
