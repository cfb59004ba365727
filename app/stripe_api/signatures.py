"""How Stripe signs what it sends, and which of our secrets it did so with."""

import hashlib
import re

import stripe

SIGNATURE_TOLERANCE_SECONDS = 300
# Stripe sends one v1 per active secret, of which an endpoint has two at most; the cost grows with the header.
LONGEST_SIGNATURE_HEADER = 2048
_V1 = re.compile(r"(?:^|,)v1=[0-9a-f]{64}(?:,|$)")


def header_fault(header: str, *, now: float) -> str | None:
    """Why the header alone cannot belong to a delivery: `no_signature` where it is missing or malformed, `wrong_time`
    where it was made more than 300 s from `now` (Unix seconds); None where it may.
    """
    timestamp = _signed_at(header)
    if timestamp is None or not _V1.search(header):
        return "no_signature"
    return "wrong_time" if abs(now - timestamp) > SIGNATURE_TOLERANCE_SECONDS else None


def verify(body: str, header: str, secrets: tuple[str, ...], *, now: float) -> str | None:
    """The first of the secrets that `header` signs `body` with, within 300 s either way of `now` (Unix seconds).

    The SDK checks the signature; it raises more than it says for odd headers, and passes timestamps from the
    future (stripe.md 2.5), so both are looked at first.
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
    """What a signing secret is known by in rows and in health: tells one's own apart, and is of no use to others."""
    return hashlib.sha256(secret.encode()).hexdigest()[:4]


def _signed_at(header: str) -> int | None:
    if not header.isascii() or len(header) > LONGEST_SIGNATURE_HEADER:
        return None
    stamps = [part[2:] for part in header.split(",") if part.startswith("t=")]
    return int(stamps[0]) if len(stamps) == 1 and stamps[0].isdecimal() and len(stamps[0]) <= 12 else None
