"""The only place that deletes bytes: those of removed files, and the remains of abandoned downloads."""

import uuid
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.files import database
from app.files.backends import backend_of
from app.files.database import Sessions

# 128 MiB of the original: transactions are short, with time for vacuum in between.
CHUNKS_AT_ONCE = 512
OBJECTS_AT_ONCE = 100


async def drop_partial(session: AsyncSession, run_id: uuid.UUID) -> None:
    """Remove the remains of a download that was abandoned or restarted. Complete files are never touched."""
    await session.execute(DROP_PARTIALS, {"run_ids": [run_id]})


async def delete_bytes(sessions: Sessions, file_ids: Sequence[uuid.UUID], locations: Sequence[str | None]) -> None:
    """Delete all bytes of these files, wherever they are. Raises StoreAway; repeating it is harmless."""
    while await _delete_chunks(sessions, file_ids) == CHUNKS_AT_ONCE:
        pass
    for location in locations:
        if location is not None:
            await backend_of(location).delete(location)


async def sweep_dropped(sessions: Sessions) -> int:
    """Delete some objects of abandoned downloads; returns how many. Raises StoreAway."""
    async with sessions.begin() as session:
        dropped = (await session.execute(_DROPPED, {"limit": OBJECTS_AT_ONCE})).scalars().all()
    for location in dropped:
        await backend_of(location).delete(location)
    if dropped:
        async with sessions.begin() as session:
            await session.execute(_SWEPT, {"locations": list(dropped)})
    return len(dropped)


async def _delete_chunks(sessions: Sessions, file_ids: Sequence[uuid.UUID]) -> int:
    async with sessions.begin() as session:
        return await database.delete(session, file_ids, limit=CHUNKS_AT_ONCE)


# A writer that is still writing uses a location that no other file ever has.
DROP_PARTIALS = text("""
with dropped as (delete from files where run_id = any(:run_ids) and stored_at is null returning location)
insert into dropped_objects (location) select location from dropped where location is not null
""")
# Deleted now, and again a day later in case a writer is still writing.
_DROPPED = text("""
select location from dropped_objects
where deleted_at is null or dropped_at < clock_timestamp() - interval '1 day' limit :limit
""")
_SWEPT = text("""
with swept as (
    delete from dropped_objects where location = any(:locations) and dropped_at < clock_timestamp() - interval '1 day'
)
update dropped_objects set deleted_at = now() where location = any(:locations) and deleted_at is null
""")
