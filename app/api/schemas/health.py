"""The schemas of health, made from the values that `app/health` judges with."""

import uuid
from collections.abc import Sequence

from pydantic import Field

from app.api.schemas.common import Out, Time
from app.health.judge import Judgement
from app.health.results import Check, LinkKind, Status, worst

MOST_RULES_SHOWN = 100


class LinkOut(Out):
    """Where to look at it."""

    kind: LinkKind = Field(description="A list in the API (`/v1/…`), the pages and the command line.")
    filter: dict[str, str] = Field(description="The filter of the list.")


class CheckOut(Out):
    """One check."""

    name: str
    status: Status
    detail: str = Field(description="The result in one sentence.")
    advice: str | None = Field(None, description="What to do, if anything.")
    account: str | None = Field(None, description="The account, if the check is about a single one.")
    link: LinkOut | None = None


class HealthOut(Out):
    """All checks, and the worst status among them."""

    status: Status
    checks: list[CheckOut]


class RuleHealthOut(Out):
    """A rule for one connected account: its newest report, and what is due next."""

    rule_id: uuid.UUID
    name: str
    connected_account: str | None
    status: Status
    detail: str
    newest_window_end: Time | None = Field(description="The end of the newest window that has a run.")
    newest_state: str | None = Field(description="The state of that run.")
    next_due_at: Time | None = Field(description="How far Stripe's data must reach for the next window.")
    expected_by: Time | None = Field(description="The latest time by which the due report should be stored.")


class FullHealthOut(HealthOut):
    """What an operator wants to know."""

    rules: list[RuleHealthOut] = Field(description="Enabled rules, those with problems first; at most 100 are shown.")


def health_out(checks: Sequence[Check]) -> HealthOut:
    """These checks, and the worst status among them."""
    return HealthOut(status=worst(checks), checks=[CheckOut.model_validate(check) for check in checks])


def full_health_out(checks: Sequence[Check], judgement: Judgement | None) -> FullHealthOut:
    """The process's own checks, then those of the rows if they could be read."""
    every = [*checks, *(judgement.checks if judgement is not None else ())]
    rules = judgement.rules[:MOST_RULES_SHOWN] if judgement is not None else ()
    shown = [RuleHealthOut.model_validate(rule) for rule in rules]
    return FullHealthOut(**dict(health_out(every)), rules=shown)
