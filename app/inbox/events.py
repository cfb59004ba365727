"""All SQL about stored events: take and mark, list and find, replay and prune."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.batch import answer_by_driver, fetch_by_driver
from app.db.models import Event
from app.db.rows import fetch, fetch_first
from app.errors import Conflict, NotFound
from app.ids import LARGEST_NUMBER
from app.queue.wakeups import wake
from app.vocabulary import EventStatus, EventType, Lane

# After a bug of ours: about two hours of back-off, then the event is `failed`, visible, and can be replayed.
MOST_TRIES = 8
FIRST_WAIT_SECONDS = 30
LONGEST_WAIT_SECONDS = FIRST_WAIT_SECONDS * 2.0**MOST_TRIES
# How logs name an event that will be tried again; its status stays `pending`.
RETRIED = "retried"


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event to handle, locked; `waited` is in seconds."""

    id: int
    account: str
    stripe_event_id: str
    type: str
    object_id: str | None
    payload: str
    tries: int
    traceparent: str | None
    waited: float

    @property
    def is_hint(self) -> bool:
        """Whether it only says where to look (app/inbox/delivery.py); such an event has no `object_id`."""
        return self.object_id is None and json.loads(self.payload).get("hint") is True


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of handling an event; without a status it is tried again later.

    `hastens` is an entry of the timetable that is due sooner now.
    """

    event: PendingEvent
    status: EventStatus | None
    reason: str | None = None
    hastens: str | None = None

    @property
    def word(self) -> str:
        """The name of this outcome in logs and metrics."""
        return RETRIED if self.status is None else self.status.value


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event for display; its body is read separately (`payload_of`)."""

    id: int
    account: str
    stripe_event_id: str
    type: str
    object_id: str | None
    livemode: bool | None
    stripe_created_at: datetime | None
    received_at: datetime
    status: str
    reason: str | None
    tries: int
    handled_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventFilters:
    """Selects events with these values; None matches every value."""

    account: str | None = None
    type: str | None = None
    status: EventStatus | None = None
    stripe_event_id: str | None = None
    object_id: str | None = None


async def take(session: AsyncSession, *, limit: int) -> list[PendingEvent]:
    """The next events to handle, locked until the transaction ends."""
    values = {"limit": limit, "types": [known.value for known in EventType]}
    return await fetch_by_driver(session, PendingEvent, _TAKE, values)


async def mark(session: AsyncSession, outcomes: Sequence[Outcome]) -> None:
    """Record the outcomes of events that `take` has locked."""
    for outcome in outcomes:
        if outcome.status is None:
            about = {"id": outcome.event.id, "reason": outcome.reason}
            await session.execute(_TRY_LATER, {**about, "first": FIRST_WAIT_SECONDS})
    finished = [(one.event.id, one.status.value, one.reason) for one in outcomes if one.status is not None]
    if finished:
        ids, statuses, reasons = zip(*finished, strict=True)
        marks = {"ids": list(ids), "statuses": list(statuses), "reasons": list(reasons)}
        await answer_by_driver(session, _MARK, marks)


async def list_events(
    session: AsyncSession, filters: EventFilters, *, before: int | None = None, limit: int
) -> list[KeptEvent]:
    """Up to `limit` matching events, newest first, starting after the id `before`."""
    given = {name: value for name, value in asdict(filters).items() if value is not None}
    query = _SHOWN.where(*(getattr(Event, name) == value for name, value in given.items()))
    if before is not None:
        query = query.where(Event.id < before)
    return await fetch(session, KeptEvent, query.order_by(Event.id.desc()).limit(limit))


async def find(session: AsyncSession, event_id: str) -> KeptEvent:
    """The event with this id, ours or Stripe's; if several accounts have it, the newest. Raises NotFound."""
    ours = event_id.isdecimal() and len(event_id) <= len(str(LARGEST_NUMBER)) and int(event_id) <= LARGEST_NUMBER
    meant = Event.id == int(event_id) if ours else Event.stripe_event_id == event_id
    event = await fetch_first(session, KeptEvent, _SHOWN.where(meant).order_by(Event.id.desc()).limit(1))
    if event is None:
        raise NotFound(f"there is no event {event_id}: GET /v1/events lists those that are kept")
    return event


async def payload_of(session: AsyncSession, event_id: int) -> str | None:
    """The text that Stripe signed; None for types that we do not use."""
    return (await session.execute(select(Event.payload).where(Event.id == event_id))).scalar_one()


async def replay(session: AsyncSession, event_id: int, *, by: str) -> None:
    """Put a stored event back into the inbox. Raises Conflict if there is nothing to handle."""
    event = await fetch_first(session, _Replayed, _LOCK, {"id": event_id})
    if event is None:
        raise NotFound(f"there is no event {event_id}: GET /v1/events lists those that are kept")
    # What the intake ignored is not for us, and replaying it does not change that.
    if not event.has_payload or (event.status == EventStatus.IGNORED and event.handled_at is None):
        raise Conflict(f"event {event_id} is not for Tallyhook ({event.reason}): there is nothing to replay")
    await session.execute(_REPLAY, {"id": event_id})
    was = {"status": event.status, "reason": event.reason}
    await audit.note(session, actor=by, action="event.replayed", subject=event_id, before=was)
    await wake(session, Lane.INBOX)


async def prune(session: AsyncSession, *, days: int, limit: int) -> int:
    """Delete up to `limit` events older than this; returns how many. Pending events are kept, however old."""
    return len((await session.execute(_PRUNE, {"days": days, "limit": limit})).all())


@dataclass(frozen=True, slots=True)
class _Replayed:
    status: str
    reason: str | None
    has_payload: bool
    handled_at: datetime | None


_SHOWN = select(*(getattr(Event, name) for name in KeptEvent.__slots__))
# Types without a handler in this version stay pending: a newer version wrote them, and will handle them. The commit
# does not wait for the disk: what a crash of the server takes back is pending again (docs/decisions/0023).
_TAKE = text("""
select id, account, stripe_event_id, type, object_id, payload, tries, traceparent,
    cast(extract(epoch from clock_timestamp() - due_at) as float8) as waited
from events
where status = 'pending' and due_at <= clock_timestamp() and type = any(:types)
    and (select set_config('synchronous_commit', 'off', true)) = 'off'
order by due_at, id limit :limit for update skip locked
""")
_MARK = text("""
update events set status = done.status, reason = done.reason, handled_at = clock_timestamp()
from unnest(cast(:ids as bigint[]), cast(:statuses as text[]), cast(:reasons as text[])) as done(id, status, reason)
where events.id = done.id
""")
_TRY_LATER = text("""
update events set tries = tries + 1, reason = :reason,
    due_at = clock_timestamp() + make_interval(secs => cast(:first as float8) * 2 ^ tries) where id = :id
""")
_LOCK = text("""
select status, reason, payload is not null as has_payload, handled_at from events where id = :id for update
""")
_REPLAY = text("""
update events set status = 'pending', reason = null, tries = 0, handled_at = null, due_at = clock_timestamp()
where id = :id
""")
_PRUNE = text("""
delete from events where id in (
    select id from events where received_at < now() - make_interval(days => :days)
        and status in ('handled', 'ignored')
    order by received_at limit :limit)
returning 1
""")
