"""When a delivery is tried again: ten tries over three days, as Standard Webhooks suggests. Pure."""

from collections.abc import Callable

# Seconds before each try; the first is sent at once.
DELAYS = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
MOST_TRIES = len(DELAYS)
# Jitter, so that messages that failed together are not sent together.
JITTER = 0.1
LONGEST_WAIT_SECONDS = max(DELAYS) * (1 + JITTER)


def seconds_until_retry(tries: int, *, retry_after: float | None = None, random: Callable[[], float]) -> float | None:
    """How long to wait after the `tries`-th failure; None after the last one.

    `retry_after` is what the receiver requested, in seconds: honoured up to the step after next.
    """
    if tries >= MOST_TRIES:
        return None
    planned = DELAYS[tries] * (1 + JITTER * (2 * random() - 1))
    longest = DELAYS[min(tries + 1, MOST_TRIES - 1)]
    return max(planned, min(retry_after or 0.0, longest))
