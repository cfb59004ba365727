"""Why a run stands still: derived from the rows when somebody asks, for a whole page of runs in one statement."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.resources import Resources
from app.runs.slots import PENDING_AT_STRIPE
from app.vocabulary import CallKind, RunState, WaitReason


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why, and until when: for `availability` where data has to reach, otherwise the time of the next try, if known."""

    reason: WaitReason
    until: datetime | None


async def waiting_for(
    res: Resources, session: AsyncSession, run_ids: Sequence[uuid.UUID]
) -> Mapping[uuid.UUID, Waiting]:
    """Why these runs stand still; those that do not, or are done, are left out."""
    if not run_ids:
        return {}
    values: dict[str, Any] = {"ids": list(run_ids), "slots": res.settings.max_pending_runs}
    values["timeout"] = res.settings.run_timeout_seconds
    for kind in (CallKind.CREATE, CallKind.FILES):
        values[f"{kind}_ahead"] = res.limiter.ahead(kind) if res.limiter.per_second > 0 else None
    found = (await session.execute(_FACTS, values)).all()
    reasons = {facts.id: why(facts, has_key=facts.account in res.stripe.accounts) for facts in found}
    return {run_id: waiting for run_id, waiting in reasons.items() if waiting is not None}


def why(run: Any, *, has_key: bool) -> Waiting | None:
    """The first thing in the way of a run's next step (a row of `_FACTS`); None when nothing is."""
    if run.leased or run.state not in (RunState.PLANNED, RunState.READY):
        return None
    if not has_key:
        return Waiting(WaitReason.ACCOUNT_HELD, None)
    return (_before_planned(run) if run.state == RunState.PLANNED else None) or _before_any(run)


def _before_planned(run: Any) -> Waiting | None:
    if run.type_missing:
        return Waiting(WaitReason.REPORT_TYPE_MISSING, run.type_probe_at)
    if run.beyond_availability:
        return Waiting(WaitReason.AVAILABILITY, run.interval_end)
    if run.refused:
        return Waiting(WaitReason.AVAILABILITY, None)
    return None


def _before_any(run: Any) -> Waiting | None:
    if run.held:
        return Waiting(WaitReason.ACCOUNT_HELD, run.probe_at)
    if run.backing_off:
        return Waiting(WaitReason.BACKOFF, run.due_at)
    if run.no_slot:
        return Waiting(WaitReason.SLOT, None)
    if run.rate_until is not None:
        return Waiting(WaitReason.RATE, run.rate_until)
    return None


# The same conditions as in the claiming statements of `request` and `download`.
_FACTS = text(f"""
with wanted as (
    select runs.*, case state when 'planned' then 'create' else 'files' end as call_kind
    from runs where id = any(:ids) and state in ('planned', 'ready')
), used as (
    select account, count(*) as slots from ({PENDING_AT_STRIPE}) as pending_at_stripe
    where account in (select account from wanted) group by account
)
select wanted.id, wanted.account, wanted.state, wanted.interval_end, wanted.due_at,
    coalesce(wanted.lease_until > clock_timestamp(), false) as leased,
    wanted.due_at > clock_timestamp() as backing_off,
    type.missing_since is not null as type_missing, type.next_probe_at as type_probe_at,
    coalesce(wanted.interval_end > type.data_available_end, false) as beyond_availability,
    coalesce(wanted.refused_at_availability >= type.data_available_end, false) as refused,
    hold.account is not null as held, hold.next_probe_at as probe_at,
    wanted.state = 'planned' and wanted.asked_at is null and coalesce(used.slots, 0) >= :slots as no_slot,
    case when rate.arrival - ahead > clock_timestamp() then rate.arrival - ahead end as rate_until
from wanted
left join report_types as type on type.account = wanted.account and type.id = wanted.report_type
left join account_holds as hold on hold.account = wanted.account and hold.call_kind = wanted.call_kind
left join rate_limits as rate on rate.account = wanted.account and rate.call_kind = wanted.call_kind
left join used on used.account = wanted.account
cross join lateral (
    select interval '1 s' * case wanted.call_kind when 'create'
        then cast(:create_ahead as float8) else cast(:files_ahead as float8) end
) as allowance(ahead)
""")  # noqa: S608 - the part comes from a constant
