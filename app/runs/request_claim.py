"""Claims planned runs that may be requested now: as many as there are free slots, fairly between rules."""

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.accounts import catch_up, holds
from app.db.batch import answer_by_driver, fetch_by_driver
from app.errors import AccountBusy, WatermarkBehind
from app.queue.claims import Claim
from app.resources import ClaimTerms, Resources
from app.runs.slots import PENDING_AT_STRIPE
from app.runs.turns import claim_in_turn, claiming
from app.stripe_api.rate_limit import USED_UP
from app.vocabulary import CallKind, Lane

# Stripe keeps an idempotency key for 24 hours; an hour less, as calls may be slow and clocks differ.
KEY_LIFE_HOURS = 23
# After this long, a run made by a create that ended in a server error shows in Stripe's list.
STALE_MINUTES = 10
# The most rules that one claim looks at.
MOST_RULES = 500


@dataclass(frozen=True, slots=True)
class RequestClaim(Claim):
    """A planned run and everything that the call needs."""

    claimed_at: float
    report_type: str
    parameters: dict[str, Any]
    idempotency_key: str
    asked_at: datetime  # when this key was first used
    taken_up: str | None  # a Stripe run that was found for it but not recorded yet
    never_asked: bool  # this key was not used in a call yet
    maybe_made: bool  # Stripe has runs of this type that this database did not know (see accounts/catch_up)
    key_stale: bool  # by now a run that it made is in Stripe's list (see adopt)
    key_forgotten: bool  # by now Stripe has forgotten the key
    start_shifted: bool  # requested from one second after the start of the window (see refusals)
    type_missing: bool  # this call probes a type that Stripe reported missing
    of_payout: bool  # of a rule for every payout, planned recently: its data may still be coming
    available_until: datetime | None  # how far the type's data reached at the time of the claim

    @property
    def may_have_taken_effect(self) -> bool:
        """Whether a create with this key was sent before without a known answer."""
        return not self.never_asked


@dataclass(frozen=True, slots=True)
class _Watermark:
    """For an account with due runs: whether it is locked now, what its watermark allows, and whether it is held."""

    locked: bool
    known_until: datetime | None
    too_old: bool
    ageing: bool  # it must be moved
    other_timeline: bool
    is_held: bool


@dataclass(frozen=True, slots=True)
class _Picked:
    """A run that may be requested; `missing_type` if it probes a type that Stripe reported missing."""

    id: uuid.UUID
    missing_type: str | None


async def claim_requests(res: Resources, limit: int) -> list[RequestClaim]:
    """Claim up to `limit` planned runs that may be requested now, over all accounts."""
    return await claim_in_turn(res, Lane.REQUESTS, limit, partial(_claim_from, res))


async def _claim_from(res: Resources, account: str, limit: int) -> list[RequestClaim]:
    try:
        async with claiming(res) as session:
            return await _claim_for_account(session, account, limit, res.claim_terms)
    except WatermarkBehind as behind:
        return await _claim_from(res, account, limit) if await catch_up.catch_up(res, account, behind) else []


async def _claim_for_account(session: AsyncSession, account: str, limit: int, terms: ClaimTerms) -> list[RequestClaim]:
    # The lock makes counting and taking free slots atomic across processes. No process waits for it: with many of them
    # each would hold a connection, and a place in a queue, for as long as all those before it take.
    gap, fresh = catch_up.gap_seconds(terms.settings), catch_up.fresh_seconds(terms.settings)
    about = {"account": account, "held_kind": CallKind.CREATE.value}
    values = {**about, "gap": gap, "fresh": fresh, **terms.limiter.used_up(CallKind.CREATE)}
    found = await fetch_by_driver(session, _Watermark, _LOCK_ACCOUNT, values)
    if not found:
        return []
    (mark,) = found
    if not mark.locked:
        raise AccountBusy
    if mark.known_until is not None and (mark.too_old or mark.other_timeline):
        raise WatermarkBehind(mark.known_until, other_timeline=mark.other_timeline)
    if mark.ageing:
        await catch_up.move_mark(session, account)
    picked = await _pick(session, account, limit, terms)
    permit = await holds.permit(session, account, CallKind.CREATE, len(picked), terms, may_be_held=mark.is_held)
    chosen = picked[: permit.calls]
    if not chosen:
        return []
    types = [run.missing_type for run in chosen if run.missing_type]
    await report_types.begin_probes(session, account, types, seconds=terms.settings.retry_max_seconds)
    values = {
        "ids": [run.id for run in chosen],
        "keys": [secrets.token_hex(16) for _ in chosen],
        "worker": terms.lease.worker,
        "seconds": terms.lease.seconds,
        "key_life": KEY_LIFE_HOURS,
        "stale": STALE_MINUTES,
    }
    claimed = await answer_by_driver(session, _CLAIM, values)
    return [RequestClaim(**row, probing=permit.probing, claimed_at=terms.now) for row in claimed.mappings()]


async def _pick(session: AsyncSession, account: str, limit: int, terms: ClaimTerms) -> list[_Picked]:
    values = {
        "account": account,
        "limit": limit,
        "most_pending": terms.settings.max_pending_runs,
        "timeout": terms.settings.run_timeout_seconds,
        "most_rules": MOST_RULES,
        "random": terms.random(),
    }
    picked = await fetch_by_driver(session, _Picked, _PICK, values)
    # One of the runs of a type that Stripe reported missing probes whether it still is.
    probing = {run.missing_type: run.id for run in reversed(picked) if run.missing_type}
    return [run for run in picked if not run.missing_type or probing[run.missing_type] == run.id]


# No row if nothing is due, or no call is allowed: a lane is often woken for nothing, and looking at each rule costs
# far more. Not locked if another process has the account.
_LOCK_ACCOUNT = text(f"""
select slug is not null as locked, known_until,
    coalesce(known_until < clock_timestamp() - make_interval(secs => :gap), false) as too_old,
    coalesce(known_until < clock_timestamp() - make_interval(secs => :fresh), false) as ageing,
    coalesce(known_until is not null and timeline <> server_timeline(), false) as other_timeline,
    {holds.IS_HELD} as is_held
from (
    select from runs where account = :account and state = 'planned' and due_at <= clock_timestamp()
        and not exists ({USED_UP}) limit 1
) as due left join lateral (
    select * from accounts where slug = :account for no key update skip locked
) as free on true
""")  # noqa: S608 - of constants only
_DUE_COLUMNS = """run_id, interval_end, case when type_missing then report_type end as missing_type,
            row_number() over (order by interval_end desc, due_at, run_id) as rank"""
_DUE = """state = 'planned' and asked_at is null and due_at <= clock_timestamp()
          and not (leased or beyond_availability or refused or type_missing and type_probe_at > clock_timestamp())"""
# Fair between rules: a rule's place in the queue counts its pending runs, so a long backfill never holds up another
# rule; within a rule the newest window comes first, so it does not hold up today's report either. Within a window
# connected accounts go in the order of `due_at`, which planning shuffles and back-off moves to the end.
# A create that was sent but not answered may have taken effect: its run keeps its slot, needs no new one, and goes
# first, whatever its place in its rule. Otherwise newer windows could wait for slots that only older ones can free.
# The most recently refused run comes last: each probe of a held account uses a different run.
# Rules with a withdrawal are skipped: their runs will be cancelled, not requested.
#
#   head ─┐  the rules that have planned runs, found by jumping from one to the next in the index; if there are
#   tail ─┴▶ more than `most_rules`, that many from a random one on: claiming costs the same, however many there are
#   due ───▶ from each rule, and from the ad-hoc runs, as many as there are slots: a backlog of years costs no more
#   chosen ▶ the best places, as many as there are free slots, behind the unanswered creates
#
# Locked before the hold, as everywhere (docs/decisions/0025). A run that somebody else has locked is being moved.
_PICK = text(f"""
with recursive pending as materialized (
    select rule_id, count(*) as runs from ({PENDING_AT_STRIPE}) as pending_at_stripe
    where account = :account group by rule_id
), head as (
    (select rule_id, 1 as n from runs where account = :account and state = 'planned' and rule_id is not null
     order by rule_id limit 1)
    union all
    select next.rule_id, n + 1 from head cross join lateral (
        select rule_id from runs where account = :account and state = 'planned' and rule_id > head.rule_id
        order by rule_id limit 1) as next
    where n < :most_rules
), start as (
    select id from rules where (select count(*) from head) >= :most_rules order by id
    offset floor(cast(:random as float8) * (select count(*) from rules)) limit 1
), tail as (
    (select rule_id, 1 as n from runs where account = :account and state = 'planned'
        and rule_id >= (select id from start) order by rule_id limit 1)
    union all
    select next.rule_id, n + 1 from tail cross join lateral (
        select rule_id from runs where account = :account and state = 'planned' and rule_id > tail.rule_id
        order by rule_id limit 1) as next
    where n < :most_rules
), waiting as (
    select rule_id from (
        select rule_id from tail
        union all (select rule_id from head limit :most_rules - (select count(*) from tail))
    ) as found where not exists (select from withdrawals where withdrawals.rule_id = found.rule_id)
), due as (
    select next.*, coalesce(pending.runs, 0) + next.rank as place
    from waiting left join pending on pending.rule_id = waiting.rule_id
    cross join lateral (
        select {_DUE_COLUMNS} from run_readiness as run
        where run.account = :account and run.rule_id = waiting.rule_id and {_DUE}
        order by interval_end desc, due_at, run_id limit :most_pending
    ) as next
    union all
    select next.*, (select coalesce(sum(runs), 0) from pending where rule_id is null) + next.rank
    from (
        select {_DUE_COLUMNS} from run_readiness as run
        where run.account = :account and run.rule_id is null and {_DUE}
        order by interval_end desc, due_at, run_id limit :most_pending
    ) as next
), chosen as (
    select run_id, 0 as place, interval_end, null as missing_type from run_readiness
    where account = :account and state = 'planned' and asked_at is not null and due_at <= clock_timestamp()
      and not (leased or withdrawn)
    union all
    (select run_id, place, interval_end, missing_type from due order by place, interval_end desc, run_id
     limit greatest(0, :most_pending - (select coalesce(sum(runs), 0) from pending)))
)
select chosen.run_id as id, chosen.missing_type from chosen join runs on runs.id = chosen.run_id
order by runs.refused_at is not null, runs.refused_at, chosen.place, chosen.interval_end desc, runs.id limit :limit
for no key update of runs skip locked
""")  # noqa: S608 - the parts come from constants
# The attempt's row and key are created here, committed before the call; a second claim finds the same key.
_CLAIM = text("""
with wanted as (
    select w.id, w.key, runs.asked_at is null as never_asked
    from unnest(cast(:ids as uuid[]), cast(:keys as text[])) as w(id, key) join runs on runs.id = w.id
), claimed as (
    update runs set lease_until = clock_timestamp() + make_interval(secs => :seconds), leased_by = :worker,
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
    attempt.stripe_run_id as taken_up, claimed.never_asked,
    exists (select from unclaimed_runs as lost where lost.account = claimed.account
        and lost.report_type = claimed.report_type and lost.noted_at <= claimed.asked_at) as maybe_made,
    claimed.asked_at < clock_timestamp() - make_interval(mins => :stale) as key_stale,
    claimed.asked_at < clock_timestamp() - make_interval(hours => :key_life) as key_forgotten,
    coalesce(cast(claimed.parameters ->> 'interval_start' as bigint) <> extract(epoch from claimed.interval_start),
        false) as start_shifted,
    claimed.rule_id is not null and claimed.parameters ? 'payout'
        and claimed.planned_at > clock_timestamp() - interval '7 days' as of_payout,
    type.missing_since is not null as type_missing, type.data_available_end as available_until
from claimed join attempt on attempt.run_id = claimed.id
left join report_types as type on type.account = claimed.account and type.id = claimed.report_type
""")
