"""Stripe's signatures: verify a delivery, and find the secret that signed it."""

import hashlib
import re

import stripe

SIGNATURE_TOLERANCE_SECONDS = 300
# Stripe sends one v1 per active secret, of which an endpoint has two at most; the cost grows with the header.
LONGEST_SIGNATURE_HEADER = 2048
_V1 = re.compile(r"(?:^|,)v1=[0-9a-f]{64}(?:,|$)")


def header_fault(header: str, *, now: float) -> str | None:
    """Why the header alone rules out a delivery: `no_signature` if it is missing or malformed, `wrong_time` if it is
    more than 300 s from `now` (Unix seconds); None if it does not.
    """
    timestamp = _signed_at(header)
    if timestamp is None or not _V1.search(header):
        return "no_signature"
    return "wrong_time" if abs(now - timestamp) > SIGNATURE_TOLERANCE_SECONDS else None


def verify(body: str, header: str, secrets: tuple[str, ...], *, now: float) -> str | None:
    """The first secret with which `header` signs `body`, within 300 s either way of `now` (Unix seconds).

    The SDK verifies the signature, but raises undocumented errors for odd headers, and accepts timestamps from
    the future (stripe.md 2.5), so both are checked first.
    """
    if header_fault(header, now=now) is not None:
        return None
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body, header, secret)
        except stripe.SignatureVerificationError:
            continue
        return secret
    return None


def fingerprint(secret: str) -> str:
    """The fingerprint of a signing secret, shown in rows and health: it tells secrets apart and reveals nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()[:4]


def _signed_at(header: str) -> int | None:
    if not header.isascii() or len(header) > LONGEST_SIGNATURE_HEADER:
        return None
    stamps = [part[2:] for part in header.split(",") if part.startswith("t=")]
    return int(stamps[0]) if len(stamps) == 1 and stamps[0].isdecimal() and len(stamps[0]) <= 12 else None
