"""Standard Webhooks signatures, with secrets that are derived instead of stored.

A target's secret follows from TALLYHOOK_SIGNING_KEY, its id and the number of its secret: raising the number rotates
it. Both the new and the previous secret sign during a rotation, and so do both keys while
TALLYHOOK_SIGNING_KEY lists two (https://www.standardwebhooks.com, version 1.0.0).
"""

import base64
import hashlib
import hmac
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime


def derive_secret(key: str, target_id: uuid.UUID, version: int) -> str:
    """The secret of a target (`whsec_` and 32 bytes in base64), as its receiver configures it."""
    digest = hmac.digest(key.encode(), f"target/{target_id}/{version}".encode(), hashlib.sha256)
    return f"whsec_{base64.b64encode(digest).decode()}"


def active_secrets(keys: Sequence[str], target_id: uuid.UUID, versions: Iterable[int]) -> list[str]:
    """Every secret that a receiver may have configured, the newest first."""
    return [derive_secret(key, target_id, version) for version in versions for key in keys]


def signed_headers(message_id: uuid.UUID, at: datetime, body: bytes, secrets: Iterable[str]) -> dict[str, str]:
    """The three headers of Standard Webhooks; `at` is the time of this attempt."""
    timestamp = str(int(at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = [f"v1,{_signature(secret, signed)}" for secret in secrets]
    return {
        "webhook-id": str(message_id),
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
