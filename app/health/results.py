"""What `tallyhook doctor` finds: a name, a status, one sentence, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check turned out."""

    OK = "ok"
    WARNING = "warning"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` says what to do, where there is something to do."""

    name: str
    status: Status
    detail: str
    advice: str | None = None
    account: str | None = None


def ok(name: str, detail: str, *, account: str | None = None) -> Finding:
    """Nothing to do."""
    return Finding(name, Status.OK, detail, None, account)


def warning(name: str, detail: str, advice: str, *, account: str | None = None) -> Finding:
    """It works, or will, but probably not as it is meant."""
    return Finding(name, Status.WARNING, _one_line(detail), advice, account)


def failing(name: str, detail: str, advice: str, *, account: str | None = None) -> Finding:
    """It does not work."""
    return Finding(name, Status.FAILING, _one_line(detail), advice, account)


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status among them."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)


def _one_line(text: str) -> str:
    # What Stripe and drivers say may have several.
    return " ".join(text.split())
