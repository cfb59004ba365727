"""One example for each schema of accounts."""

from typing import Any

from app.api.http.paging import make_cursor

_CHANGE = {"api_key": "rk_live_…", "webhook_secrets": ["whsec_…"]}
_ACCOUNT = {
    "account": "eu",
    "stripe_account_id": "acct_1Example",
    "livemode": True,
    "stripe_account": None,
    "stripe_context": None,
    "has_key": True,
    "webhook_secrets": 1,
    "holds": [],
    "limits": {"pending_runs": 3, "max_pending_runs": 20, "requests_per_second": 20.0},
    "availability": {
        "report_types": 61,
        "data_available_end": "2026-10-02T00:00:00Z",
        "refreshed_at": "2026-10-02T11:59:41Z",
    },
    "kept_in": "rows",
    "trouble": None,
    "created_at": "2026-09-30T08:15:00Z",
}

# By schema name.
ACCOUNT_SHAPES: dict[str, Any] = {
    "AccountIn": {"account": "eu", **_CHANGE},
    "AccountChangeIn": _CHANGE,
    "AccountOut": _ACCOUNT,
    "Page_AccountOut_": {"data": [_ACCOUNT], "next_cursor": make_cursor("accounts", "eu")},
}
