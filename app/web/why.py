"""Why a report is not here, and what to do about it: two sentences for each reason. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.runs.listing import ShownRun
from app.runs.waiting import Waiting
from app.vocabulary import ErrorKind, RunState, WaitReason
from app.web.words import coming, plain_utc, sentence


@dataclass(frozen=True, slots=True)
class Why:
    """Why a report is not here; `advice` is what somebody can do, `path` where: its button is `place`."""

    reason: str
    advice: str
    path: str | None = None
    place: str | None = None


_FAILED: Mapping[str, str] = {
    ErrorKind.REJECTED: "Stripe will never make it as requested. Correct the rule's parameters, then retry: the "
    "retry uses the rule's current parameters.",
    "refused": "Stripe refuses only this one and accepts the account's others: check the connected account and "
    "the key's permissions, then retry.",
    ErrorKind.INTERVAL_REFUSED: "Stripe has no data for the beginning of this window: give the rule a later start, "
    "and mark this report as not needed.",
    ErrorKind.STRIPE_FAILED: "Stripe failed to make it, several times. Retry; if it fails again, give Stripe's support "
    "the id of Stripe's run below.",
    ErrorKind.TIMED_OUT: "Stripe did not finish it in time. Retry.",
    ErrorKind.FILE_GONE: "Stripe no longer has the file. Retry: the report will be requested again.",
    ErrorKind.FILE_MISMATCH: "Stripe's file was never as long as announced. Retry.",
    ErrorKind.INTERNAL: "An error of Tallyhook's own: the log says more. Retry after an upgrade or a restart.",
}


_OTHER_STATES: Mapping[str, Why] = {
    RunState.CANCELLED: Why("It was cancelled.", "The history says by whom. Retry it if you want it after all."),
    RunState.PLANNED: Why("It is about to be requested.", "Nothing to do."),
    RunState.REQUESTED: Why(
        "Stripe is making it.", "Nothing to do: a webhook announces when it is ready, and Stripe is polled too."
    ),
    RunState.READY: Why("Stripe has made it, and it is being downloaded.", "Nothing to do."),
}


# A retry alone does not help: Stripe never accepts what the rule requests now.
_NEEDS_CHANGE = (ErrorKind.REJECTED, ErrorKind.INTERVAL_REFUSED)
_WITHOUT_RULE = (
    "Stripe will never make it as requested. Request a run with other values, and mark this report as not needed."
)
BLOCKING = (WaitReason.ACCOUNT_HELD, WaitReason.REPORT_TYPE_MISSING)


def seen_state(state: str, reason: str | None) -> str:
    """A run's state for people, who may have to do something: what waits for Stripe's data, or is blocked, says so."""
    if reason in BLOCKING:
        return "blocked"
    return "waiting" if reason == WaitReason.AVAILABILITY else state


def needs_change(rule: object, error: Mapping[str, Any] | None) -> bool:
    """Whether a failed run's rule (None: it has none) must be changed first."""
    return rule is not None and (error or {}).get("kind") in _NEEDS_CHANGE


def why_not_here(run: ShownRun, waiting: Waiting | None, reach: datetime | None) -> Why | None:
    """None for a run that is stored."""
    state = run.state
    if state == RunState.FAILED:
        return _failed(run)
    return _waiting(waiting, reach) if waiting is not None else _OTHER_STATES.get(state)


def _failed(run: ShownRun) -> Why:
    error = run.error or {}
    said, todo = sentence(str(error.get("message") or "It failed")), _FAILED.get(str(error.get("kind")), "Retry it.")
    if error.get("kind") not in _NEEDS_CHANGE:
        return Why(said, todo)
    if run.rule_id is None:
        return Why(said, _WITHOUT_RULE)
    return Why(said, todo, f"/rules/{run.rule_id}/edit", "Change the rule…")


def _waiting(waiting: Waiting, reach: datetime | None) -> Why:
    until = "" if waiting.until is None else f" The next try is {coming(waiting.until)}."
    match waiting.reason:
        case WaitReason.AVAILABILITY:
            needed = "more" if waiting.until is None else f"it to reach {plain_utc(waiting.until)}"
            reached = "Stripe has no data yet" if reach is None else f"Stripe's data reaches {plain_utc(reach)}"
            return Why(
                f"{reached}; this report needs {needed}.",
                "Nothing to do: it is requested as soon as the data is there.",
            )
        case WaitReason.ACCOUNT_HELD:
            return Why(
                "Stripe refuses the account's key." + until,
                "Check the key in Stripe's Dashboard; the page Accounts shows what Stripe said.",
                "/accounts",
                "Accounts",
            )
        case WaitReason.REPORT_TYPE_MISSING:
            return Why(
                "Stripe does not have this report type for the account." + until,
                "Check its name in the rule; many types exist in live mode only.",
                "/report-types",
                "Which types exist",
            )
        case WaitReason.BACKOFF:
            return Why(
                sentence(waiting.message or "The last try did not work") + until, "Nothing to do: it will be retried."
            )
        case WaitReason.SLOT:
            return Why(
                "The limit on reports that Stripe makes at once has been reached.",
                "Nothing to do: it waits for a free slot.",
            )
    return Why("It waits for its turn under Stripe's rate limit." + until, "Nothing to do.")
