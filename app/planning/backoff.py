"""How long to wait before the next try of anything that may work later."""

from collections.abc import Callable
from dataclasses import dataclass

# 2 to this power exceeds every sensible maximum, and still fits a float.
_ENOUGH_DOUBLINGS = 64


def full_jitter(tries: int, *, base: float, maximum: float, random: Callable[[], float]) -> float:
    """Seconds to wait after `tries` failures: between 0 and `base` doubled that often, at most `maximum`.

    `random` gives a float in `[0, 1)`. Full jitter spreads many waiters evenly, so that they do not return together.
    """
    return random() * min(maximum, base * 2.0 ** min(tries, _ENOUGH_DOUBLINGS))


@dataclass(frozen=True, slots=True)
class Backoff:
    """The back-off of a process: `base` and `most` in seconds; `random` returns a float in `[0, 1)`."""

    base: float
    most: float
    random: Callable[[], float]

    def seconds(self, tries: int, *, at_least: float | None = None) -> float:
        """Seconds to wait after `tries` failures, but no less than the answer demanded (`at_least`)."""
        drawn = full_jitter(tries, base=self.base, maximum=self.most, random=self.random)
        return max(drawn, at_least or 0.0)
