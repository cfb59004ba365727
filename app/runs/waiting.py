"""Why a run is waiting: derived from the rows on request, for a page of runs in one statement."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.resources import ClaimTerms
from app.runs.slots import PENDING_AT_STRIPE
from app.vocabulary import RUN_STEPS, CallKind, RunState, WaitReason


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why, and until when: for `availability` how far data must reach, otherwise the time of the next try, if known.

    `message` is the last error of a run that backs off.
    """

    reason: WaitReason
    until: datetime | None
    message: str | None = None


# The kind of call that a run in this state needs next. One that Stripe is making needs none: a webhook ends it, too.
NEEDS: Mapping[str, CallKind] = {step.state: step.call for step in RUN_STEPS if step.state is not RunState.REQUESTED}


@dataclass(frozen=True, slots=True)
class Readiness:
    """What may block a run's next step."""

    run_id: uuid.UUID
    account: str
    state: str
    interval_end: datetime | None
    due_at: datetime
    last_trouble: str | None
    leased: bool
    backing_off: bool
    type_missing: bool
    type_probe_at: datetime | None
    beyond_availability: bool
    refused: bool  # "not yet": refused at the current availability
    held: bool
    hold_probe_at: datetime | None
    no_slot: bool
    rate_until: datetime | None


async def waiting_for(
    session: AsyncSession, run_ids: Sequence[uuid.UUID], terms: ClaimTerms
) -> Mapping[uuid.UUID, Waiting]:
    """Why these runs are waiting; runs that are not waiting, or are done, are left out."""
    if not run_ids:
        return {}
    values: dict[str, Any] = {"ids": list(run_ids), "slots": terms.settings.max_pending_runs}
    values["timeout"] = terms.settings.run_timeout_seconds
    for kind in (CallKind.CREATE, CallKind.FILES):
        limited = terms.limiter.per_second > 0
        values[f"{kind}_ahead"] = terms.limiter.ahead(kind) if limited else None
        values[f"{kind}_step"] = terms.limiter.step(kind) if limited else None
    found = await fetch(session, Readiness, _FACTS, values)
    reasons = {run.run_id: why(run, has_key=run.account in terms.accounts) for run in found}
    return {run_id: waiting for run_id, waiting in reasons.items() if waiting is not None}


def why(run: Readiness, *, has_key: bool) -> Waiting | None:
    """The first thing that blocks a run's next step; None if nothing does."""
    if run.leased or run.state not in NEEDS:
        return None
    if not has_key:
        return Waiting(WaitReason.ACCOUNT_HELD, None)
    return (_before_planned(run) if run.state == RunState.PLANNED else None) or _before_any(run)


def _before_planned(run: Readiness) -> Waiting | None:
    if run.type_missing:
        return Waiting(WaitReason.REPORT_TYPE_MISSING, run.type_probe_at)
    if run.beyond_availability:
        return Waiting(WaitReason.AVAILABILITY, run.interval_end)
    if run.refused:
        return Waiting(WaitReason.AVAILABILITY, None)
    return None


def _before_any(run: Readiness) -> Waiting | None:
    if run.held:
        return Waiting(WaitReason.ACCOUNT_HELD, run.hold_probe_at)
    if run.backing_off:
        return Waiting(WaitReason.BACKOFF, run.due_at, run.last_trouble)
    if run.no_slot:
        return Waiting(WaitReason.SLOT, None)
    if run.rate_until is not None:
        return Waiting(WaitReason.RATE, run.rate_until)
    return None


_FACTS = text(f"""
with wanted as (
    select * from run_readiness where run_id = any(:ids) and state in ('planned', 'ready')
), used as (
    select account, count(*) as slots from ({PENDING_AT_STRIPE}) as pending_at_stripe
    where account in (select account from wanted) group by account
)
select wanted.run_id, wanted.account, wanted.state, wanted.interval_end, wanted.due_at, wanted.last_trouble,
    wanted.leased,
    wanted.due_at > clock_timestamp() as backing_off, wanted.type_missing, wanted.type_probe_at,
    wanted.beyond_availability, wanted.refused, wanted.held,
    wanted.hold_probe_at,
    wanted.state = 'planned' and wanted.asked_at is null and coalesce(used.slots, 0) >= :slots as no_slot,
    case when rate.arrival - ahead > clock_timestamp()
        then least(rate.arrival - ahead, clock_timestamp() + step) end as rate_until
from wanted
left join rate_limits as rate on rate.account = wanted.account and rate.call_kind = wanted.call_kind
left join used on used.account = wanted.account
cross join lateral (
    select make_interval(secs => case wanted.call_kind when 'create'
        then cast(:create_ahead as float8) else cast(:files_ahead as float8) end),
        make_interval(secs => case wanted.call_kind when 'create'
        then cast(:create_step as float8) else cast(:files_step as float8) end)
) as allowance(ahead, step)
""")  # noqa: S608 - the part comes from a constant
