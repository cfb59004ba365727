"""Deliveries as rows: claimed target by target, recorded with every attempt, sent again on request. Only SQL.

Each target has a few slots of its own, and a failing one has only one: a dead target does not hold up the others.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.queue.claims import FREE, LEASED

# Calls under way at once to one target, and to one that has been failing.
AT_ONCE = 4
AT_ONCE_WHILE_FAILING = 1
# The most messages in one mail or one Slack post.
MOST_COLLECTED = 500


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message that is due to a target, and how often delivering it has failed."""

    id: uuid.UUID
    type: str
    account: str | None
    rule_id: uuid.UUID | None
    subject: str | None
    data: dict[str, Any]
    created_at: datetime
    tries: int
    fence: int


@dataclass(frozen=True, slots=True)
class Destination:
    """The values of a target that sending needs."""

    id: uuid.UUID
    name: str
    kind: str
    url: str | None
    recipients: list[str]
    secret_version: int
    previous_is_valid: bool


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """Messages that one call to one target delivers: one for webhooks and folders, a collection for people."""

    target: Destination
    messages: Sequence[DueMessage]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attempt. `error` is a word if there was no answer; `retry_in` is None after the last try."""

    delivered: bool
    milliseconds: int
    status: int | None = None
    error: str | None = None
    answer: str | None = None
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class _Due:
    message_id: uuid.UUID
    target_id: uuid.UUID
    fence: int
    tries: int
    type: str
    account: str | None
    rule_id: uuid.UUID | None
    subject: str | None
    data: dict[str, Any]
    created_at: datetime
    name: str
    kind: str
    url: str | None
    recipients: list[str]
    secret_version: int
    previous_is_valid: bool


async def claim(
    session: AsyncSession, *, worker: uuid.UUID, seconds: float, limit: int, signs: bool
) -> list[DeliveryClaim]:
    """Claim due messages for at most `limit` calls, for `seconds`; those of webhooks wait unless we can sign them."""
    values = {
        "worker": worker,
        "seconds": seconds,
        "limit": limit,
        "signs": signs,
        "at_once": AT_ONCE,
        "at_once_while_failing": AT_ONCE_WHILE_FAILING,
        "most": MOST_COLLECTED,
    }
    due = await fetch(session, _Due, _CLAIM, values)
    collected: dict[object, list[_Due]] = {}
    for one in sorted(due, key=lambda one: one.message_id):
        key = one.target_id if one.kind in ("email", "slack") else (one.target_id, one.message_id)
        collected.setdefault(key, []).append(one)
    return [_claim_of(together) for together in collected.values()]


def _claim_of(due: Sequence[_Due]) -> DeliveryClaim:
    first = due[0]
    target = Destination(
        first.target_id,
        first.name,
        first.kind,
        first.url,
        first.recipients,
        first.secret_version,
        first.previous_is_valid,
    )
    messages = [
        DueMessage(
            one.message_id,
            one.type,
            one.account,
            one.rule_id,
            one.subject,
            one.data,
            one.created_at,
            one.tries,
            one.fence,
        )
        for one in due
    ]
    return DeliveryClaim(target, messages)


async def renew(session: AsyncSession, claims: Sequence[DeliveryClaim], *, seconds: float) -> None:
    """Extend these claims by `seconds`."""
    await session.execute(_RENEW, _keys(claims) | {"seconds": seconds})


async def release(session: AsyncSession, claim: DeliveryClaim) -> None:
    """Give a claim back: its messages are due again at once."""
    await session.execute(_RELEASE, _keys([claim]))


async def record(
    session: AsyncSession, claim: DeliveryClaim, outcome: Outcome, *, retry_in: Sequence[float | None]
) -> None:
    """Record an attempt and the result for each of its messages; only claims that are still ours change.

    `retry_in`: seconds until each message is tried again, None after its last try.
    """
    values = _keys([claim]) | {
        "retry_in": list(retry_in),
        "delivered": outcome.delivered,
        "milliseconds": outcome.milliseconds,
        "status": outcome.status,
        "error": outcome.error,
        "answer": outcome.answer,
    }
    # Lock the target before its deliveries, as all code that disables it does: otherwise the two could deadlock.
    about = {"target_id": claim.target.id, "delivered": outcome.delivered}
    if not outcome.delivered:
        await session.execute(_LOCK_TARGET, about)
    await session.execute(_NOTE_HEALTH, about)
    await session.execute(_RECORD, values)


def _keys(claims: Sequence[DeliveryClaim]) -> dict[str, Any]:
    pairs = [(message, claim.target.id) for claim in claims for message in claim.messages]
    return {
        "message_ids": [message.id for message, _ in pairs],
        "target_ids": [target_id for _, target_id in pairs],
        "fences": [message.fence for message, _ in pairs],
    }


# As many per target as it has slots left. For people, all collected messages go as one, once the first is
# due. Working targets come first, then those that wait longest.
_CLAIM = text(f"""
with open as (
    select targets.id, targets.kind in ('email', 'slack') as collects, targets.failing_since is not null as fails,
        case when targets.failing_since is null then cast(:at_once as int) else cast(:at_once_while_failing as int) end
            - (select count(distinct case when targets.kind in ('email', 'slack') then targets.id
                                          else deliveries.message_id end)
               from deliveries where target_id = targets.id and state = 'pending'
                   and lease_until > clock_timestamp()) as places
    from targets where targets.enabled and targets.deleted_at is null and (:signs or targets.kind <> 'webhook')
), first_due as (
    select open.*, oldest.due_at from open cross join lateral (
        select due_at from deliveries where target_id = open.id and state = 'pending'
            and due_at <= clock_timestamp() and {FREE}
        order by due_at limit 1
    ) as oldest
    where open.places > 0 order by open.fails, oldest.due_at limit :limit
), taken as (
    select picked.message_id, picked.target_id, row_number() over (
        order by first_due.fails, case when first_due.collects then 1 else picked.place end, first_due.due_at) as turn,
        first_due.collects
    from first_due cross join lateral (
        select message_id, target_id, row_number() over () as place from (
            select message_id, target_id from deliveries where target_id = first_due.id and state = 'pending'
                and (due_at <= clock_timestamp() or (first_due.collects and tries = 0
                     and due_at <= clock_timestamp() + interval '1 minute'))
                and {FREE}
            order by due_at
            limit case when first_due.collects then cast(:most as bigint) else first_due.places end
            for update skip locked
        ) as locked
    ) as picked
), claimed as (
    update deliveries set lease_until = clock_timestamp() + make_interval(secs => :seconds), leased_by = :worker,
        fence = deliveries.fence + 1
    from taken where deliveries.message_id = taken.message_id and deliveries.target_id = taken.target_id
        and (taken.collects or taken.turn <= :limit)
    returning deliveries.*
)
select claimed.message_id, claimed.target_id, claimed.fence, claimed.tries, messages.type, messages.account,
    messages.rule_id, messages.subject, messages.data, messages.created_at, targets.name, targets.kind, targets.url,
    targets.recipients, targets.secret_version,
    coalesce(targets.previous_until > clock_timestamp(), false) as previous_is_valid
from claimed join messages on messages.id = claimed.message_id join targets on targets.id = claimed.target_id
""")  # noqa: S608 - of constants only
# For the lane's alarm (worker/due): when the next delivery of each target is due, however many wait for a dead target.
NEXT_DUE = """
    select min(next.due_at) from targets cross join lateral (
        select due_at from deliveries where target_id = targets.id and state = 'pending' and due_at > {since}
        order by due_at limit 1
    ) as next where targets.enabled and targets.deleted_at is null
"""
_RENEW = text(f"""
update deliveries set lease_until = clock_timestamp() + make_interval(secs => :seconds)
from (
    select message_id, target_id
    from unnest(cast(:message_ids as uuid[]), cast(:target_ids as uuid[]), cast(:fences as bigint[]))
        as held(message_id, target_id, fence)
    join deliveries using (message_id, target_id, fence) where state = 'pending' and {LEASED}
    for no key update of deliveries skip locked
) as ours where deliveries.message_id = ours.message_id and deliveries.target_id = ours.target_id
""")  # noqa: S608 - of constants only
_RELEASE = text("""
update deliveries set lease_until = null, leased_by = null
from unnest(cast(:message_ids as uuid[]), cast(:target_ids as uuid[]), cast(:fences as bigint[]))
    as ours(message_id, target_id, fence)
where deliveries.message_id = ours.message_id and deliveries.target_id = ours.target_id
    and deliveries.fence = ours.fence and deliveries.state = 'pending'
""")
_RECORD = text("""
with ours as (
    select * from unnest(cast(:message_ids as uuid[]), cast(:target_ids as uuid[]), cast(:fences as bigint[]),
        cast(:retry_in as float8[])) as ours(message_id, target_id, fence, retry_in)
), changed as (
    update deliveries set tries = tries + 1, lease_until = null, leased_by = null, fence = deliveries.fence + 1,
        last_status = cast(:status as int), last_error = cast(:error as text),
        state = case when cast(:delivered as bool) then 'delivered' when ours.retry_in is null then 'failed'
                     else 'pending' end,
        delivered_at = case when cast(:delivered as bool) then clock_timestamp() end,
        due_at = case when not cast(:delivered as bool) and ours.retry_in is not null
                      then clock_timestamp() + make_interval(secs => ours.retry_in) else due_at end
    from ours where deliveries.message_id = ours.message_id and deliveries.target_id = ours.target_id
        and deliveries.fence = ours.fence and deliveries.state = 'pending'
    returning deliveries.message_id, deliveries.target_id, deliveries.tries
)
insert into delivery_attempts (message_id, target_id, number, milliseconds, status, error, answer)
select message_id, target_id, tries, cast(:milliseconds as int), cast(:status as int), cast(:error as text),
    cast(:answer as text)
from changed
""")
_LOCK_TARGET = text("select from targets where id = :target_id for no key update")
_NOTE_HEALTH = text("""
update targets set failing_since = case when cast(:delivered as bool) then null
    else coalesce(failing_since, clock_timestamp()) end
where id = :target_id and (failing_since is null) <> cast(:delivered as bool)
""")
