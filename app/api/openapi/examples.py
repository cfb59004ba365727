"""One example for each schema of the API, and for each problem: a service with one daily rule and its first report."""

from typing import Any

from app.api.http.paging import make_cursor
from app.api.openapi import examples_of_tables
from app.api.openapi.account_examples import ACCOUNT_SHAPES
from app.api.openapi.target_examples import TARGET_SHAPES

_RULE_ID = "01a1fe99-9c4a-7000-bd32-e12b7cda8e62"
_RUN_ID = "01a1fe99-9c76-7009-9691-f1e842565f45"
_TYPE = "balance_change_from_activity.itemized.6"
_ZONE = "America/Los_Angeles"
_WINDOW = {"interval_start": "2026-10-01T07:00:00Z", "interval_end": "2026-10-02T07:00:00Z"}
_DATES = {"first": "2026-10-01", "last": "2026-10-01", "timezone": _ZONE}
_NEXT_WINDOW = {"interval_start": "2026-10-02T07:00:00Z", "interval_end": "2026-10-03T07:00:00Z"}
_WAITING = {"reason": "availability", "until": "2026-10-03T07:00:00Z"}
_STORED_AT = "2026-10-02T12:04:31.914396Z"

_RULE_IN = {
    "name": "daily-activity",
    "report_type": _TYPE,
    "cadence": "daily",
    "timezone": _ZONE,
    "starts_on": "2026-10-01",
    "parameters": {"timezone": _ZONE},
}
_RULE = {
    **_RULE_IN,
    "id": _RULE_ID,
    "account": "default",
    "enabled": True,
    "settle_hours": 0.0,
    "connected_accounts": [],
    "retention_days": None,
    "connected": "none",
    "table": {"state": "auto", "personal": [], "leads": True},
    "recheck_days": [],
    "except": [],
    "version": 1,
    "created_at": "2026-10-01T09:00:00Z",
    "updated_at": "2026-10-01T09:00:00Z",
    "warnings": [],
}
_STEP = {
    "kind": "rule",
    "name": "daily-activity",
    "action": "changed",
    "fields": ["settle_hours"],
    "runs_planned": 0,
    "runs_cancelled": 0,
    "warnings": [],
}
_FILE = {
    "stripe_file_id": "file_1uXJnLNyedg60BRrzV6s8cKxU",
    "filename": f"{_TYPE}_default_2026-10-01_2026-10-01_America-Los_Angeles_4c5d6e7f8091.csv",
    "media_type": "text/csv",
    "size": 53075,
    "sha256": "cd990b3464f559b09af10847c2127d0568710823bd4c96ace25ceffa243cf7fe",
    "line_count": 412,
    "stored_at": _STORED_AT,
    "removed_at": None,
    "removed_reason": None,
    "location": None,
}
_RUN: dict[str, Any] = {
    "id": _RUN_ID,
    "rule_id": _RULE_ID,
    "account": "default",
    "report_type": _TYPE,
    "connected_account": None,
    "state": "stored",
    "attempt": 1,
    "revision": 1,
    "partial": False,
    "recheck": False,
    "waiting": None,
    "window": _DATES,
    **_WINDOW,
    "parameters": {"timezone": _ZONE, "interval_start": 1790838000, "interval_end": 1790924400},
    "stripe_run_id": "frr_1EidcSYJQHsJ670aOIdtvyFdx",
    "error": None,
    "file": _FILE,
    "load": examples_of_tables.LOAD,
    "planned_at": "2026-10-02T12:03:58Z",
    "requested_at": "2026-10-02T12:03:59Z",
    "ready_at": "2026-10-02T12:04:30Z",
    "stored_at": _STORED_AT,
}
_HISTORY: list[dict[str, Any]] = [
    {"at": _RUN["planned_at"], "from_state": None, "to_state": "planned", "reason": "the window is due"},
    {"at": _RUN["requested_at"], "from_state": "planned", "to_state": "requested", "reason": _RUN["stripe_run_id"]},
    {"at": _RUN["ready_at"], "from_state": "requested", "to_state": "ready", "reason": "Stripe finished the run"},
    {"at": _STORED_AT, "from_state": "ready", "to_state": "stored", "reason": "the file is complete"},
]
_EVENT: dict[str, Any] = {
    "id": 16,
    "account": "default",
    "stripe_event_id": "evt_1d9mX59J2WnLPSn1s6ARHH3av",
    "type": "reporting.report_type.updated",
    "object_id": _TYPE,
    "livemode": True,
    "stripe_created_at": "2026-10-02T12:03:57Z",
    "received_at": "2026-10-02T12:03:58Z",
    "status": "handled",
    "reason": None,
    "tries": 0,
    "handled_at": "2026-10-02T12:03:58Z",
}
SIGNATURE = "t=1790838000,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd"
DELIVERY = {"id": _EVENT["stripe_event_id"], "object": "event", "type": _EVENT["type"], "livemode": True}
_REPORT_TYPE = {
    "account": "default",
    "id": _TYPE,
    "name": "Balance change from activity: itemized",
    "version": 6,
    "livemode": True,
    "data_available_start": "2024-01-01T00:00:00Z",
    "data_available_end": "2026-10-02T12:00:00Z",
    "default_columns": ["balance_transaction_id", "created", "currency", "net"],
    "missing_since": None,
    "missing_reason": None,
    "refreshed_at": "2026-10-02T12:03:58Z",
}
_CONNECTED_ACCOUNT = {
    "account": "default",
    "id": "acct_1Merchant",
    "name": "Corner Shop",
    "country": "DE",
    "stripe_created_at": "2026-09-14T10:20:30Z",
    "first_seen_at": "2026-10-01T09:00:00Z",
    "seen_at": "2026-10-02T12:00:00Z",
    "left_at": None,
    "source": "list",
}
_GUIDE_ENTRY = {
    "task": "Book every transaction that changed the balance",
    "family": _TYPE.rpartition(".")[0],
    "report_type": _TYPE,
    "latest": "balance_change_from_activity.itemized.latest",
    "newest_known": "balance_change_from_activity.itemized.7",
    "columns": [
        {
            "name": "net",
            "kind": "decimal",
            "meaning": "Gross minus fee: the amount by which the line changes the balance.",
        }
    ],
}
_AUDIT = {
    "id": 7,
    "at": "2026-10-01T10:00:00Z",
    "actor": "admin",
    "action": "rule.changed",
    "subject": _RULE_ID,
    "before": {"settle_hours": 0.0},
    "after": {"settle_hours": 2.0},
}
_UPCOMING = {
    "connected_account": None,
    "window": {"first": "2026-10-02", "last": "2026-10-02", "timezone": _ZONE},
    **_NEXT_WINDOW,
    "partial": False,
    "waiting": _WAITING,
}
_COVERAGE_ENTRY = {**_UPCOMING, "window": _DATES, **_WINDOW, "state": "stored", "run_id": _RUN_ID, "waiting": None}
_HEALTH = {"status": "ok", "checks": [{"name": "database", "status": "ok", "detail": "the database answers"}]}
_RULE_HEALTH = {
    "rule_id": _RULE_ID,
    "name": "daily-activity",
    "connected_account": None,
    "status": "ok",
    "detail": "on time",
    "newest_window_end": _WINDOW["interval_end"],
    "newest_state": "stored",
    "next_due_at": "2026-10-03T07:00:00Z",
    "expected_by": "2026-10-04T19:00:00Z",
}


def _page(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"data": [item], "next_cursor": make_cursor(kind, str(item.get("id", "")))}


# By the name of the schema.
_FED_CHECK = {
    "name": "activity_total",
    "says": "the activity of the balance is the net of its transactions",
    "missing": ["balance.summary"],
}
SHAPES: dict[str, Any] = {
    "RuleIn": _RULE_IN,
    "RuleChange": {"settle_hours": 2.0},
    "RuleOut": _RULE,
    "ChangedRuleOut": {**_RULE, "asks_for": 30},
    "Page_RuleOut_": _page("rules", _RULE),
    "ApplyIn": {"rules": [_RULE_IN], "dry_run": True},
    "AppliedOut": {
        "steps": [_STEP],
        "kept": [],
        "kept_targets": [],
        "unchanged": 0,
        "difference": "--- database\n+++ rules\n@@ -1 +1 @@\n-…\n+…",
        "may_rename": False,
    },
    "PreviewIn": {name: _RULE_IN[name] for name in ("report_type", "cadence", "timezone", "starts_on")},
    "PreviewOut": {
        "now": [],
        "now_total": 0,
        "next": [_UPCOMING],
        "warnings": [],
        "checks": [_FED_CHECK],
        "forecast": None,
    },
    "BackfillIn": {"from": "2026-09-01", "to": "2026-10-01", "rerun": False, "dry_run": False},
    "BackfillOut": {"planned": 29, "retried": 1, "rerun": 0},
    "Page_CoverageEntryOut_": {"data": [_COVERAGE_ENTRY], "next_cursor": None},
    "RunIn": {"report_type": "balance.summary.1", **_WINDOW},
    "RunOut": _RUN,
    "Page_RunOut_": _page("runs", _RUN),
    "RunDetailOut": {
        **_RUN,
        "history": [{**move, "attempt": 1} for move in _HISTORY],
        "checks": [examples_of_tables.CHECK],
    },
    "RetryIn": {"state": "failed", "report_type": _TYPE},
    "RemoveIn": {"reason": "a customer asked for erasure, ticket 4711"},
    "RetriedOut": {"retried": 3},
    "EventOut": _EVENT,
    "Page_EventOut_": _page("events", _EVENT),
    "EventDetailOut": {**_EVENT, "payload": DELIVERY},
    "Page_ReportTypeOut_": {"data": [_REPORT_TYPE], "next_cursor": None},
    "ConnectedAccountOut": _CONNECTED_ACCOUNT,
    "Page_ConnectedAccountOut_": {"data": [_CONNECTED_ACCOUNT], "next_cursor": None},
    "GuideOut": {"data": [_GUIDE_ENTRY]},
    "LoginLinkIn": {"name": "dana", "role": "read"},
    "LoginLinkOut": {"url": "https://reports.example.com/login/…", "expires_at": "2026-10-02T12:08:58Z"},
    "Accepted": {"asked_at": "2026-10-02T12:03:58Z"},
    "Page_AuditOut_": _page("audit", _AUDIT),
    "HealthOut": _HEALTH,
    "Received": {"received": True},
    **examples_of_tables.SHAPES,
    "FullHealthOut": {**_HEALTH, "rules": [_RULE_HEALTH]},
    **TARGET_SHAPES,
    **ACCOUNT_SHAPES,
}
_FIELD = {"pointer": "/timezone", "detail": "is not an IANA time zone; use a name like Europe/Berlin"}
# By status: the `detail` that goes with it.
PROBLEMS: dict[int, dict[str, Any]] = {
    400: {"detail": "the body is not JSON"},
    401: {"detail": "this token is not known"},
    403: {"detail": "this token may only read; use one with role admin to write"},
    404: {"detail": f"there is no rule {_RULE_ID}"},
    405: {"detail": "this route accepts POST"},
    406: {"detail": "the file has 104,857,601 bytes, and the limit for workbooks is 104,857,600: use the CSV"},
    409: {"detail": "a rule named 'daily-activity' already exists: names are unique across all accounts"},
    410: {"detail": f"the file of run {_RUN_ID} was removed on 2026-12-31: kept for 90 days, as its rule says"},
    412: {"detail": "the rule is now at version 2: read it again, then decide"},
    413: {"detail": "the body is larger than 1048576 bytes"},
    416: {"detail": "the file has 53075 bytes"},
    422: {"detail": "the request has invalid values", "errors": [_FIELD]},
    503: {"detail": "the database is not answering; try again"},
}
# By media type: bodies that are not JSON.
TEXTS = {
    "application/zip": "PK…",
    "application/yaml": "rules:\n- name: daily-activity\n  …\n",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "PK…",
    "text/csv": 'balance_transaction_id,created,currency,net\n"txn_1Example","2026-10-01 00:12:09","usd","12.34"\n',
    "text/plain": '# TYPE tallyhook_runs gauge\ntallyhook_runs{report_type="balance.summary.1",state="planned"} 1.0\n',
}
