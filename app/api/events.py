"""Stored events: list, show with the signed body, and replay."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import page_of, read_number_cursor
from app.api.schemas.common import Out, Page, PageIn, Slug, Time
from app.inbox import events as inbox
from app.inbox.events import EventFilters
from app.vocabulary import EventStatus

router = APIRouter(prefix="/v1/events", tags=["events"])

_StripeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,255}$")]
EventId = Annotated[_StripeName, Path(description="Our `id`, or Stripe's (the newest, if several accounts have it).")]


class EventsIn(PageIn):
    """Which events to list, and where to start."""

    account: Slug | None = None
    type: _StripeName | None = None
    status: EventStatus | None = None
    stripe_event_id: _StripeName | None = None
    object_id: _StripeName | None = Field(
        default=None, description="What the event is about: `frr_…`, or a report type."
    )


class EventOut(Out):
    """A stored event and its outcome."""

    id: int
    account: str
    stripe_event_id: str
    type: str
    object_id: str | None
    livemode: bool | None
    stripe_created_at: Time | None
    received_at: Time
    status: EventStatus | str
    reason: str | None = Field(description="Why it was ignored, or why handling it failed.")
    tries: int
    handled_at: Time | None


class EventDetailOut(EventOut):
    """An event with its body."""

    payload: dict[str, Any] | None = Field(description="What Stripe signed; null for types that are not used.")


@router.get("")
async def list_events(session: Session, asked: Annotated[EventsIn, Query()]) -> Page[EventOut]:
    """All stored events that match, newest first."""
    before = None if asked.cursor is None else read_number_cursor("events", asked.cursor)
    filters = EventFilters(**asked.model_dump(exclude={"limit", "cursor"}))
    found = await inbox.list_events(session, filters, before=before, limit=asked.limit + 1)
    return page_of("events", [EventOut.model_validate(event) for event in found], asked.limit, lambda event: [event.id])


@router.get("/{event_id}")
async def show_event(session: Session, event_id: EventId) -> EventDetailOut:
    """One event, with its body."""
    event = await inbox.find(session, event_id)
    payload = await inbox.payload_of(session, event.id)
    shown = EventOut.model_validate(event).model_dump()
    return EventDetailOut(**shown, payload=None if payload is None else json.loads(payload))


@router.post("/{event_id}/replay", status_code=202)
async def replay_event(res: Res, caller: CalledBy, event_id: EventId) -> EventOut:
    """Replay an event."""
    async with res.sessions.begin() as session:
        event = await inbox.find(session, event_id)
        await inbox.replay(session, event.id, by=caller.name)
        return EventOut.model_validate(await inbox.find(session, str(event.id)))
