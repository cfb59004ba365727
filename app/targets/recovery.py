"""Deliveries that did not arrive: sent again on request, skipped while a target is disabled, pruned."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch_first
from app.errors import Conflict, NotFound
from app.queue.wakeups import wake
from app.vocabulary import Lane


async def retry(session: AsyncSession, message_id: uuid.UUID, target_id: uuid.UUID) -> None:
    """Send a message to a target again, whatever its state. Raises NotFound, and Conflict for a disabled target."""
    values = {"message_id": message_id, "target_id": target_id}
    target = await _lock(session, target_id)
    if (await session.execute(_RETRY, values)).scalar_one_or_none() is None:
        raise NotFound(f"no delivery of message {message_id} to target {target_id}: see GET /v1/deliveries")
    _check_is_sent_to(target)
    await wake(session, Lane.DELIVERIES)


async def recover(session: AsyncSession, target_id: uuid.UUID, since: datetime) -> int:
    """Send a target's failed and skipped messages since a time again; returns how many. Raises Conflict for a
    disabled target."""
    values = {"target_id": target_id, "since": since}
    target = await _lock(session, target_id)
    _check_is_sent_to(target)
    recovered = len((await session.execute(_RECOVER, values)).all())
    if recovered:
        await wake(session, Lane.DELIVERIES)
    return recovered


async def skip_pending(session: AsyncSession, target_id: uuid.UUID) -> None:
    """Skip what is pending for a target that was disabled; it waits for `recover`."""
    await session.execute(_SKIP, {"target_id": target_id})


@dataclass(frozen=True, slots=True)
class _Target:
    name: str
    enabled: bool
    removed: bool


async def _lock(session: AsyncSession, target_id: uuid.UUID) -> _Target:
    """The target, which is not disabled before the caller commits: locked before its deliveries, as attempts do it."""
    target = await fetch_first(session, _Target, _TARGET, {"target_id": target_id})
    if target is None:
        raise NotFound(f"there is no target {target_id}: see GET /v1/targets")
    return target


def _check_is_sent_to(target: _Target) -> None:
    if target.removed:
        raise Conflict(f"the target {target.name!r} was removed: nothing is sent to it any longer")
    if not target.enabled:
        raise Conflict(f"the target {target.name!r} is disabled: enable it, then send again")


@dataclass(frozen=True, slots=True)
class Failing:
    """Since when a target has been failing, and how many messages it has missed since."""

    since: datetime
    messages: int


async def failing(session: AsyncSession, target_id: uuid.UUID, *, days: float) -> Failing | None:
    """How a target fails; None unless it has failed for this many days."""
    return await fetch_first(session, Failing, _FAILING, {"target_id": target_id, "days": days})


async def prune(session: AsyncSession, *, days: int, limit: int) -> int:
    """Remove messages older than `days`, their deliveries and attempts with them; returns how many."""
    return len((await session.execute(_PRUNE, {"days": days, "limit": limit})).all())


_RETRY = text("""
update deliveries set state = 'pending', tries = 0, due_at = clock_timestamp(), lease_until = null, leased_by = null,
    fence = fence + 1, delivered_at = null
where message_id = :message_id and target_id = :target_id returning 1
""")
_RECOVER = text("""
update deliveries set state = 'pending', tries = 0, due_at = clock_timestamp(), lease_until = null, leased_by = null,
    fence = deliveries.fence + 1
from messages
where deliveries.target_id = :target_id and deliveries.state in ('failed', 'skipped')
    and messages.id = deliveries.message_id and messages.created_at >= :since
returning 1
""")
_TARGET = text("""
select name, enabled, deleted_at is not null as removed from targets where id = :target_id for share
""")
_SKIP = text("""
update deliveries set state = 'skipped', lease_until = null, leased_by = null, fence = fence + 1
where target_id = :target_id and state = 'pending'
""")
# Counted only when it matters, as it reads every attempt.
_FAILING = text("""
select failing_since as since,
    (select count(distinct attempts.message_id) from delivery_attempts as attempts
     where attempts.target_id = targets.id and attempts.at >= targets.failing_since) as messages
from targets where id = :target_id and failing_since <= clock_timestamp() - make_interval(secs => 86400.0 * :days)
""")
_PRUNE = text("""
delete from messages where id in (
    select id from messages where created_at < now() - make_interval(days => :days)
        and not exists (
            select from deliveries join targets on targets.id = deliveries.target_id
            where message_id = messages.id and state = 'pending' and enabled and deleted_at is null
        )
    order by created_at limit :limit
) returning 1
""")
