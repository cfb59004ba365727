"""A check: the state of one thing, and what to do about it. `/health`, `/metrics` and doctor show the same value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """The result of a check, from good to bad."""

    OK = "ok"
    DEGRADED = "degraded"  # it works, but something is late, lost or needs a decision
    FAILING = "failing"  # no work is done


class LinkKind(StrEnum):
    """What a link leads to: a page, a route of the API or a command lists it."""

    ACCOUNTS = "accounts"
    CHECKS = "checks"
    EVENTS = "events"
    LOADS = "loads"
    REPORT_TYPES = "report-types"
    RULES = "rules"
    RUNS = "runs"
    TARGETS = "targets"


@dataclass(frozen=True, slots=True)
class Link:
    """Where to look: a filtered list of things. The reader turns it into an anchor or a command."""

    kind: LinkKind
    filter: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `detail` is one sentence; `advice` says what to do, if anything."""

    name: str
    status: Status
    detail: str
    advice: str | None = None
    account: str | None = None
    link: Link | None = None


def ok(
    name: str, detail: str, *, advice: str | None = None, account: str | None = None, link: Link | None = None
) -> Check:
    """Nothing needs to be done."""
    return Check(name, Status.OK, _one_line(detail), advice, account, link)


def degraded(name: str, detail: str, advice: str, *, account: str | None = None, link: Link | None = None) -> Check:
    """It works, or will, but not as intended."""
    return Check(name, Status.DEGRADED, _one_line(detail), advice, account, link)


def failing(name: str, detail: str, advice: str, *, account: str | None = None, link: Link | None = None) -> Check:
    """It does not work."""
    return Check(name, Status.FAILING, _one_line(detail), advice, account, link)


def worst(checks: Iterable[Check]) -> Status:
    """The worst status among them; of none, OK."""
    order = list(Status)
    return max((check.status for check in checks), key=order.index, default=Status.OK)


def _one_line(text: str) -> str:
    # Stripe's and drivers' texts may have several.
    return " ".join(text.split())
