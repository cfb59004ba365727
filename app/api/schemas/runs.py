"""The schemas of runs: to request and show them."""

import uuid
from dataclasses import replace
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.common import (
    ConnectedAccount,
    Days,
    In,
    Moment,
    Name,
    Out,
    PageIn,
    Parameters,
    ReportTypeId,
    Slug,
    Time,
    WholeSecond,
)
from app.api.schemas.tables import LoadOut, VerdictOut
from app.runs.listing import RunFilters
from app.settings import DEFAULT_ACCOUNT
from app.vocabulary import ErrorKind, RunOrder, RunState, WaitReason


class RunFiltersIn(BaseModel):
    """A filter of runs; an omitted field matches any."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    state: RunState | None = None
    rule_id: uuid.UUID | None = None
    report_type: ReportTypeId | None = None
    account: Slug | None = None
    connected_account: ConnectedAccount | None = None

    def filters(self) -> RunFilters:
        """The same as the core takes it."""
        return RunFilters(**{name: getattr(self, name) for name in RunFiltersIn.model_fields})


class RunListIn(RunFiltersIn, Days, PageIn):
    """Which runs to list, in which order, and where to start. Dates are the local days that the windows belong to."""

    rule: Name | None = Field(default=None, description="The rule's name (or id), in place of `rule_id`.")
    stored_after: Moment | None = Field(
        default=None,
        description="Stored later than this. Pass the last `stored_at` that you have seen, and you miss nothing.",
    )
    latest: bool = Field(default=False, description="Only the newest stored revision of each window.")
    order: RunOrder = Field(
        default=RunOrder.PLANNED,
        description="`-planned`: newest first; `-window`: by the window's day, newest first; `stored`: oldest first.",
    )

    def filters(self) -> RunFilters:
        """The same as the core takes it; `rule` is looked up before."""
        return replace(
            super().filters(),
            first=self.first,
            until=self.end(),
            stored_after=self.stored_after,
            latest=self.latest,
        )


class WindowOut(Out):
    """The first and last local date of a run's window."""

    first: date
    last: date
    timezone: str


class RunIn(In):
    """A run without a rule."""

    account: Slug = DEFAULT_ACCOUNT
    report_type: ReportTypeId
    parameters: Parameters = Field(default_factory=dict)
    interval_start: WholeSecond | None = Field(default=None, description="Inclusive; if the report type takes one.")
    interval_end: WholeSecond | None = Field(
        default=None, description="Exclusive. The run waits until Stripe's data reaches it."
    )
    connected_account: ConnectedAccount | None = None


class RetryIn(RunFiltersIn):
    """Which runs to retry: the failed ones that match (with `state`, the cancelled ones), or those in `ids`, all or
    none."""

    rule: Name | None = Field(default=None, description="The rule's name (or id), in place of `rule_id`.")
    ids: list[uuid.UUID] | None = Field(default=None, max_length=1000, description="These runs, instead of a filter.")
    state: RunState | None = Field(default=None, description="`failed` (default) or `cancelled`.")


class RemoveIn(In):
    """Why a file must be removed."""

    reason: str = Field(
        min_length=1, max_length=500, pattern=r"\S", description="Kept in the audit log, and shown with the 410."
    )


class RetriedOut(Out):
    """How many runs are retried."""

    retried: int


class FileOut(Out):
    """The file that a run ended in."""

    stripe_file_id: str
    filename: str
    media_type: str
    size: int = Field(description="In bytes.")
    sha256: str
    line_count: int | None = Field(description="The header's included; null if it is not a text file.")
    stored_at: Time
    removed_at: Time | None = Field(description="When its bytes were removed; null if they were not.")
    removed_reason: str | None = Field(description="Why they were removed.")
    location: str | None = Field(description="Where its bytes are in the object store; null: in the database.")


class RunErrorOut(Out):
    """Why a run failed."""

    kind: ErrorKind | str
    message: str
    stripe_request_id: str | None


class WaitingOut(Out):
    """Why a run does not move."""

    reason: WaitReason
    until: Time | None = Field(
        description="For `availability`, how far data must reach; otherwise the time of the next try. Null if unknown."
    )
    message: str | None = Field(
        None, description="For `backoff`: the error of the last try.", exclude_if=lambda message: message is None
    )


class MoveOut(Out):
    """One move of a run."""

    at: Time
    from_state: RunState | str | None
    to_state: RunState | str
    attempt: int
    reason: str


class RunOut(Out):
    """A run."""

    id: uuid.UUID
    rule_id: uuid.UUID | None
    account: str
    report_type: str
    connected_account: str | None
    state: RunState | str
    attempt: int
    revision: int
    partial: bool = Field(description="Begins where Stripe's data begins, later than its window would.")
    recheck: bool = Field(
        description="Requests a stored window again, by the rule's `recheck_days`: it counts only if stored."
    )
    waiting: WaitingOut | None
    window: WindowOut | None = Field(description="The interval in local dates; null if the type takes none.")
    interval_start: Time | None
    interval_end: Time | None
    parameters: dict[str, Any] = Field(description="Exactly what is sent to Stripe.")
    stripe_run_id: str | None
    error: RunErrorOut | None
    file: FileOut | None
    load: LoadOut | None = Field(description="The state of its file's rows; null if they are not to be loaded.")
    planned_at: Time
    requested_at: Time | None
    ready_at: Time | None
    stored_at: Time | None


class RunDetailOut(RunOut):
    """A run with its history, oldest move first, and the verdicts about its file."""

    history: list[MoveOut]
    checks: list[VerdictOut] = Field(
        description="The newest verdict on each subject that compares its file, at most 200, newest first. "
        "`GET /v1/checks?run_id=` lists all of them."
    )
