"""Ask Stripe about requested runs without news: the webhook may be lost, or the run stuck."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import holds
from app.db.batch import Batch
from app.errors import Refused
from app.observability import log_lines
from app.queue.claims import FREE, Claim, lock_claim
from app.queue.wakeups import add_wake
from app.resources import ClaimTerms, Resources
from app.runs import moves, settle
from app.runs.moves import RunError
from app.runs.put_off import puts_off
from app.runs.turns import claim_in_turn, claiming
from app.vocabulary import CallKind, ErrorKind, Lane, RunState


@dataclass(frozen=True, slots=True)
class LookupClaim(Claim):
    """A requested run to look up at Stripe; `stuck` when it has been pending for too long."""

    stripe_run_id: str
    requested_at: datetime
    stuck: bool


async def claim_lookups(res: Resources, limit: int) -> list[LookupClaim]:
    """Claim up to `limit` requested runs that are due for a lookup, over all accounts."""

    async def claim(account: str, at_most: int) -> list[LookupClaim]:
        async with claiming(res) as session:
            return await _claim_for_account(session, account, at_most, res.claim_terms)

    return await claim_in_turn(res, Lane.LOOKUPS, limit, claim)


async def _claim_for_account(session: AsyncSession, account: str, limit: int, terms: ClaimTerms) -> list[LookupClaim]:
    due = (await session.execute(_DUE, {"account": account, "limit": limit})).scalars().all()
    permit = await holds.permit(session, account, CallKind.READ, len(due), terms)
    if not permit.calls:
        return []
    values = {
        "ids": due[: permit.calls],
        "worker": terms.lease.worker,
        "seconds": terms.lease.seconds,
        "timeout": terms.settings.run_timeout_seconds,
    }
    claimed = (await session.execute(_CLAIM, values)).all()
    return [LookupClaim(**row._mapping, probing=permit.probing) for row in claimed]


async def look_up_soon(session: AsyncSession, account: str, stripe_run_ids: Sequence[str]) -> None:
    """Make the lookups of those of these Stripe runs due that are pending and ours."""
    batch = Batch(session)
    settle.add_lock(batch, account, stripe_run_ids)  # an answer that is being recorded may be older than the hint
    batch.add(_DUE_NOW, {"account": account, "stripe_run_ids": list(stripe_run_ids)})
    add_wake(batch, Lane.LOOKUPS)
    await batch.send()


@puts_off(CallKind.READ)
async def look_up(res: Resources, claim: LookupClaim) -> None:
    """Read the Stripe run and settle its outcome; a stuck one is given up and replaced."""
    try:
        stripe_run = await res.stripe.read_run(claim.account, claim.stripe_run_id)
    except Refused as refusal:
        log_lines.annotate(outcome="Refused", about=str(refusal))
        await _give_up(res, claim, RunError(ErrorKind.STRIPE_FAILED, refusal.message, refusal.request_id))
        return
    log_lines.annotate(outcome=stripe_run.status)
    async with res.sessions.begin() as session:
        await settle.settle(session, claim.account, [stripe_run], poll_seconds=res.settings.pending_poll_seconds)
        await holds.accepted(session, claim.account, CallKind.READ)
    if claim.stuck and not settle.has_ended(stripe_run):
        message = f"{claim.stripe_run_id} has been pending since {claim.requested_at:%F %T} UTC"
        await _give_up(res, claim, RunError(ErrorKind.TIMED_OUT, message))


async def _give_up(res: Resources, claim: LookupClaim, error: RunError) -> None:
    async with res.sessions.begin() as session:
        await lock_claim(session, claim, RunState.REQUESTED)
        await holds.accepted(session, claim.account, CallKind.READ)
        await moves.try_again_or_fail(session, claim.run_id, claim.attempt, error)


# The most recently refused run comes last: each probe of a held account uses a different run.
_DUE = text(f"""
select id from runs where account = :account and state = 'requested' and due_at <= clock_timestamp()
    and {FREE}
order by refused_at nulls first, due_at, id limit :limit for update skip locked
""")  # noqa: S608 - of constants only
# One that is being looked up was due already. A due time to come, which no call outlasts, says that it is due again
# afterwards: Stripe's answer may be older than the hint (see settle). A locked run is waited for: skipped, the hint
# would be lost, and heartbeats and claims wait for nobody.
_DUE_NOW = text("""
update runs set due_at = case when lease_until > clock_timestamp()
    then greatest(lease_until, clock_timestamp() + interval '2 minutes') else least(due_at, clock_timestamp()) end
where id in (
    select runs.id from runs join attempts on attempts.run_id = runs.id and attempts.number = runs.attempt
    where attempts.account = :account and attempts.stripe_run_id = any(cast(:stripe_run_ids as text[]))
      and runs.state = 'requested'
    order by runs.id for no key update of runs)
""")
_CLAIM = text("""
with claimed as (
    update runs set lease_until = clock_timestamp() + make_interval(secs => :seconds), leased_by = :worker,
        fence = fence + 1
    where id = any(:ids) and state = 'requested' returning *
)
select claimed.id as run_id, claimed.account, claimed.attempt, claimed.fence, claimed.tries, claimed.caused_by,
    claimed.traceparent, attempts.stripe_run_id, claimed.requested_at,
    claimed.requested_at < clock_timestamp() - make_interval(secs => :timeout) as stuck
from claimed join attempts on attempts.run_id = claimed.id and attempts.number = claimed.attempt
""")
