"""The registry of event handlers: what each Stripe event type means to us. `drain` empties the inbox in batches."""

import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import connected, payouts, reconciliations
from app.db.errors import is_transient
from app.errors import Malformed
from app.inbox import events as inbox
from app.inbox.events import Outcome, PendingEvent
from app.observability import log_lines
from app.observability.log_lines import Cause
from app.observability.logs import redact
from app.queue import timetable
from app.resources import Resources
from app.rules import schedule
from app.runs import lookup, settle
from app.settings import Settings
from app.stripe_api.objects import report_type_from, stripe_run_from
from app.vocabulary import EventStatus, EventType

log = structlog.get_logger()

BATCH = 50

# Handles all objects of one account in a batch, in order; must be idempotent. The object of a hint is {"account", "id",
# "type"}: the account it belongs to, its id, and the type of the event. It returns the timetable's entry to hasten, if
# any: all accounts share that row, so it is locked last. A row, except a run, is locked by one handler only
# (docs/decisions/0025).
Handler = Callable[[AsyncSession, Settings, str, list[dict[str, Any]]], Awaitable[str | None]]
_Handle = Callable[[AsyncSession, Settings, Handler, list[PendingEvent]], Awaitable[list[Outcome]]]


async def on_data_available(
    session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]
) -> None:
    """The availability of report types moved: if forward, record it and plan what became due."""
    types = [report_type_from(value) for value in values]
    await schedule.record_availability(session, account, types, attempts=settings.max_run_attempts)


async def on_runs_ended(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
    """Stripe runs succeeded or failed; runs that are not ours (yet) are not an error, and stay with their events."""
    ended = [stripe_run_from(value) for value in values]
    await settle.settle(session, account, ended, poll_seconds=settings.pending_poll_seconds)


async def look_at_payouts(
    session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]
) -> str | None:
    """Payouts of the account or, says a hint, of one connected to it may be ready to be itemized: have them read."""
    configured = settings.accounts.get(account)
    own = None, None if configured is None else configured.named_id
    named = [("" if value.get("account") in own else value["account"], value["id"]) for value in values]
    return payouts.TIMETABLE_ENTRY if await payouts.look_soon(session, account, named) else None


HANDLERS: dict[EventType, Handler] = {
    EventType.PAYOUT_RECONCILED: look_at_payouts,
    EventType.REPORT_TYPE_UPDATED: on_data_available,
    EventType.REPORT_RUN_SUCCEEDED: on_runs_ended,
    EventType.REPORT_RUN_FAILED: on_runs_ended,
}


async def look_for_data(session: AsyncSession, settings: Settings, account: str, hints: list[dict[str, Any]]) -> None:
    """Stripe may have new data for the account: ask how far it reaches."""
    await reconciliations.hasten(session, account)


async def look_up_runs(session: AsyncSession, settings: Settings, account: str, hints: list[dict[str, Any]]) -> None:
    """Stripe runs may have ended: look up those that are ours."""
    await lookup.look_up_soon(session, account, [hint["id"] for hint in hints])


async def look_at_connected(
    session: AsyncSession, settings: Settings, account: str, hints: list[dict[str, Any]]
) -> str | None:
    """Connected accounts may be new or changed, or have left."""
    named = [hint["account"] for hint in hints]
    left = [hint["account"] for hint in hints if hint["type"] == EventType.ACCOUNT_DEAUTHORIZED]
    return connected.TIMETABLE_ENTRY if await connected.look_soon(session, account, named, known_too=left) else None


# Events that name an account other than the one whose secret signed them: they only say where to look, with the right
# key (docs/decisions/0018).
HINT_HANDLERS: dict[EventType, Handler] = {
    EventType.REPORT_TYPE_UPDATED: look_for_data,
    EventType.REPORT_RUN_SUCCEEDED: look_up_runs,
    EventType.REPORT_RUN_FAILED: look_up_runs,
    EventType.PAYOUT_RECONCILED: look_at_payouts,
    EventType.ACCOUNT_UPDATED: look_at_connected,
    EventType.ACCOUNT_AUTHORIZED: look_at_connected,
    EventType.ACCOUNT_DEAUTHORIZED: look_at_connected,
}
# They lock the same runs. They come first, as runs are locked before what the others lock.
_ABOUT_RUNS = look_up_runs, on_runs_ended


async def drain(res: Resources) -> int:
    """Handle a batch of stored events; returns how many."""
    try:
        return await _drain(res, _together)
    except Exception as error:
        if is_transient(error):
            raise  # a database error, not the events' fault: the whole batch is taken again
        return await _drain(res, _apart)  # one of them is at fault


async def _drain(res: Resources, handle: _Handle) -> int:
    began = time.monotonic()
    async with res.sessions.begin() as session:
        events = await inbox.take(session, limit=BATCH)
        causes = {_about(event): Cause(event.stripe_event_id, event.traceparent) for event in events}
        with log_lines.bind_causes(causes):
            outcomes: list[Outcome] = []
            for handler, group in _groups(events):
                if handler is look_up_runs or handle is _apart:  # otherwise one handler locks them all at once
                    await settle.lock_stripe_runs(session, group[0].account, _stripe_runs(events, group[0].account))
                outcomes += await handle(session, res.settings, handler, group)
        for entry in sorted({outcome.hastens for outcome in outcomes if outcome.hastens}):
            await timetable.hasten(session, entry)
        await inbox.mark(session, outcomes)
    # Only after the commit: a batch that is rolled back is taken again.
    for outcome in outcomes:
        seconds = time.monotonic() - began
        _log(outcome, causes[_about(outcome.event)], seconds=seconds)
        res.metrics.events.labels(outcome.event.type, outcome.word).inc()
        res.metrics.handling_seconds.observe(outcome.event.waited + seconds)
    return len(events)


def _about(event: PendingEvent) -> tuple[str, str | None]:
    return event.account, event.object_id


def _log(outcome: Outcome, cause: Cause, *, seconds: float) -> None:
    event = outcome.event
    ids = {"event_id": event.stripe_event_id, "account": event.account, "object_id": event.object_id}
    about = Cause(event.stripe_event_id, event.traceparent, cause.runs)
    log_lines.log_handled("event.finished", about, seconds=seconds, **ids, type=event.type, outcome=outcome.word)


def _groups(events: Sequence[PendingEvent]) -> Iterator[tuple[Handler, list[PendingEvent]]]:
    """The events of a batch by handler, always in the same order, so that two workers do not deadlock."""

    def place(event: PendingEvent) -> tuple[bool, str, str]:
        handler = _handler_of(event)
        return handler not in _ABOUT_RUNS, event.account, handler.__qualname__

    in_order = sorted(events, key=lambda event: (*place(event), event.object_id or "", event.id))
    for _, group in groupby(in_order, key=place):
        handled = list(group)
        yield _handler_of(handled[0]), handled


def _handler_of(event: PendingEvent) -> Handler:
    return (HINT_HANDLERS if event.is_hint else HANDLERS)[EventType(event.type)]


def _stripe_runs(events: Sequence[PendingEvent], account: str) -> list[str]:
    """The Stripe runs of this account that these events are about."""
    about = [event for event in events if event.account == account and _handler_of(event) in _ABOUT_RUNS]
    ids = [_object_of(event)["id"] if event.is_hint else event.object_id for event in about]
    return [id_ for id_ in ids if id_ is not None]


async def _together(
    session: AsyncSession, settings: Settings, handler: Handler, events: list[PendingEvent]
) -> list[Outcome]:
    """Handle events of one handler together; an error is the whole batch's."""
    entry = await handler(session, settings, events[0].account, [_object_of(event) for event in events])
    return [Outcome(event, EventStatus.HANDLED, hastens=entry) for event in events]


async def _apart(
    session: AsyncSession, settings: Settings, handler: Handler, events: list[PendingEvent]
) -> list[Outcome]:
    """Handle events of one handler together or, if that fails, one by one, so that only the bad ones fail."""
    try:
        async with session.begin_nested():
            return await _together(session, settings, handler, events)
    except Exception as error:
        if is_transient(error):
            raise
        if len(events) > 1:
            return [outcome for event in events for outcome in await _apart(session, settings, handler, [event])]
        return [_failed(events[0], error)]


def _object_of(event: PendingEvent) -> dict[str, Any]:
    body = json.loads(event.payload)
    if event.is_hint:
        return {"account": body["account"], "id": body["data"]["object"]["id"], "type": event.type}
    data = body.get("data")
    value = data.get("object") if isinstance(data, dict) else None
    # The intake accepts no id longer than Stripe's, because an index could not hold it.
    if not isinstance(value, dict) or event.object_id is None:
        raise Malformed("`data.object` is missing, or has no id")
    return value


def _failed(event: PendingEvent, error: Exception) -> Outcome:
    if isinstance(error, Malformed):
        return Outcome(event, EventStatus.IGNORED, f"malformed: {error}")
    reason = redact(f"{type(error).__name__}: {error}")[:500]
    log.error("event.handler_failed", event_id=event.stripe_event_id, type=event.type, error=reason)
    return Outcome(event, EventStatus.FAILED if event.tries + 1 >= inbox.MOST_TRIES else None, reason)
