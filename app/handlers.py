"""The one registry: what a Stripe event type means to us. `drain` empties the inbox, a batch at a time."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.engine import DATABASE_TROUBLE
from app.errors import Conflict, NotFound
from app.logs import redact
from app.queue import wake
from app.resources import Resources
from app.runs import schedule, settle
from app.stripe_values import Malformed, report_type_from, stripe_run_from
from app.vocabulary import EventStatus, Lane

log = structlog.get_logger()

BATCH = 50
# Errors of our own: about two hours of back-off, then the event is `failed`, visible, and can be replayed.
MOST_TRIES = 8

Handler = Callable[[Resources, AsyncSession, str, dict[str, Any]], Awaitable[None]]


async def on_data_available(res: Resources, session: AsyncSession, account: str, value: dict[str, Any]) -> None:
    """Availability of a report type moved: keep it if it moved forward, and plan what became due."""
    await schedule.availability_told(session, account, [report_type_from(value)], settings=res.settings)


async def on_run_ended(res: Resources, session: AsyncSession, account: str, value: dict[str, Any]) -> None:
    """A Stripe run succeeded or failed; one that is not ours (yet) is kept with the event, and no error."""
    await settle.settle(session, account, stripe_run_from(value), poll_seconds=res.settings.pending_poll_seconds)


HANDLERS: Mapping[str, Handler] = {
    "reporting.report_type.updated": on_data_available,
    "reporting.report_run.succeeded": on_run_ended,
    "reporting.report_run.failed": on_run_ended,
}


async def drain(res: Resources) -> int:
    """Handle a batch of kept events, each in a savepoint of its own; returns how many were taken."""
    outcomes = []
    began = time.monotonic()
    async with res.sessions.begin() as session:
        events = (await session.execute(_TAKE, {"limit": BATCH, "types": list(HANDLERS)})).all()
        # One order of locks everywhere, by what the event is about, so that no two workers wait in a circle.
        for event in sorted(events, key=lambda event: (event.object_id or "", event.id)):
            outcomes.append((event, await _handle(res, session, event)))
    # Only after the commit: a batch that is rolled back is taken again.
    for event, outcome in outcomes:
        res.metrics.events.labels(event.type, outcome).inc()
        res.metrics.handling_seconds.observe(event.waited + time.monotonic() - began)
    return len(events)


async def replay(session: AsyncSession, event_id: int, *, by: str) -> None:
    """Put a kept event back into the inbox. Raises Conflict for one that handling could do nothing with."""
    event = (await session.execute(_LOCK, {"id": event_id})).one_or_none()
    if event is None:
        raise NotFound(f"there is no event {event_id}")
    # What the intake ignored was never handled: it is not for us, and to ask again makes it none of ours.
    if event.payload is None or (event.status == EventStatus.IGNORED and event.handled_at is None):
        raise Conflict(f"event {event_id} is not for Tallyhook ({event.reason}): there is nothing to handle again")
    await session.execute(_REPLAY, {"id": event_id})
    was = {"status": event.status, "reason": event.reason}
    await audit.note(session, actor=by, action="event.replayed", subject=event_id, before=was)
    await wake(session, Lane.INBOX)


async def _handle(res: Resources, session: AsyncSession, event: Any) -> str:
    """What became of it: the event's new status, or `retried`."""
    try:
        async with session.begin_nested():
            await HANDLERS[event.type](res, session, event.account, _object_of(event))
    except DATABASE_TROUBLE:
        raise  # the database's trouble, not the event's: the whole batch is taken again
    except Malformed as error:
        return await _mark(session, event, EventStatus.IGNORED, f"malformed: {error}")
    except Exception as error:
        return await _note_failure(session, event, error)
    return await _mark(session, event, EventStatus.HANDLED, None)


def _object_of(event: Any) -> dict[str, Any]:
    data = json.loads(event.payload).get("data")
    value = data.get("object") if isinstance(data, dict) else None
    # The intake takes no id that is longer than any of Stripe's: an index could not hold it.
    if not isinstance(value, dict) or event.object_id is None:
        raise Malformed("`data.object` is missing, or has no id")
    return value


async def _note_failure(session: AsyncSession, event: Any, error: Exception) -> str:
    reason = redact(f"{type(error).__name__}: {error}")[:500]
    log.error("event.handler_failed", event_id=event.stripe_event_id, type=event.type, error=reason)
    if event.tries + 1 >= MOST_TRIES:
        return await _mark(session, event, EventStatus.FAILED, reason)
    await session.execute(_TRY_LATER, {"id": event.id, "reason": reason})
    return "retried"


async def _mark(session: AsyncSession, event: Any, status: EventStatus, reason: str | None) -> str:
    await session.execute(_MARK, {"id": event.id, "status": status.value, "reason": reason})
    log.info(
        "event.finished", event_id=event.stripe_event_id, type=event.type, account=event.account, status=status.value
    )
    return status.value


# Types that this version has no handler for stay pending: a newer version wrote them, and will handle them.
_TAKE = text("""
select id, account, stripe_event_id, type, object_id, payload, tries,
    extract(epoch from clock_timestamp() - due_at)::float8 as waited
from events
where status = 'pending' and due_at <= clock_timestamp() and type = any(:types)
order by due_at, id limit :limit for update skip locked
""")
_MARK = text("""
update events set status = :status, reason = :reason, handled_at = clock_timestamp() where id = :id
""")
_LOCK = text("select status, reason, payload, handled_at from events where id = :id for update")
_REPLAY = text("""
update events set status = 'pending', reason = null, tries = 0, handled_at = null, due_at = now() where id = :id
""")
_TRY_LATER = text("""
update events set tries = tries + 1, reason = :reason, due_at = clock_timestamp() + (2 ^ tries) * interval '30 s'
where id = :id
""")
