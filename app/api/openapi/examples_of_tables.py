"""Examples for the schemas of tables, loads and checks: the same service, after its first report was loaded."""

from typing import Any

from app.api.http.paging import make_cursor

_RULE_ID = "01a1fe99-9c4a-7000-bd32-e12b7cda8e62"
_RUN_ID = "01a1fe99-9c76-7009-9691-f1e842565f45"
_TYPE = "balance_change_from_activity.itemized.6"
_TABLE = "balance_change_from_activity_itemized"
_WINDOW = {
    "first": "2026-10-01",
    "last": "2026-10-01",
    "interval_start": "2026-10-01T07:00:00Z",
    "interval_end": "2026-10-02T07:00:00Z",
    "timezone": "America/Los_Angeles",
}
LOAD: dict[str, Any] = {
    "state": "loaded",
    "table": _TABLE,
    "rows": 418,
    "header_sha256": "9f2c37c1b0f8f6b8b9f1f1a6f8f7f9f5a3b4c5d6e7f8091a2b3c4d5e6f708192",
    "set_aside": [],
    "error": None,
    "loaded_at": "2026-10-02T12:04:32Z",
}
_LOAD_DETAIL = {
    **LOAD,
    "id": 12,
    "run_id": _RUN_ID,
    "rule_id": _RULE_ID,
    "account": "default",
    "connected_account": None,
    "report_type": _TYPE,
    "revision": 1,
    "is_current": True,
    "leads": True,
}
_FACTS = {
    "rows": 418,
    "header": ["balance_transaction_id", "created", "currency", "gross", "fee", "net", "reporting_category"],
    "header_sha256": LOAD["header_sha256"],
    "set_aside": [],
    "first_created": "2026-10-01 00:12:09",
    "last_created": "2026-10-01 23:58:41",
    "key_unique": True,
    "net_breaks": 0,
    "sums": [
        {"category": "charge", "currency": "usd", "rows": 418, "gross": "9120.00", "fee": "284.61", "net": "8835.39"}
    ],
}
_ROW = {"row": 1, "values": {"balance_transaction_id": "txn_1Example", "currency": "usd", "net": "12.34"}}
_DIFF = {
    "against": 1,
    "added": 1,
    "removed": 0,
    "changed": 2,
    "columns": {"fee": 2, "net": 2},
    "left_out": [],
    "sums": [{"currency": "usd", "gross": "20.00", "fee": "0.91", "net": "19.09"}],
    "data": None,
    "next_cursor": None,
}
_TABLE_OUT = {
    "name": _TABLE,
    "report_types": [_TYPE],
    "rows": 418,
    "files": 1,
    "failed": 0,
    "newest_interval_end": "2026-10-02T07:00:00Z",
    "set_aside": ["shoe_size"],
}
_COLUMN = {
    "name": "net",
    "state": "loaded",
    "kind": "decimal",
    "personal": False,
    "zone": None,
    "meaning": "Gross minus fee: the amount by which the line changes the balance.",
    "filled": 0,
    "longest": 0,
}
_LEADER = {
    "rule_id": _RULE_ID,
    "rule": "daily-activity",
    "account": "default",
    "connected_account": None,
    "starts_at": "2026-10-01T07:00:00Z",
    "ends_at": None,
}
_CHANGE = {
    "rule_id": _RULE_ID,
    "rule": "daily-activity",
    "account": "default",
    "connected_account": None,
    "run_id": _RUN_ID,
    "window": _WINDOW,
    "added": ["shoe_size"],
    "removed": [],
    "at": "2026-10-02T12:04:31.914396Z",
}
CHECK: dict[str, Any] = {
    "id": 31,
    "name": "activity_total",
    "verdict": "differs",
    "account": "default",
    "connected_account": None,
    "window": _WINDOW,
    "currency": "usd",
    "left": "8835.39",
    "right": "8829.78",
    "difference": "5.61",
    "reason": None,
    "loads": [12, 13],
    "note": None,
    "at": "2026-10-02T12:04:33Z",
}


def _page(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"data": [item], "next_cursor": make_cursor(kind, str(item.get("id", "")))}


SHAPES: dict[str, Any] = {
    "LoadDetailOut": _LOAD_DETAIL,
    "Page_LoadDetailOut_": _page("loads", _LOAD_DETAIL),
    "LoadMatchingIn": {"table": _TABLE, "again": False},
    "LoadsAskedOut": {"loads": 31},
    "FactsOut": _FACTS,
    "Page_RowOut_": {"data": [_ROW], "next_cursor": None},
    "DiffOut": _DIFF,
    "Page_TableOut_": {"data": [_TABLE_OUT], "next_cursor": None},
    "TableDetailOut": {
        **_TABLE_OUT,
        "in_schema": "reports",
        "columns": [_COLUMN],
        "leaders": [_LEADER],
        "changes": [_CHANGE],
    },
    "ColumnIn": {"state": "approved", "kind": "text", "personal": False},
    "VerdictOut": CHECK,
    "Page_VerdictOut_": _page("checks", CHECK),
    "NoteIn": {"note": "Stripe restated one refund; see their ticket of 4 October."},
}
