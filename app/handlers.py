"""The one registry: what a Stripe event type means to us. `drain` empties the inbox, a batch at a time."""

import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.engine import is_transient
from app.errors import Conflict, NotFound
from app.observability import log_lines
from app.observability.log_lines import Cause
from app.observability.logs import redact
from app.queue.wakeups import wake
from app.resources import Resources
from app.rules import schedule
from app.runs import settle
from app.stripe_api.objects import Malformed, report_type_from, stripe_run_from
from app.vocabulary import EventStatus, Lane

log = structlog.get_logger()

BATCH = 50
# Errors of our own: about two hours of back-off, then the event is `failed`, visible, and can be replayed.
MOST_TRIES = 8

# All values of one account in a batch that mean the same, in order; doing them twice changes nothing.
Handler = Callable[[Resources, AsyncSession, str, list[dict[str, Any]]], Awaitable[None]]


async def on_data_available(res: Resources, session: AsyncSession, account: str, values: list[dict[str, Any]]) -> None:
    """Availability of report types moved: keep it where it moved forward, and plan what became due."""
    told = [report_type_from(value) for value in values]
    await schedule.availability_told(session, account, told, settings=res.settings)


async def on_runs_ended(res: Resources, session: AsyncSession, account: str, values: list[dict[str, Any]]) -> None:
    """Stripe runs succeeded or failed; those that are not ours (yet) are kept with their events, and no error."""
    told = [stripe_run_from(value) for value in values]
    await settle.settle(session, account, told, poll_seconds=res.settings.pending_poll_seconds)


HANDLERS: Mapping[str, Handler] = {
    "reporting.report_type.updated": on_data_available,
    "reporting.report_run.succeeded": on_runs_ended,
    "reporting.report_run.failed": on_runs_ended,
}


async def drain(res: Resources) -> int:
    """Handle a batch of kept events; returns how many were taken."""
    began = time.monotonic()
    async with res.sessions.begin() as session:
        events = (await session.execute(_TAKE, {"limit": BATCH, "types": list(HANDLERS)})).all()
        causes = {_about(event): Cause(event.stripe_event_id, event.traceparent) for event in events}
        with log_lines.handling(causes):
            outcomes = [outcome for group in _groups(events) for outcome in await _handle(res, session, *group)]
        await _mark(session, outcomes)
    # Only after the commit: a batch that is rolled back is taken again.
    for event, status, _ in outcomes:
        _log(event, status, causes[_about(event)], seconds=time.monotonic() - began)
        res.metrics.events.labels(event.type, status).inc()
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


def _about(event: Any) -> tuple[str, str | None]:
    return event.account, event.object_id


def _log(event: Any, status: str, cause: Cause, *, seconds: float) -> None:
    ids = {"event_id": event.stripe_event_id, "account": event.account, "object_id": event.object_id}
    about = Cause(event.stripe_event_id, event.traceparent, cause.runs)
    log_lines.log_handled("event.finished", about, seconds=seconds, **ids, type=event.type, outcome=status)


# What became of an event: its new status, or `retried`, and the reason.
Outcome = tuple[Any, str, str | None]
RETRIED = "retried"


def _groups(events: Sequence[Any]) -> Iterator[tuple[Handler, list[Any]]]:
    """What one handler takes at once: one order everywhere, so that no two workers wait in a circle of locks."""

    def place(event: Any) -> tuple[str, str]:
        return event.account, HANDLERS[event.type].__qualname__

    in_order = sorted(events, key=lambda event: (*place(event), event.object_id or "", event.id))
    for _, group in groupby(in_order, key=place):
        handled = list(group)
        yield HANDLERS[handled[0].type], handled


async def _handle(res: Resources, session: AsyncSession, handler: Handler, events: list[Any]) -> list[Outcome]:
    """Handle events that one handler takes together; if that fails each by itself, so that only the bad ones suffer."""
    try:
        async with session.begin_nested():
            await handler(res, session, events[0].account, [_object_of(event) for event in events])
    except Exception as error:
        if is_transient(error):
            raise  # the database's trouble, not the events': the whole batch is taken again
        if len(events) > 1:
            return [outcome for event in events for outcome in await _handle(res, session, handler, [event])]
        return [_failed(events[0], error)]
    return [(event, EventStatus.HANDLED.value, None) for event in events]


def _object_of(event: Any) -> dict[str, Any]:
    data = json.loads(event.payload).get("data")
    value = data.get("object") if isinstance(data, dict) else None
    # The intake takes no id that is longer than any of Stripe's: an index could not hold it.
    if not isinstance(value, dict) or event.object_id is None:
        raise Malformed("`data.object` is missing, or has no id")
    return value


def _failed(event: Any, error: Exception) -> Outcome:
    if isinstance(error, Malformed):
        return event, EventStatus.IGNORED.value, f"malformed: {error}"
    reason = redact(f"{type(error).__name__}: {error}")[:500]
    log.error("event.handler_failed", event_id=event.stripe_event_id, type=event.type, error=reason)
    return event, EventStatus.FAILED.value if event.tries + 1 >= MOST_TRIES else RETRIED, reason


async def _mark(session: AsyncSession, outcomes: Sequence[Outcome]) -> None:
    for event, status, reason in outcomes:
        if status == RETRIED:
            await session.execute(_TRY_LATER, {"id": event.id, "reason": reason})
    finished = [outcome for outcome in outcomes if outcome[1] != RETRIED]
    if finished:
        events, statuses, reasons = zip(*finished, strict=True)
        values = {"ids": [event.id for event in events], "statuses": list(statuses), "reasons": list(reasons)}
        await session.execute(_MARK, values)


# Types that this version has no handler for stay pending: a newer version wrote them, and will handle them.
_TAKE = text("""
select id, account, stripe_event_id, type, object_id, payload, tries, traceparent,
    extract(epoch from clock_timestamp() - due_at)::float8 as waited
from events
where status = 'pending' and due_at <= clock_timestamp() and type = any(:types)
order by due_at, id limit :limit for update skip locked
""")
_MARK = text("""
update events set status = done.status, reason = done.reason, handled_at = clock_timestamp()
from unnest(cast(:ids as bigint[]), cast(:statuses as text[]), cast(:reasons as text[])) as done(id, status, reason)
where events.id = done.id
""")
_LOCK = text("select status, reason, payload, handled_at from events where id = :id for update")
_REPLAY = text("""
update events set status = 'pending', reason = null, tries = 0, handled_at = null, due_at = now() where id = :id
""")
_TRY_LATER = text("""
update events set tries = tries + 1, reason = :reason, due_at = clock_timestamp() + (2 ^ tries) * interval '30 s'
where id = :id
""")
