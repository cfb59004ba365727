"""A create whose answer never came, and whose idempotency key Stripe has forgotten by now: look before asking anew.

Stripe keeps keys for 24 hours. Beyond that the same key would make a second run, so the run is looked for in Stripe's
list: same type, same parameters, created since we asked, and not already ours.
"""

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.errors import NotNow
from app.resources import Resources
from app.runs import settle
from app.stripe_values import StripeRun
from app.vocabulary import CallKind

if TYPE_CHECKING:
    from app.runs.request import RequestClaim

# An hour short of Stripe's 24: a call may be slow, and clocks differ.
KEY_LIFE_HOURS = 23
# Stripe's clock against ours.
CLOCK_SLACK_SECONDS = 300


async def find_lost_run(res: Resources, claim: "RequestClaim") -> StripeRun | None:
    """The Stripe run that this claim's forgotten create made, if it made one. Raises what the door raises."""
    await _take_read(res, claim.account)
    found = None
    async for run in res.stripe.list_runs(claim.account, created_since=claim.asked_at, slack=CLOCK_SLACK_SECONDS):
        same = run.report_type == claim.report_type and run.parameters == claim.parameters
        if same and not await _is_ours(res, claim.account, run.id):
            found = run  # newest first: the last one seen is the oldest, the one nearest to our call
    return found


async def draw_new_key(res: Resources, claim: "RequestClaim") -> str:
    """A new idempotency key for the same attempt, stored before it is used."""
    key = secrets.token_hex(16)
    async with res.sessions.begin() as session:
        values = {"run_id": claim.run_id, "number": claim.attempt, "key": key, "fence": claim.fence}
        await session.execute(_NEW_KEY, values)
    return key


async def _take_read(res: Resources, account: str) -> None:
    async with res.sessions.begin() as session:
        if not await res.limiter.take(session, account, CallKind.READ, wanted=1):
            raise NotNow("the rate limit for reads is used up")


async def _is_ours(res: Resources, account: str, stripe_run_id: str) -> bool:
    async with res.sessions.begin() as session:
        await settle.lock_stripe_run(session, account, stripe_run_id)
        values = {"account": account, "stripe_run_id": stripe_run_id}
        return bool((await session.execute(_OURS, values)).scalar_one())


_OURS = text("""
select exists (select from attempts where account = :account and stripe_run_id = :stripe_run_id)
""")
_NEW_KEY = text("""
with mine as (
    update runs set asked_at = clock_timestamp() where id = :run_id and fence = :fence and state = 'planned'
    returning id
)
update attempts set idempotency_key = :key, key_drawn_at = now()
from mine where run_id = mine.id and number = :number
""")
