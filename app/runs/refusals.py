"""Stripe refused the request itself: not yet, only from one second later, not this type, or never.

Each but the last replaces the idempotency key: under the old one Stripe may replay a 400 or 404 about the request.
"""

import re

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.accounts import holds
from app.errors import Refused
from app.planning.backoff import Backoff
from app.queue.claims import MOST_TROUBLE, lock_claim
from app.queue.wakeups import wake
from app.runs import moves
from app.runs.idempotency import replace_key
from app.runs.moves import RunError
from app.runs.put_off import MOST_REFUSALS
from app.runs.request_claim import RequestClaim
from app.vocabulary import CallKind, ErrorKind, Lane, RunState

_NOT_YET = re.compile(r"only available (through|until|up to)", re.IGNORECASE)
# The type takes a different kind of interval than we think: no other value will ever work.
_NOT_ABOUT_THE_VALUE = frozenset({"parameter_missing", "parameter_unknown"})
_LIVE_ONLY = re.compile(r"requires? a live[- ]mode", re.IGNORECASE)


async def refused(session: AsyncSession, claim: RequestClaim, refusal: Refused, *, backoff: Backoff) -> None:
    """Decide what a 400 or 404 to a create means; only final refusals use up an attempt.

    Raises `Overtaken`: a late refusal must not replace the key that a successor is using.
    """
    await lock_claim(session, claim, RunState.PLANNED)
    # Stripe checks the key first: a key whose request is refused works.
    await holds.accepted(session, claim.account, CallKind.CREATE)
    if _LIVE_ONLY.search(refusal.message) or (refusal.status == 404 and refusal.param in (None, "", "report_type")):
        await _type_is_missing(session, claim, refusal, backoff)
    elif refusal.status == 404:
        await _not_to_be_had(session, claim, refusal, backoff)
    elif _names(refusal, "interval_end") or _NOT_YET.search(refusal.message) or _no_data_yet(claim, refusal):
        await _not_yet(session, claim, seconds=backoff.most)
    elif _names(refusal, "interval_start") and not claim.start_shifted and "interval_start" in claim.parameters:
        await replace_key(session, claim)
        await session.execute(_SHIFT_START, {"run_id": claim.run_id})
        await session.execute(_GIVE_BACK, {"run_id": claim.run_id, "fence": claim.fence, "seconds": 0.0})
        await wake(session, Lane.REQUESTS)
    else:
        kind = ErrorKind.INTERVAL_REFUSED if _names(refusal, "interval_start") else ErrorKind.REJECTED
        error = RunError(kind, refusal.message, refusal.request_id)
        await moves.fail(session, claim.run_id, claim.attempt, error)


async def accepted(session: AsyncSession, claim: RequestClaim) -> None:
    """The create succeeded: remember what that showed about the report type."""
    if claim.start_shifted:
        await report_types.remember_start_offset(session, claim.account, claim.report_type)
    if claim.type_missing:
        await report_types.note_there(session, claim.account, claim.report_type)


def _names(refusal: Refused, parameter: str) -> bool:
    if refusal.code in _NOT_ABOUT_THE_VALUE:
        return False
    # Stripe writes `parameters.interval_start` here, and `parameters[interval_start]` elsewhere.
    return refusal.param is not None and refusal.param.rstrip("]").endswith(parameter)


def _no_data_yet(claim: RequestClaim, refusal: Refused) -> bool:
    """Stripe may report a payout as reconciled before its report has data, which comes with the next advance."""
    return claim.of_payout and _names(refusal, "payout")


async def _not_yet(session: AsyncSession, claim: RequestClaim, *, seconds: float) -> None:
    await replace_key(session, claim)
    # Compare with the availability at the time of the call: if it has advanced since, it is worth another try.
    values = {"run_id": claim.run_id, "fence": claim.fence, "available_until": claim.available_until}
    await session.execute(_WAIT_FOR_AVAILABILITY, {**values, "seconds": seconds})


async def _not_to_be_had(session: AsyncSession, claim: RequestClaim, refusal: Refused, backoff: Backoff) -> None:
    """The key has no access to the run's connected account or payout: only this run is affected."""
    await replace_key(session, claim)
    values = {"run_id": claim.run_id, "fence": claim.fence, "seconds": backoff.seconds(claim.tries)}
    found = await session.execute(_COUNT_REFUSAL, {**values, "trouble": refusal.message[:MOST_TROUBLE]})
    if found.scalar_one() >= MOST_REFUSALS:
        error = RunError(ErrorKind.REFUSED, refusal.message, refusal.request_id)
        await moves.fail(session, claim.run_id, claim.attempt, error)


async def _type_is_missing(session: AsyncSession, claim: RequestClaim, refusal: Refused, backoff: Backoff) -> None:
    seconds = backoff.seconds(claim.tries)
    await report_types.note_missing(session, claim.account, claim.report_type, reason=refusal.message, seconds=seconds)
    await replace_key(session, claim)
    await session.execute(_GIVE_BACK, {"run_id": claim.run_id, "fence": claim.fence, "seconds": seconds})


_COUNT_REFUSAL = text("""
update runs set lease_until = null, leased_by = null, asked_at = null, tries = tries + 1, refusals = refusals + 1,
    last_trouble = :trouble, due_at = clock_timestamp() + make_interval(secs => :seconds)
where id = :run_id and fence = :fence and state = 'planned' returning refusals
""")
_GIVE_BACK = text("""
update runs set lease_until = null, leased_by = null, asked_at = null, tries = tries + 1,
    due_at = clock_timestamp() + make_interval(secs => :seconds)
where id = :run_id and fence = :fence and state = 'planned'
""")
# One second later, as Stripe's object page has it (stripe.md 3.5). The run's window does not change.
_SHIFT_START = text("""
update runs set parameters = jsonb_set(parameters, '{interval_start}',
    to_jsonb(cast(parameters ->> 'interval_start' as bigint) + 1))
where id = :run_id and state = 'planned' and parameters ? 'interval_start'
""")
# Without known availability, all that we can do is wait.
_WAIT_FOR_AVAILABILITY = text("""
update runs set lease_until = null, leased_by = null, asked_at = null, tries = 0,
    refused_at_availability = cast(:available_until as timestamptz),
    due_at = case when cast(:available_until as timestamptz) is null
        then clock_timestamp() + make_interval(secs => :seconds) else clock_timestamp() end
where id = :run_id and fence = :fence and state = 'planned'
""")
