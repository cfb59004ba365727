"""One example for each target schema: a webhook that receives every stored report, and its first message."""

from typing import Any

from app.api.http.paging import make_cursor
from app.targets.catalogue import DESCRIBED, example_of
from app.vocabulary import MessageType

_TARGET_ID = "01a1fe99-9c4a-7000-bd32-e12b7cda8e64"
_SENT_AT = "2026-10-02T12:04:32.051113Z"
_STORED = example_of(MessageType.RUN_STORED)
_SECRET = {"secret": "whsec_… (shown here once; POST /v1/targets/{id}/secret shows it again)"}

_TARGET_IN = {
    "name": "ledger",
    "kind": "webhook",
    "url": "https://ledger.example.com/hooks/tallyhook",
    "message_types": ["run.stored", "run.failed", "month.complete"],
    "rules": ["daily-activity"],
}
_TARGET = {
    **_TARGET_IN,
    "id": _TARGET_ID,
    "recipients": [],
    "rules": [_STORED["data"]["run"]["rule_id"]],
    "accounts": None,
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "previous_until": None,
    "version": 1,
    "created_at": "2026-10-01T09:10:00Z",
    "updated_at": "2026-10-01T09:10:00Z",
}
_MESSAGE = {
    "id": _STORED["id"],
    "type": "run.stored",
    "account": "default",
    "rule_id": _STORED["data"]["run"]["rule_id"],
    "subject": _STORED["data"]["run"]["id"],
    "created_at": _STORED["timestamp"],
}
_DELIVERY = {
    "message_id": _STORED["id"],
    "target_id": _TARGET_ID,
    "target": "ledger",
    "type": "run.stored",
    "state": "delivered",
    "tries": 1,
    "due_at": None,
    "delivered_at": _SENT_AT,
    "last_status": 204,
    "last_error": None,
}
_ATTEMPT = {
    "target_id": _TARGET_ID,
    "number": 1,
    "at": _SENT_AT,
    "milliseconds": 41,
    "status": 204,
    "error": None,
    "answer": "",
}
_TYPE = {
    "type": "run.stored",
    "description": DESCRIBED[MessageType.RUN_STORED].description,
    "lasting": False,
    "example": _STORED,
}


def _page(item: dict[str, Any], cursor: str | None) -> dict[str, Any]:
    return {"data": [item], "next_cursor": cursor}


# By schema name.
TARGET_SHAPES: dict[str, Any] = {
    "TargetIn": _TARGET_IN,
    "TargetChange": {"message_types": ["*"]},
    "TargetOut": _TARGET,
    "NewTargetOut": {**_TARGET, **_SECRET},
    "Page_TargetOut_": _page(_TARGET, make_cursor("targets", _TARGET_ID)),
    "SecretOut": _SECRET,
    "RotateIn": {"overlap_hours": 24.0},
    "RecoverIn": {"since": "2026-10-01T00:00:00Z"},
    "RecoveredOut": {"recovered": 12},
    "TestOut": {"delivered": True, "status": 204, "error": None, "milliseconds": 41, "answer": ""},
    "Page_MessageOut_": _page(_MESSAGE, make_cursor("messages", str(_MESSAGE["id"]))),
    "MessageDetailOut": {**_MESSAGE, "body": _STORED, "deliveries": [_DELIVERY], "attempts": [_ATTEMPT]},
    "DeliveryOut": _DELIVERY,
    "Page_DeliveryOut_": _page(_DELIVERY, make_cursor("deliveries", str(_STORED["id"]), _TARGET_ID)),
    "Page_MessageTypeOut_": _page(_TYPE, None),
}
