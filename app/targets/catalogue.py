"""Every message type in words, with an example of its body: for `GET /v1/message-types` and the API document."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.vocabulary import MessageType

_RUN: dict[str, Any] = {
    "id": "01a1fe99-9c76-7009-9691-f1e842565f45",
    "rule_id": "01a1fe99-9c4a-7000-bd32-e12b7cda8e62",
    "rule_name": "daily-activity",
    "account": "default",
    "report_type": "balance_change_from_activity.itemized.6",
    "connected_account": None,
    "state": "stored",
    "attempt": 1,
    "revision": 1,
    "partial": False,
    "window": {"first": "2026-10-01", "last": "2026-10-01", "timezone": "America/Los_Angeles"},
    "interval_start": "2026-10-01T07:00:00Z",
    "interval_end": "2026-10-02T07:00:00Z",
    "stripe_run_id": "frr_1uXJmzLnyedg60B",
    "error": None,
    "planned_at": "2026-10-02T12:00:11Z",
    "requested_at": "2026-10-02T12:00:12Z",
    "ready_at": "2026-10-02T12:04:30Z",
    "stored_at": "2026-10-02T12:04:31Z",
}
_FILE: dict[str, Any] = {
    "filename": "daily-activity_2026-10-01.csv",
    "media_type": "text/csv",
    "size": 53075,
    "sha256": "cd990b3464f559b09af10847c2127d0568710823bd4c96ace25ceffa243cf7fe",
    "line_count": 412,
    "url": "https://reports.example.com/v1/runs/01a1fe99-9c76-7009-9691-f1e842565f45/file",
}
_ERROR = {"kind": "stripe_failed", "message": "Stripe could not make the report", "stripe_request_id": "req_1"}
_RULE: dict[str, Any] = {"rule_id": _RUN["rule_id"], "rule_name": "daily-activity", "account": "default"}
_LINK = f"https://reports.example.com/runs/{_RUN['id']}"
_BEGAN = {"state": "began", "since": "2026-10-03T19:00:00.914396Z"}
_ENDED = {**_BEGAN, "state": "ended"}


@dataclass(frozen=True, slots=True)
class Described:
    """A message type in words. `lasting`: it announces the beginning of a state; its end has `state` "ended", and for
    some a type of its own."""

    description: str
    example: Mapping[str, Any]
    lasting: bool = False


DESCRIBED: Mapping[MessageType, Described] = {
    MessageType.RUN_STORED: Described("A report is stored.", {"run": _RUN, "file": _FILE, "link": _LINK}),
    MessageType.RUN_FAILED: Described(
        "A report has failed; `run.error` says why.",
        {"run": {**_RUN, "state": "failed", "error": _ERROR, "stored_at": None}, "file": None, "link": _LINK},
    ),
    MessageType.RUN_CANCELLED: Described(
        "A report was cancelled.",
        {"run": {**_RUN, "state": "cancelled", "stored_at": None}, "file": None, "link": _LINK},
    ),
    MessageType.RUN_RESTATED: Described(
        "A later revision of a report differs from the previous one.",
        {
            "run": {**_RUN, "revision": 2},
            "file": _FILE,
            "before": {"sha256": "1b4f0e9851971998e732078544c96b36c3d01cedf7caa332359d6f1d83567014", "line_count": 411},
            "link": _LINK,
        },
    ),
    MessageType.RULE_LATE: Described(
        "Reports that a rule owes are overdue.",
        {**_RULE, **_BEGAN, "text": "daily-activity is late: no report since 2026-10-01"},
        lasting=True,
    ),
    MessageType.RULE_ON_TIME: Described(
        "A rule that was late has caught up.", {**_RULE, **_ENDED, "text": "daily-activity is on time again"}
    ),
    MessageType.ACCOUNT_HELD: Described(
        "Stripe refuses an account's key for one kind of call.",
        {
            "account": "default",
            "call_kind": "create",
            **_BEGAN,
            "text": "default: Stripe refuses the key for requesting reports: Invalid API Key provided",
        },
        lasting=True,
    ),
    MessageType.ACCOUNT_RELEASED: Described(
        "Stripe accepts the key again.",
        {
            "account": "default",
            "call_kind": "create",
            **_ENDED,
            "text": "default: Stripe accepts the key again for requesting reports",
        },
    ),
    MessageType.REPORT_TYPE_MISSING: Described(
        "A report type that a rule names does not exist for its account.",
        {
            "account": "default",
            "report_type": "balance_change.itemized.6",
            **_BEGAN,
            "text": "default: Stripe has no report type balance_change.itemized.6",
        },
        lasting=True,
    ),
    MessageType.COLUMNS_CHANGED: Described(
        "A report's columns differ from the previous one's.",
        {
            **_RULE,
            "report_type": _RUN["report_type"],
            "added": ["withheld_tax"],
            "removed": [],
            "text": "daily-activity: new column withheld_tax",
        },
    ),
    MessageType.CHECK_DIFFERS: Described(
        "Two numbers that must agree do not.",
        {
            "check": "activity_total",
            "state": "began",
            "account": "default",
            "connected_account": None,
            "report_type": _RUN["report_type"],
            "window": _RUN["window"],
            "interval_start": _RUN["interval_start"],
            "interval_end": _RUN["interval_end"],
            "currency": "usd",
            "difference": "5.61",
            "reason": None,
            "text": "activity_total usd differs by 5.61",
        },
        lasting=True,
    ),
    MessageType.MONTH_COMPLETE: Described(
        "Every report that a rule owes for a month is stored.",
        {**_RULE, "month": "2026-10", "windows": 31, "text": "October 2026 is complete (31 reports)"},
    ),
    MessageType.TARGET_DISABLED: Described(
        "A target was disabled: it answered 410, or every delivery to it failed for days.",
        {
            "target": {"id": "01a1fe99-9c4a-7000-bd32-e12b7cda8e63", "name": "ledger"},
            "text": "ledger: the receiver answered 410 Gone",
        },
    ),
    MessageType.PING: Described(
        "A test message.",
        {"text": "ping from Tallyhook", "target": {"id": "01a1fe99-9c4a-7000-bd32-e12b7cda8e63", "name": "ledger"}},
    ),
}


def example_of(type_: MessageType) -> dict[str, Any]:
    """The whole body of a message of this type, as a webhook carries it."""
    return {
        "id": "01a1fe99-9c80-7001-8a52-0d2a3a1c9b1e",
        "type": type_.value,
        "timestamp": "2026-10-02T12:04:31.914396Z",
        "data": dict(DESCRIBED[type_].example),
    }
