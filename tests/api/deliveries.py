"""Stripe's side of a webhook: events as it writes them, signed as it signs them."""

import json
import time
from typing import Any

import stripe

from tests.service import WEBHOOK_SECRET


def event(id: str = "evt_1", type: str = "reporting.report_type.updated", **changes: Any) -> dict[str, Any]:
    """An event about a report type, in test mode like the key of the tests."""
    about = {
        "id": "balance.summary.1",
        "object": "reporting.report_type",
        "name": "Balance",
        "version": 1,
        "livemode": False,
        "data_available_start": 1_767_225_600,
        "data_available_end": 1_772_323_200,
        "updated": 1_772_323_200,
        "default_columns": None,
    }
    body = {"id": id, "object": "event", "type": type, "created": 1_772_323_200, "livemode": False}
    return {**body, "data": {"object": about}, **changes}


def signed(body: bytes, *, secret: str = WEBHOOK_SECRET, age: float = 0) -> dict[str, str]:
    """The headers of a delivery that was signed `age` seconds ago."""
    stamp = int(time.time() - age)
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, stamp)
    return {"Stripe-Signature": header, "Content-Type": "application/json"}


def delivery(of: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    """The arguments of a POST that delivers this event."""
    body = json.dumps(of or event()).encode()
    return {"content": body, "headers": signed(body, **how)}
