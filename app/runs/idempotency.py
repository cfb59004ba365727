"""Replaces an attempt's idempotency key: a call with the new key is a new request to Stripe.

The first key is written by the claim (`request_claim`). It is replaced in two cases only: Stripe refused the request
itself, and may replay that answer (`refusals`); or Stripe no longer knows the key (`adopt`).
"""

import secrets

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.runs.request_claim import RequestClaim


async def replace_key(session: AsyncSession, claim: RequestClaim) -> str:
    """Store a new key for this attempt, whose run the caller has locked."""
    key = secrets.token_hex(16)
    await session.execute(_REPLACE, {"run_id": claim.run_id, "number": claim.attempt, "key": key})
    return key


_REPLACE = text("""
update attempts set idempotency_key = :key, key_drawn_at = now() where run_id = :run_id and number = :number
""")
