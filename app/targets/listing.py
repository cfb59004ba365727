"""Messages and deliveries for API and pages. Only reads."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Delivery, DeliveryAttempt, Message, Target
from app.db.rows import fetch
from app.errors import NotFound
from app.vocabulary import DeliveryState


@dataclass(frozen=True, slots=True)
class ShownDelivery:
    """A delivery with the name of its target and the type of its message."""

    message_id: uuid.UUID
    target_id: uuid.UUID
    target: str
    type: str
    state: str
    tries: int
    due_at: datetime | None
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class DeliveryFilters:
    """A filter of deliveries; None matches any."""

    target_id: uuid.UUID | None = None
    state: DeliveryState | None = None
    type: str | None = None


_SHOWN = (
    select(
        Delivery.message_id,
        Delivery.target_id,
        Target.name.label("target"),
        Message.type,
        Delivery.state,
        Delivery.tries,
        Delivery.due_at,
        Delivery.delivered_at,
        Delivery.last_status,
        Delivery.last_error,
    )
    .join(Message, Message.id == Delivery.message_id)
    .join(Target, Target.id == Delivery.target_id)
)


async def list_messages(
    session: AsyncSession, *, type_: str | None, before: uuid.UUID | None, limit: int
) -> Sequence[Message]:
    """Up to `limit` messages, newest first, starting after `before`."""
    query = select(Message).order_by(Message.id.desc()).limit(limit)
    if type_ is not None:
        query = query.where(Message.type == type_)
    if before is not None:
        query = query.where(Message.id < before)
    return (await session.execute(query)).scalars().all()


async def get_message(session: AsyncSession, message_id: uuid.UUID) -> Message:
    """One message. Raises NotFound."""
    found = await session.get(Message, message_id)
    if found is None:
        raise NotFound(f"there is no message {message_id}: they are kept as long as events (TALLYHOOK_EVENT_DAYS)")
    return found


async def list_deliveries(
    session: AsyncSession, filters: DeliveryFilters, *, after: tuple[uuid.UUID, uuid.UUID] | None, limit: int
) -> list[ShownDelivery]:
    """Up to `limit` deliveries that match, newest message first."""
    query = _SHOWN.order_by(Delivery.message_id.desc(), Delivery.target_id).limit(limit)
    given = {name: value for name, value in asdict(filters).items() if value is not None}
    if "type" in given:
        query = query.where(Message.type == given.pop("type"))
    query = query.where(*(getattr(Delivery, name) == value for name, value in given.items()))
    if after is not None:
        later = (Delivery.message_id == after[0]) & (Delivery.target_id > after[1])
        query = query.where((Delivery.message_id < after[0]) | later)
    return await fetch(session, ShownDelivery, query)


async def deliveries_of(session: AsyncSession, message_id: uuid.UUID) -> list[ShownDelivery]:
    """The state of a message at each target."""
    query = _SHOWN.where(Delivery.message_id == message_id).order_by(Target.name)
    return await fetch(session, ShownDelivery, query)


async def attempts_of(session: AsyncSession, message_id: uuid.UUID) -> Sequence[DeliveryAttempt]:
    """Every attempt to deliver a message, oldest first."""
    query = select(DeliveryAttempt).where(DeliveryAttempt.message_id == message_id).order_by(DeliveryAttempt.id)
    return (await session.execute(query)).scalars().all()
