"""Request a run from Stripe: "planned" → "requested".

Claim, call, record: the idempotency key is stored before the call, and stays the same until Stripe has judged the
request itself, so no crash and no retry creates a second Stripe run for one attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import holds
from app.db.batch import Batch
from app.errors import KeyRefused, NotNow, Overtaken, Refused
from app.observability import log_lines
from app.resources import Resources
from app.runs import adopt, moves, refusals, settle
from app.runs.moves import Move
from app.runs.put_off import puts_off
from app.runs.request_claim import RequestClaim
from app.stripe_api.objects import StripeRun
from app.vocabulary import CallKind, RunState


@dataclass(frozen=True, slots=True)
class Created:
    """A successful create, and the run that Stripe made (now, or earlier for the same key)."""

    claim: RequestClaim
    stripe_run: StripeRun


@puts_off(CallKind.CREATE)
async def request_run(res: Resources, claim: RequestClaim) -> None:
    """Make the call and record the result."""
    log_lines.annotate(report_type=claim.report_type)
    try:
        made = await _find_or_create(res, claim)
    except Refused as refusal:
        log_lines.annotate(outcome="Refused", about=str(refusal))
        async with res.sessions.begin() as session:
            if refusal.param is None and await holds.is_held(session, claim.account, CallKind.READ):
                # An answer that Stripe also gives to a plain list call cannot be about this request.
                raise KeyRefused(refusal.message, refusal.request_id, status=refusal.status) from refusal
            await refusals.refused(session, claim, refusal, backoff=res.backoff)
    else:
        record = partial(record_created, poll_seconds=res.settings.pending_poll_seconds)
        await res.group_commit.record(("created", claim.account), record, Created(claim, made))
        log_lines.annotate(outcome="made", about=made.id)


async def _find_or_create(res: Resources, claim: RequestClaim) -> StripeRun:
    if taken_up := claim.taken_up or (claim.maybe_made and await adopt.take_unclaimed(res, claim)):
        # It is looked up when due, unless an event reports its end first.
        return StripeRun(taken_up, claim.report_type, claim.parameters, claim.asked_at, "pending", None, None)
    if not claim.key_forgotten:
        try:
            return await _create(res, claim, claim.idempotency_key)
        except NotNow as error:
            if not (error.replayed and claim.key_stale):
                raise
    lost = await adopt.find_created_run(res, claim)
    return lost or await _create(res, claim, await adopt.draw_new_key(res, claim))


async def _create(res: Resources, claim: RequestClaim, key: str) -> StripeRun:
    # By then a successor may have finished with a key of its own: this key would create a second one.
    if res.clock() - claim.claimed_at > res.settings.stalled_after_seconds:
        raise Overtaken
    return await res.stripe.create_run(
        claim.account, claim.report_type, parameters=claim.parameters, idempotency_key=key
    )


async def record_created(session: AsyncSession, created: Sequence[Created], *, poll_seconds: float) -> None:
    """Record the ids of these Stripe runs of one account, and their ends, if answers or earlier events report them."""
    account = created[0].claim.account
    ids = [one.stripe_run.id for one in created]
    claims = [one.claim for one in created]
    batch = Batch(session)
    settle.add_lock(batch, account, ids)
    asked = {
        "run_ids": [claim.run_id for claim in claims],
        "numbers": [claim.attempt for claim in claims],
        "keys": [claim.idempotency_key for claim in claims],
    }
    batch.add(_NOTE_IDS, {**asked, "account": account, "stripe_run_ids": ids})
    made = [Move(one.claim.run_id, one.stripe_run.id, one.claim.attempt) for one in created]
    moves.begin_moves(batch, made, to=RunState.REQUESTED, poll=poll_seconds)
    holds.add_accepted(batch, account, CallKind.CREATE)
    await batch.send()
    for claim in claims:
        await refusals.accepted(session, claim)
    ended = [one.stripe_run for one in created if settle.has_ended(one.stripe_run)]
    await settle.settle(session, account, ended, poll_seconds=poll_seconds)
    pending = [one.stripe_run.id for one in created if not settle.has_ended(one.stripe_run)]
    if pending:
        await settle.apply_earlier_events(session, account, pending, poll_seconds=poll_seconds)


# A standby that took over during the call may lack the claim, and with it the attempt's row. Without one, the run would
# be requested, and nothing could find its Stripe run. Runs are locked before attempts (docs/decisions/0025).
_NOTE_IDS = text("""
insert into attempts (run_id, number, account, idempotency_key, stripe_run_id, requested_at, heard_at)
select made.run_id, made.number, :account, made.key, made.id, now(), now()
from unnest(cast(:run_ids as uuid[]), cast(:numbers as int[]), cast(:keys as text[]), cast(:stripe_run_ids as text[]))
    as made(run_id, number, key, id)
join runs on runs.id = made.run_id
order by made.run_id for no key update of runs
on conflict (run_id, number) do update set stripe_run_id = excluded.stripe_run_id,
    requested_at = coalesce(attempts.requested_at, excluded.requested_at), heard_at = excluded.heard_at
where attempts.stripe_run_id is null
""")
