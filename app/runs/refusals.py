"""Stripe looked at the request itself and said no: not yet, a second later, not with this type, or never.

Only here does an idempotency key end: a 400 or 404 about the request may be replayed under the old one.
"""

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import holds
from app.errors import Refused
from app.planning.backoff import full_jitter
from app.queue.claims import hold_fence
from app.queue.wakeups import wake
from app.resources import Resources
from app.runs import moves
from app.runs.moves import RunError
from app.vocabulary import CallKind, ErrorKind, Lane, RunState

if TYPE_CHECKING:
    from app.runs.request import RequestClaim

_NOT_YET = re.compile(r"only available (through|until|up to)", re.IGNORECASE)
# The type takes another interval than we know of: no other value will ever do.
_NOT_ABOUT_THE_VALUE = frozenset({"parameter_missing", "parameter_unknown"})
_LIVE_ONLY = re.compile(r"requires? a live[- ]mode", re.IGNORECASE)


async def refused(res: Resources, session: AsyncSession, claim: "RequestClaim", trouble: Refused) -> None:
    """Decide what a 400 or 404 to a create means; nothing of it spends an attempt, but the final ones.

    Raises `Overtaken`: a refusal that comes late must not end the key that a successor is using.
    """
    await hold_fence(session, claim, RunState.PLANNED)
    # Stripe looks at the key before it looks at the request: whoever is refused for the latter has a key that works.
    await holds.accepted(session, claim, CallKind.CREATE)
    if trouble.status == 404 or _LIVE_ONLY.search(trouble.message):
        await _type_is_missing(res, session, claim, trouble)
    elif _names(trouble, "interval_end") or _NOT_YET.search(trouble.message):
        await _not_yet(res, session, claim)
    elif _names(trouble, "interval_start") and not claim.start_shifted and "interval_start" in claim.parameters:
        await session.execute(_SHIFT_START, _draw_key(claim))
        await session.execute(_GIVE_BACK, {"run_id": claim.run_id, "fence": claim.fence, "seconds": 0.0})
        await wake(session, Lane.REQUESTS)
    else:
        kind = ErrorKind.INTERVAL_REFUSED if _names(trouble, "interval_start") else ErrorKind.REJECTED
        error = RunError(kind, trouble.message, trouble.request_id)
        await moves.fail(session, claim.run_id, claim.attempt, error)


def one_probe_for_each_type(picked: Sequence[Any]) -> list[Any]:
    """Of the runs of a type that Stripe said was missing (`missing_type`) one asks whether it still is."""
    probing = {run.missing_type: run.id for run in reversed(picked) if run.missing_type}
    return [run for run in picked if not run.missing_type or probing[run.missing_type] == run.id]


async def begin_probes(res: Resources, session: AsyncSession, account: str, types: Sequence[str]) -> None:
    """These types are about to be asked for: nobody else makes another probe beside it."""
    if types:
        values = {"account": account, "types": list(types), "seconds": res.settings.retry_max_seconds}
        await session.execute(_BEGIN_PROBES, values)


async def accepted(session: AsyncSession, claim: "RequestClaim") -> None:
    """The create went through: remember what it taught about the report type."""
    if claim.start_shifted:
        await session.execute(_REMEMBER_SHIFT, {"account": claim.account, "type": claim.report_type})
    if claim.type_missing:
        await session.execute(_TYPE_IS_THERE, {"account": claim.account, "type": claim.report_type})
        await wake(session, Lane.REQUESTS)


def _names(trouble: Refused, parameter: str) -> bool:
    if trouble.code in _NOT_ABOUT_THE_VALUE:
        return False
    # Stripe writes `parameters.interval_start` here, and `parameters[interval_start]` elsewhere.
    return trouble.param is not None and trouble.param.rstrip("]").endswith(parameter)


def _draw_key(claim: "RequestClaim") -> dict[str, object]:
    return {"run_id": claim.run_id, "number": claim.attempt, "key": secrets.token_hex(16)}


async def _not_yet(res: Resources, session: AsyncSession, claim: "RequestClaim") -> None:
    await session.execute(_NEW_KEY, _draw_key(claim))
    # What the refusal is measured against is what we knew when we asked: an advance since then is one worth a try.
    values = {"run_id": claim.run_id, "fence": claim.fence, "available_until": claim.available_until}
    await session.execute(_WAIT_FOR_AVAILABILITY, {**values, "seconds": res.settings.retry_max_seconds})


async def _type_is_missing(res: Resources, session: AsyncSession, claim: "RequestClaim", trouble: Refused) -> None:
    seconds = full_jitter(
        claim.tries, base=res.settings.retry_base_seconds, maximum=res.settings.retry_max_seconds, random=res.random
    )
    about = {"account": claim.account, "type": claim.report_type, "reason": trouble.message, "seconds": seconds}
    await session.execute(_TYPE_IS_MISSING, about)
    await session.execute(_NEW_KEY, _draw_key(claim))
    await session.execute(_GIVE_BACK, {"run_id": claim.run_id, "fence": claim.fence, "seconds": seconds})


_NEW_KEY = text("""
update attempts set idempotency_key = :key, key_drawn_at = now() where run_id = :run_id and number = :number
""")
_GIVE_BACK = text("""
update runs set lease_until = null, leased_by = null, asked_at = null, tries = tries + 1,
    due_at = clock_timestamp() + :seconds * interval '1 s'
where id = :run_id and fence = :fence and state = 'planned'
""")
# One second later: the object page's bound (stripe.md 3.5). The run's window stays what it is.
_SHIFT_START = text("""
with shifted as (
    update runs set parameters = jsonb_set(parameters, '{interval_start}',
        to_jsonb((parameters ->> 'interval_start')::bigint + 1))
    where id = :run_id and state = 'planned' and parameters ? 'interval_start'
)
update attempts set idempotency_key = :key, key_drawn_at = now() where run_id = :run_id and number = :number
""")
_REMEMBER_SHIFT = text("update report_types set start_offset_seconds = 1 where account = :account and id = :type")
_TYPE_IS_MISSING = text("""
insert into report_types (account, id, missing_since, missing_reason, next_probe_at)
values (:account, :type, now(), :reason, clock_timestamp() + :seconds * interval '1 s')
on conflict (account, id) do update set missing_since = coalesce(report_types.missing_since, now()),
    missing_reason = excluded.missing_reason, next_probe_at = excluded.next_probe_at
""")
_BEGIN_PROBES = text("""
update report_types set next_probe_at = clock_timestamp() + :seconds * interval '1 s'
where account = :account and id = any(:types)
""")
_TYPE_IS_THERE = text("""
update report_types set missing_since = null, missing_reason = null, next_probe_at = null
where account = :account and id = :type
""")
# Where availability is not known there is nothing to wait for but time.
_WAIT_FOR_AVAILABILITY = text("""
update runs set lease_until = null, leased_by = null, asked_at = null, tries = 0,
    refused_at_availability = cast(:available_until as timestamptz),
    due_at = case when cast(:available_until as timestamptz) is null
        then clock_timestamp() + :seconds * interval '1 s' else clock_timestamp() end
where id = :run_id and fence = :fence and state = 'planned'
""")
