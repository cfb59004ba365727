"""Messages and their deliveries to each target, with every attempt."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query

from app import audit
from app.api.http.dependencies import CalledBy, Res, Session, TheSettings
from app.api.http.paging import bad_cursor, page_by_name, page_of, read_cursor, read_id_cursor
from app.api.schemas.common import Page, PageIn
from app.api.schemas.targets import AttemptOut, DeliveryOut, MessageDetailOut, MessageOut, MessageTypeOut
from app.targets import listing, recovery
from app.targets.catalogue import DESCRIBED, example_of
from app.targets.listing import DeliveryFilters, ShownDelivery
from app.targets.webhook import shown
from app.vocabulary import DeliveryState, MessageType

router = APIRouter(prefix="/v1", tags=["targets"])


class MessagesIn(PageIn):
    """Which messages to list, and where to start."""

    type: MessageType | None = None


class DeliveriesIn(PageIn):
    """Which deliveries to list, and where to start."""

    target: uuid.UUID | None = None
    state: DeliveryState | None = None
    type: MessageType | None = None


@router.get("/messages")
async def list_messages(session: Session, asked: Annotated[MessagesIn, Query()]) -> Page[MessageOut]:
    """All messages that match, newest first; kept as long as events."""
    before = None if asked.cursor is None else read_id_cursor("messages", asked.cursor)
    found = await listing.list_messages(session, type_=asked.type, before=before, limit=asked.limit + 1)
    shown_as = [MessageOut.model_validate(message) for message in found]
    return page_of("messages", shown_as, asked.limit, lambda message: [message.id])


@router.get("/messages/{message_id:uuid}")
async def show_message(settings: TheSettings, session: Session, message_id: uuid.UUID) -> MessageDetailOut:
    """One message with its body, its state at every target, and every attempt."""
    message = await listing.get_message(session, message_id)
    deliveries = await listing.deliveries_of(session, message_id)
    attempts = await listing.attempts_of(session, message_id)
    return MessageDetailOut(
        **MessageOut.model_validate(message).model_dump(),
        body=shown(message, public_url=settings.public_url),
        deliveries=[_shown(one) for one in deliveries],
        attempts=[AttemptOut.model_validate(attempt) for attempt in attempts],
    )


@router.get("/deliveries")
async def list_deliveries(session: Session, asked: Annotated[DeliveriesIn, Query()]) -> Page[DeliveryOut]:
    """All deliveries that match, newest message first."""
    filters = DeliveryFilters(asked.target, asked.state, asked.type)
    after = None if asked.cursor is None else _read_cursor(asked.cursor)
    found = await listing.list_deliveries(session, filters, after=after, limit=asked.limit + 1)
    shown_as = [_shown(one) for one in found]
    return page_of("deliveries", shown_as, asked.limit, lambda one: [one.message_id, one.target_id])


@router.post("/deliveries/{message_id:uuid}/{target_id:uuid}/retry", status_code=202)
async def retry_delivery(res: Res, caller: CalledBy, message_id: uuid.UUID, target_id: uuid.UUID) -> DeliveryOut:
    """Send a message to a target again, whatever its state. 409 if the target is disabled or was removed."""
    async with res.sessions.begin() as session:
        await recovery.retry(session, message_id, target_id)
        after = {"message": message_id}
        await audit.note(session, actor=caller.name, action="delivery.retried", subject=target_id, after=after)
        (one,) = [one for one in await listing.deliveries_of(session, message_id) if one.target_id == target_id]
        return _shown(one)


@router.get("/message-types")
async def list_message_types(asked: Annotated[PageIn, Query()]) -> Page[MessageTypeOut]:
    """The types of messages by name, each with an example of its body."""
    types = [
        MessageTypeOut(type=type_, description=one.description, lasting=one.lasting, example=example_of(type_))
        for type_, one in DESCRIBED.items()
    ]
    return page_by_name("message_types", types, asked, lambda one: one.type)


def _shown(one: ShownDelivery) -> DeliveryOut:
    shown_as = DeliveryOut.model_validate(one)
    return shown_as if one.state == DeliveryState.PENDING else shown_as.model_copy(update={"due_at": None})


def _read_cursor(cursor: str) -> tuple[uuid.UUID, uuid.UUID]:
    message_id, target_id = read_cursor("deliveries", cursor, parts=2)
    try:
        return uuid.UUID(message_id), uuid.UUID(target_id)
    except ValueError as error:
        raise bad_cursor() from error
