"""Ask Stripe to make runs: "planned" → "requested", as many as there are free slots, fair between rules.

Claim, call, record: the idempotency key is stored before the call, and the same key is used until Stripe has looked
at the request itself, so no crash and no retry makes a second Stripe run for one attempt.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import catch_up, holds
from app.errors import Held, NotNow, Refused, StripeTrouble
from app.observability import log_lines
from app.queue.claims import Claim, Overtaken, back_off, in_turn
from app.queue.group_commit import together
from app.resources import Resources
from app.runs import adopt, moves, refusals, settle
from app.runs.moves import Move
from app.runs.slots import PENDING_AT_STRIPE
from app.stripe_api.objects import StripeRun
from app.vocabulary import CallKind, RunState


@dataclass(frozen=True, slots=True)
class RequestClaim(Claim):
    """A planned run and all that the call needs."""

    claimed_at: float
    report_type: str
    parameters: dict[str, Any]
    idempotency_key: str
    asked_at: datetime  # when this key was first used
    taken_up: str | None  # the Stripe run that was found for it, and not recorded yet
    maybe_made: bool  # Stripe has runs of the type that this database did not know (see restored)
    key_stale: bool  # whatever it made is in Stripe's list by now (see adopt)
    key_forgotten: bool  # Stripe has dropped it by now
    start_shifted: bool  # asked for one second later than the window begins (see refusals)
    type_missing: bool  # this call is the probe of a type that Stripe said was missing
    available_until: datetime | None  # how far the type's data reached when this was claimed


@dataclass(frozen=True, slots=True)
class Created:
    """A create that went through, and the run that Stripe made (or made earlier, for the same key)."""

    claim: RequestClaim
    stripe_run: StripeRun


async def claim_requests(res: Resources, limit: int) -> list[RequestClaim]:
    """Take up to `limit` planned runs that may be asked for now, over all accounts."""
    claims: list[RequestClaim] = []
    for account in in_turn(res):
        if len(claims) < limit:
            claims += await _claim_from(res, account, limit - len(claims))
    return claims


async def _claim_from(res: Resources, account: str, limit: int) -> list[RequestClaim]:
    try:
        async with res.sessions.begin() as session:
            return await _claim_for_account(res, session, account, limit)
    except catch_up.Behind as behind:
        return await _claim_from(res, account, limit) if await catch_up.catch_up(res, account, behind) else []


async def _claim_for_account(res: Resources, session: AsyncSession, account: str, limit: int) -> list[RequestClaim]:
    if not (await session.execute(_ANYTHING_DUE, {"account": account})).scalar_one():
        return []
    # The lock makes counting free slots and taking them one step, over all processes.
    about = {"account": account, "gap": catch_up.gap_seconds(res)}
    if (behind := (await session.execute(_LOCK_ACCOUNT, about)).scalar()) is not None:
        raise catch_up.Behind(behind)
    allowance = await holds.allowed(session, account, CallKind.CREATE, limit)
    wanted = {
        "account": account,
        "limit": allowance.calls,
        "most_pending": res.settings.max_pending_runs,
        "timeout": res.settings.run_timeout_seconds,
    }
    picked = refusals.one_probe_for_each_type((await session.execute(_PICK, wanted)).all())
    granted = await res.limiter.take(session, account, CallKind.CREATE, wanted=len(picked))
    chosen = picked[:granted]
    if not chosen:
        return []
    await holds.begin(res, session, account, CallKind.CREATE, allowance)
    await refusals.begin_probes(res, session, account, [run.missing_type for run in chosen if run.missing_type])
    values = {
        "ids": [run.id for run in chosen],
        "keys": [secrets.token_hex(16) for _ in chosen],
        "worker": res.worker_id,
        "seconds": res.settings.stalled_after_seconds,
        "key_life": adopt.KEY_LIFE_HOURS,
        "stale": adopt.STALE_MINUTES,
    }
    claimed = (await session.execute(_CLAIM, values)).all()
    return [RequestClaim(**row._mapping, probing=allowance.probing, claimed_at=res.clock()) for row in claimed]


async def request_run(res: Resources, claim: RequestClaim) -> None:
    """Make the call and record what came of it."""
    try:
        made = await _find_or_create(res, claim)
    except StripeTrouble as trouble:
        async with res.sessions.begin() as session:
            await _record_trouble(res, session, claim, trouble)
        _tell(claim, type(trouble).__name__, str(trouble))
    else:
        await together(res, claim.account, record_created, Created(claim, made))
        _tell(claim, "made", made.id)


async def _record_trouble(res: Resources, session: AsyncSession, claim: RequestClaim, trouble: StripeTrouble) -> None:
    match trouble:
        case NotNow():
            await back_off(res, session, claim, trouble)
        case Held():
            await holds.hold_run(res, session, claim, CallKind.CREATE, trouble)
        case Refused():
            await refusals.refused(res, session, claim, trouble)


def _tell(claim: RequestClaim, outcome: str, about: str) -> None:
    log_lines.annotate(outcome=outcome, about=about, report_type=claim.report_type)


async def _find_or_create(res: Resources, claim: RequestClaim) -> StripeRun:
    if taken_up := claim.taken_up or (claim.maybe_made and await adopt.take_unclaimed(res, claim)):
        # It is looked up when it is due, or an event has told of its end.
        return StripeRun(taken_up, claim.report_type, claim.parameters, claim.asked_at, "pending", None, None)
    if not claim.key_forgotten:
        try:
            return await _create(res, claim, claim.idempotency_key)
        except NotNow as trouble:
            if not (trouble.replayed and claim.key_stale):
                raise
    lost = await adopt.find_lost_run(res, claim)
    return lost or await _create(res, claim, await adopt.draw_new_key(res, claim))


async def _create(res: Resources, claim: RequestClaim, key: str) -> StripeRun:
    # Whoever slept that long may have a successor, who may be done, under a key of his own: this one would make a
    # second run.
    if res.clock() - claim.claimed_at > res.settings.stalled_after_seconds:
        raise Overtaken
    return await res.stripe.create_run(
        claim.account, claim.report_type, parameters=claim.parameters, idempotency_key=key
    )


async def record_created(res: Resources, session: AsyncSession, created: Sequence[Created]) -> None:
    """Stripe has these runs of one account: note their ids, and what answers or earlier events say of their end."""
    account, poll = created[0].claim.account, res.settings.pending_poll_seconds
    ids = [one.stripe_run.id for one in created]
    await settle.lock_stripe_runs(session, account, ids)
    claims = [one.claim for one in created]
    known = {"run_ids": [claim.run_id for claim in claims], "numbers": [claim.attempt for claim in claims]}
    await session.execute(_NOTE_IDS, {**known, "stripe_run_ids": ids})
    made = [Move(one.claim.run_id, one.stripe_run.id, one.claim.attempt) for one in created]
    await moves.move_all(session, made, to=RunState.REQUESTED, poll=poll)
    for claim in claims:
        await holds.accepted(session, claim, CallKind.CREATE)
        await refusals.accepted(session, claim)
    ended = [one.stripe_run for one in created if settle.has_ended(one.stripe_run)]
    await settle.settle(session, account, ended, poll_seconds=poll)
    pending = [one.stripe_run.id for one in created if not settle.has_ended(one.stripe_run)]
    if pending:
        await settle.hear_earlier_events(session, account, pending, poll_seconds=poll)


_ANYTHING_DUE = text("""
select exists (select from runs where account = :account and state = 'planned' and due_at <= clock_timestamp()
    and (lease_until is null or lease_until < clock_timestamp()))
""")
_LOCK_ACCOUNT = text("""
select case when known_until < now() - :gap * interval '1 s' then known_until end from accounts
where slug = :account for no key update
""")
# Fair between rules: each rule's place in the queue counts what it already has pending, so a long backfill never
# holds up another rule; within a rule the newest window comes first, so neither does it hold up today's report.
# A planned run whose create was sent and not answered may have taken effect: it keeps its slot, needs no new one, and
# goes first, wherever it stands in its rule: else newer windows could wait for slots that only older ones can free.
# Of each rule only as many as there are slots are looked at: a backlog of years costs no more than one of days.
_PICK = text(f"""
with pending as materialized (
    select rule_id, count(*) as runs from ({PENDING_AT_STRIPE}) as pending_at_stripe
    where account = :account group by rule_id
), waiting as (
    select rule_id, account from runs where account = :account and state = 'planned' group by rule_id, account
), due as (
    select next.*, coalesce(pending.runs, 0) + next.rank as place
    from waiting left join pending on pending.rule_id is not distinct from waiting.rule_id
    cross join lateral (
        select runs.id, runs.interval_end, case when type.missing_since is not null then type.id end as missing_type,
            row_number() over (order by runs.interval_end desc, runs.id) as rank
        from runs left join report_types as type on type.account = runs.account and type.id = runs.report_type
        where runs.account = waiting.account and runs.rule_id is not distinct from waiting.rule_id
          and runs.state = 'planned' and runs.asked_at is null and runs.due_at <= clock_timestamp()
          and (runs.lease_until is null or runs.lease_until < clock_timestamp())
          and (runs.interval_end is null or type.data_available_end is null
               or type.data_available_end >= runs.interval_end)
          and (runs.refused_at_availability is null or type.data_available_end > runs.refused_at_availability)
          and (type.missing_since is null or type.next_probe_at <= clock_timestamp())
        order by runs.interval_end desc, runs.id limit :most_pending
    ) as next
), chosen as (
    select id, 0 as place, interval_end, null as missing_type from runs
    where account = :account and state = 'planned' and asked_at is not null and due_at <= clock_timestamp()
      and (lease_until is null or lease_until < clock_timestamp())
    union all
    (select id, place, interval_end, missing_type from due order by place, interval_end desc, id
     limit greatest(0, :most_pending - (select coalesce(sum(runs), 0) from pending)))
)
select id, missing_type from chosen order by place, interval_end desc, id limit :limit
""")  # noqa: S608 - the part comes from a constant
# The attempt's row and its key are born here, in the commit before the call; a second claim finds the same key.
_CLAIM = text("""
with wanted as (
    select w.id, w.key, runs.asked_at is null as never_asked
    from unnest(cast(:ids as uuid[]), cast(:keys as text[])) as w(id, key) join runs on runs.id = w.id
), claimed as (
    update runs set lease_until = clock_timestamp() + :seconds * interval '1 s', leased_by = :worker,
        fence = fence + 1, asked_at = coalesce(asked_at, clock_timestamp())
    from wanted where runs.id = wanted.id and runs.state = 'planned'
    returning runs.*, wanted.key, wanted.never_asked
), attempt as (
    insert into attempts (run_id, number, account, idempotency_key)
    select id, attempt, account, key from claimed
    on conflict (run_id, number) do update set run_id = excluded.run_id
    returning run_id, number, idempotency_key, stripe_run_id
)
select claimed.id as run_id, claimed.account, claimed.attempt, claimed.fence, claimed.tries, claimed.caused_by,
    claimed.traceparent, claimed.report_type, claimed.parameters, attempt.idempotency_key, claimed.asked_at,
    attempt.stripe_run_id as taken_up, claimed.never_asked and exists (select from unclaimed_runs as lost
        where lost.account = claimed.account and lost.report_type = claimed.report_type) as maybe_made,
    claimed.asked_at < clock_timestamp() - :stale * interval '1 minute' as key_stale,
    claimed.asked_at < clock_timestamp() - :key_life * interval '1 hour' as key_forgotten,
    coalesce((claimed.parameters ->> 'interval_start')::bigint <> extract(epoch from claimed.interval_start), false)
        as start_shifted,
    type.missing_since is not null as type_missing, type.data_available_end as available_until
from claimed join attempt on attempt.run_id = claimed.id
left join report_types as type on type.account = claimed.account and type.id = claimed.report_type
""")
_NOTE_IDS = text("""
update attempts set stripe_run_id = made.id, requested_at = coalesce(requested_at, now()), heard_at = now()
from unnest(cast(:run_ids as uuid[]), cast(:numbers as int[]), cast(:stripe_run_ids as text[]))
    as made(run_id, number, id)
where attempts.run_id = made.run_id and attempts.number = made.number and stripe_run_id is null
""")
