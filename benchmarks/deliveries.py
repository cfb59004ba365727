"""Signed deliveries as Stripe sends them: about 2.9 KB each, every one an event of its own."""

import hashlib
import hmac
import json
import time
import uuid
from typing import Any, Literal

Kind = Literal["report", "customer"]
BODY_BYTES = 2900


def delivery(kind: Kind, secret: str, *, path: str) -> bytes:
    """A whole HTTP request. The other engines ignore events about reports, so they get a customer's."""
    about, type_ = (
        (_report_run(), "reporting.report_run.succeeded") if kind == "report" else (_customer(), "customer.updated")
    )
    return request(event(type_, about, pad=True), secret, path=path)


def event(type_: str, about: dict[str, Any], *, pad: bool = False) -> bytes:
    """An event about an object, written as Stripe does; padded to the usual size if asked."""
    if pad:
        bare = len(_written(type_, {**about, "metadata": {"note": ""}}))
        about = {**about, "metadata": {"note": "x" * max(0, BODY_BYTES - bare)}}
    return _written(type_, about)


def request(body: bytes, secret: str, *, path: str) -> bytes:
    """The request that delivers this body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Stripe-Signature: {signature(body, secret)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def signature(body: bytes, secret: str) -> str:
    """The Stripe-Signature header of this body, as of now."""
    now = int(time.time())
    return f"t={now},v1={hmac.new(secret.encode(), f'{now}.'.encode() + body, hashlib.sha256).hexdigest()}"


def _written(type_: str, about: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "id": f"evt_{uuid.uuid4().hex}",
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": int(time.time()),
            "data": {"object": about},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": type_,
        },
        indent=2,
    ).encode()


def _report_run() -> dict[str, Any]:
    name = uuid.uuid4().hex
    return {
        "id": f"frr_{name}",
        "object": "reporting.report_run",
        "created": int(time.time()),
        "error": None,
        "livemode": False,
        "parameters": {"interval_start": 1700000000, "interval_end": 1700086400},
        "report_type": "balance_change_from_activity.itemized.7",
        "result": {"id": f"file_{name}", "object": "file", "size": 5307, "type": "csv", "url": None},
        "status": "succeeded",
        "succeeded_at": int(time.time()),
    }


def _customer() -> dict[str, Any]:
    return {
        "id": f"cus_{uuid.uuid4().hex}",
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": int(time.time()),
        "currency": "usd",
        "default_source": None,
        "delinquent": False,
        "description": "somebody",
        "discount": None,
        "email": "somebody@example.com",
        "invoice_prefix": "A1B2C3D4",
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None},
        "livemode": False,
        "name": "Somebody",
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
