"""Kept events: listed, shown with what Stripe signed, and handled again when somebody asks."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import handlers
from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import LARGEST_ID, PageIn, make_cursor, read_number_cursor
from app.api.schemas.common import Out, Page, Slug, Time
from app.db.models import Event
from app.errors import NotFound
from app.vocabulary import EventStatus

router = APIRouter(prefix="/v1/events", tags=["events"])

_StripeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,255}$")]
EventId = Annotated[_StripeName, Path(description="Our `id`, or Stripe's: of several accounts' the newest.")]


class EventsIn(PageIn):
    """Which events to list, and from where on."""

    account: Slug | None = None
    type: _StripeName | None = None
    status: EventStatus | None = None
    stripe_event_id: _StripeName | None = None
    object_id: _StripeName | None = Field(
        default=None, description="What the event is about: `frr_…`, or a report type."
    )


class EventOut(Out):
    """An event as it was kept, and what became of it."""

    id: int
    account: str
    stripe_event_id: str
    type: str
    object_id: str | None
    livemode: bool | None
    stripe_created_at: Time | None
    received_at: Time
    status: EventStatus | str
    reason: str | None = Field(description="Why it was ignored, or how handling it failed.")
    tries: int
    handled_at: Time | None


class EventDetailOut(EventOut):
    """An event with its body."""

    payload: dict[str, Any] | None = Field(description="What Stripe signed; not kept for types that are not used.")


@router.get("")
async def list_events(session: Session, asked: Annotated[EventsIn, Query()]) -> Page[EventOut]:
    """All kept events that match, newest first."""
    query = select(Event).order_by(Event.id.desc()).limit(asked.limit + 1)
    given = asked.model_dump(exclude={"limit", "cursor"}, exclude_none=True)
    query = query.where(*(getattr(Event, name) == value for name, value in given.items()))
    if asked.cursor is not None:
        query = query.where(Event.id < read_number_cursor("events", asked.cursor))
    found = (await session.execute(query)).scalars().all()
    shown = [EventOut.model_validate(event) for event in found[: asked.limit]]
    return Page(data=shown, next_cursor=make_cursor("events", str(shown[-1].id)) if len(found) > len(shown) else None)


@router.get("/{event_id}")
async def show_event(session: Session, event_id: EventId) -> EventDetailOut:
    """One event, with its body."""
    event = await find(session, event_id)
    payload = None if event.payload is None else json.loads(event.payload)
    return EventDetailOut(**EventOut.model_validate(event).model_dump(), payload=payload)


@router.post("/{event_id}/replay", status_code=202)
async def replay_event(res: Res, caller: CalledBy, event_id: EventId) -> EventOut:
    """Handle an event again."""
    async with res.sessions.begin() as session:
        event = await find(session, event_id)
        await handlers.replay(session, event.id, by=caller.name)
        await session.refresh(event)
        return EventOut.model_validate(event)


async def find(session: AsyncSession, event_id: str) -> Event:
    """The event with this id of ours, or of Stripe's. Raises NotFound."""
    ours = event_id.isdecimal() and int(event_id) <= LARGEST_ID
    meant = Event.id == int(event_id) if ours else Event.stripe_event_id == event_id
    event = (await session.execute(select(Event).where(meant).order_by(Event.id.desc()).limit(1))).scalar()
    if event is None:
        raise NotFound(f"there is no event {event_id}")
    return event
