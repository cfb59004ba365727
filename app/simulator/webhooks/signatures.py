"""The `Stripe-Signature` header: HMAC-SHA256 over time stamp and body, one `v1` per active secret."""

import hashlib
import hmac
from collections.abc import Iterable


def signature_header(body: bytes, secrets: Iterable[str], *, at: int) -> str:
    """`t=<at>,v1=…[,v1=…]`; `at` in Unix seconds. The whole secret, `whsec_` included, is the key."""
    signed = f"{at}.".encode() + body
    signatures = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets)
    return ",".join([f"t={at}", *(f"v1={signature}" for signature in signatures)])
