"""Ask Stripe about requested runs that nothing was heard of: the webhook may be lost, or the run stuck."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import holds
from app.errors import Held, NotNow, Refused
from app.observability import log_lines
from app.queue.claims import Claim, back_off, hold_fence, in_turn
from app.resources import Resources
from app.runs import moves, settle
from app.runs.moves import RunError
from app.vocabulary import CallKind, ErrorKind, RunState


@dataclass(frozen=True, slots=True)
class LookupClaim(Claim):
    """A requested run whose Stripe run is to be asked about; `stuck` when it has been pending for too long."""

    stripe_run_id: str
    requested_at: datetime
    stuck: bool


async def claim_lookups(res: Resources, limit: int) -> list[LookupClaim]:
    """Take up to `limit` requested runs that are due to be looked up, over all accounts."""
    claims: list[LookupClaim] = []
    for account in in_turn(res):
        if len(claims) < limit:
            async with res.sessions.begin() as session:
                claims += await _claim_for_account(res, session, account, limit - len(claims))
    return claims


async def _claim_for_account(res: Resources, session: AsyncSession, account: str, limit: int) -> list[LookupClaim]:
    due = (await session.execute(_DUE, {"account": account, "limit": limit})).scalars().all()
    if not due:
        return []
    allowance = await holds.allowed(session, account, CallKind.READ, len(due))
    granted = await res.limiter.take(session, account, CallKind.READ, wanted=allowance.calls)
    if not granted:
        return []
    await holds.begin(res, session, account, CallKind.READ, allowance)
    values = {
        "ids": due[:granted],
        "worker": res.worker_id,
        "seconds": res.settings.stalled_after_seconds,
        "timeout": res.settings.run_timeout_seconds,
    }
    return [
        LookupClaim(**row._mapping, probing=allowance.probing) for row in (await session.execute(_CLAIM, values)).all()
    ]


async def look_up(res: Resources, claim: LookupClaim) -> None:
    """Read the Stripe run and settle what it says; one that is stuck is given up and replaced."""
    try:
        stripe_run = await res.stripe.read_run(claim.account, claim.stripe_run_id)
    except NotNow as trouble:
        log_lines.annotate(outcome="NotNow", about=str(trouble))
        async with res.sessions.begin() as session:
            await back_off(res, session, claim, trouble)
        return
    except Held as trouble:
        log_lines.annotate(outcome="Held", about=str(trouble))
        async with res.sessions.begin() as session:
            await holds.hold_run(res, session, claim, CallKind.READ, trouble)
        return
    except Refused as trouble:
        log_lines.annotate(outcome="Refused", about=str(trouble))
        error = RunError(ErrorKind.STRIPE_FAILED, trouble.message, trouble.request_id)
        await _give_up(res, claim, error)
        return
    log_lines.annotate(outcome=stripe_run.status)
    async with res.sessions.begin() as session:
        await holds.accepted(session, claim, CallKind.READ)
        await settle.settle(session, claim.account, [stripe_run], poll_seconds=res.settings.pending_poll_seconds)
    if claim.stuck and not settle.has_ended(stripe_run):
        error = RunError(ErrorKind.TIMED_OUT, f"{claim.stripe_run_id} is pending since {claim.requested_at:%F %T} UTC")
        await _give_up(res, claim, error)


async def _give_up(res: Resources, claim: LookupClaim, error: RunError) -> None:
    async with res.sessions.begin() as session:
        await hold_fence(session, claim, RunState.REQUESTED)
        await holds.accepted(session, claim, CallKind.READ)
        await moves.try_again_or_fail(session, claim.run_id, claim.attempt, error)


_DUE = text("""
select id from runs where account = :account and state = 'requested' and due_at <= clock_timestamp()
    and (lease_until is null or lease_until < clock_timestamp())
order by due_at limit :limit for update skip locked
""")
_CLAIM = text("""
with claimed as (
    update runs set lease_until = clock_timestamp() + :seconds * interval '1 s', leased_by = :worker,
        fence = fence + 1
    where id = any(:ids) and state = 'requested' returning *
)
select claimed.id as run_id, claimed.account, claimed.attempt, claimed.fence, claimed.tries, claimed.caused_by,
    claimed.traceparent, attempts.stripe_run_id, claimed.requested_at,
    claimed.requested_at < now() - :timeout * interval '1 s' as stuck
from claimed join attempts on attempts.run_id = claimed.id and attempts.number = claimed.attempt
""")
