"""Why a report is not here, and what to do about it: two sentences for each reason that there is. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from app.runs.waiting import Waiting
from app.vocabulary import ErrorKind, RunState, WaitReason
from app.web.words import ago, plain_utc, sentence


@dataclass(frozen=True, slots=True)
class Why:
    """Why a report is not here; `advice` is what somebody can do, `path` where."""

    reason: str
    advice: str
    path: str | None = None
    place: str | None = None


_FAILED: Mapping[str, str] = {
    ErrorKind.REJECTED: "Stripe will never make it as it was asked for. Correct the rule's parameters, then retry: the "
    "retry takes the rule's present parameters.",
    "refused": "Stripe refuses this one alone, while others of the account pass: look at the connected account and "
    "what the key may do, then retry.",
    ErrorKind.INTERVAL_REFUSED: "Stripe has no data for the beginning of this window: start the rule later, and "
    "cancel this one.",
    ErrorKind.STRIPE_FAILED: "Stripe gave up making it, several times. Retry; if it fails again, give Stripe's support "
    "the request id below.",
    ErrorKind.TIMED_OUT: "Stripe did not finish it in time. Retry.",
    ErrorKind.FILE_GONE: "Stripe does not have the file any more. Retry: it is made again.",
    ErrorKind.FILE_MISMATCH: "What Stripe sent was never as long as it said. Retry.",
    ErrorKind.INTERNAL: "An error of Tallyhook's own: the log says more. Retry after an upgrade or a restart.",
}


_OTHER_STATES: Mapping[str, Why] = {
    RunState.CANCELLED: Why("It was cancelled.", "Retry it if it is wanted after all; the history says by whom."),
    RunState.PLANNED: Why("It is about to be asked for.", "Nothing to do."),
    RunState.REQUESTED: Why(
        "Stripe is making it.", "Nothing to do: a webhook says when it is ready; Stripe is asked too."
    ),
    RunState.READY: Why("Stripe has made it, and it is being fetched.", "Nothing to do."),
}


def why_not_here(run: RowMapping, waiting: Waiting | None, reach: datetime | None) -> Why | None:
    """None for a run that is stored."""
    state = run["state"]
    if state == RunState.FAILED:
        return _failed(run["error"] or {})
    return _waiting(waiting, reach) if waiting is not None else _OTHER_STATES.get(state)


def _failed(error: Mapping[str, Any]) -> Why:
    said = sentence(str(error.get("message") or "It failed"))
    return Why(said, _FAILED.get(str(error.get("kind")), "Retry it."))


def _waiting(waiting: Waiting, reach: datetime | None) -> Why:
    until = "" if waiting.until is None else f" The next try is {ago(waiting.until)}."
    match waiting.reason:
        case WaitReason.AVAILABILITY:
            needed = "further" if waiting.until is None else f"to {plain_utc(waiting.until)}"
            reached = "nowhere yet" if reach is None else f"to {plain_utc(reach)}"
            return Why(
                f"Stripe's data reaches {reached}, and this report needs it {needed}.",
                "Nothing to do: it is asked for as soon as the data is there.",
            )
        case WaitReason.ACCOUNT_HELD:
            return Why(
                "Stripe refuses the account's key." + until,
                "Look at the key in Stripe's Dashboard; /accounts has Stripe's words.",
                "/accounts",
                "Accounts",
            )
        case WaitReason.REPORT_TYPE_MISSING:
            return Why(
                "Stripe does not have this report type for the account." + until,
                "Check its name in the rule; many types exist in live mode only.",
                "/report-types",
                "Which types there are",
            )
        case WaitReason.BACKOFF:
            return Why(
                sentence(waiting.message or "The last try did not work") + until, "Nothing to do while it passes."
            )
        case WaitReason.SLOT:
            return Why("As many reports as allowed are being made at once.", "Nothing to do: it is next in line.")
    return Why("It waits for its turn under Stripe's rate limit." + until, "Nothing to do.")
