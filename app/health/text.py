"""What the checks of health are written with."""

from collections.abc import Sequence
from datetime import timedelta

from app.api.schemas.health import CheckOut, Status

MOST_NAMES = 5


def check(name: str, detail: str, status: Status = Status.OK) -> CheckOut:
    """A check, well unless said otherwise."""
    return CheckOut(name=name, status=status, detail=detail)


def names(found: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f", and {more} more" if more > 0 else "")


def span(length: timedelta) -> str:
    """A length of time in one word and one number: `3 hours`."""
    seconds = max(0, int(length.total_seconds()))
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}s"
    return f"{seconds} seconds"
