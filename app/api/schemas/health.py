"""The shapes of health: checks, each with a name, a status and one sentence, and per rule what is due."""

import uuid
from enum import StrEnum

from pydantic import Field

from app.api.schemas.common import Out, Time


class Status(StrEnum):
    """How a check, or all of them, turned out."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


class CheckOut(Out):
    """One check."""

    name: str
    status: Status
    detail: str


class HealthOut(Out):
    """All checks, and the worst of them."""

    status: Status
    checks: list[CheckOut]


class RuleHealthOut(Out):
    """A rule for one connected account: what there is of it, and what is due next."""

    rule_id: uuid.UUID
    name: str
    connected_account: str | None
    status: Status
    detail: str
    newest_window_end: Time | None = Field(description="Where the newest window ends that a run was made for.")
    newest_state: str | None = Field(description="The state of that run.")
    next_due_at: Time | None = Field(description="Where Stripe's data has to reach for the next window.")
    expected_by: Time | None = Field(description="When what is due should be there at the latest.")


class FullHealthOut(HealthOut):
    """What an operator wants to know."""

    rules: list[RuleHealthOut] = Field(description="Enabled rules, those in trouble first; at most 100 are shown.")


def summed_up(checks: list[CheckOut]) -> Status:
    """The worst of them."""
    found = {check.status for check in checks}
    return next(status for status in (Status.FAILING, Status.DEGRADED, Status.OK) if status in found or not found)
