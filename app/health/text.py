"""Helpers to write the sentences of checks."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from app.vocabulary import CallKind

MOST_NAMES = 5
# How long a change is reported that nobody has to acknowledge.
TOLD_FOR = timedelta(days=30)
_CALLS: Mapping[str, str] = {
    CallKind.CREATE: "requesting reports",
    CallKind.READ: "looking up runs and lists",
    CallKind.FILES: "downloading files",
}


def names(found: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f", and {more} more" if more > 0 else "")


def calls(kind: str) -> str:
    """What Stripe refuses a key for: `requesting reports`."""
    return _CALLS.get(kind, kind)


def span(length: timedelta) -> str:
    """A length of time in one word and one number, rounded: `3 hours`."""
    seconds = max(0, int(length.total_seconds()))
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{(seconds + size // 2) // size} {name}s"
    return "1 second" if seconds == 1 else f"{seconds} seconds"
