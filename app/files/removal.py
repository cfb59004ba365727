"""The only place that deletes bytes: those of removed files, and the remains of abandoned downloads."""

import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch_one
from app.db.scoped import UNLIMITED
from app.errors import StoreAway
from app.files import database
from app.files.backends import backend_of
from app.files.database import Sessions

# 128 MiB of the original: transactions are short, with time for vacuum in between.
CHUNKS_AT_ONCE = 512
OBJECTS_AT_ONCE = 100
# What a store may cost a round: one that is away takes up to a minute for each object, one that keeps some of its
# objects (a legal hold, a denied prefix) says so at once.
MOST_SECONDS = 30.0
MOST_REFUSED = 100


async def drop_partial(session: AsyncSession, run_id: uuid.UUID) -> None:
    """Remove the remains of a download that was abandoned or restarted. Complete files are never touched."""
    await session.execute(DROP_PARTIALS, {"run_ids": [run_id]})


class Deleter:
    """Deletes objects for one round. A store that does not delete its objects holds up no other.

    `skipped` are beginnings of locations that are left for the next round, `error` is what a store said last.
    """

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self.error: StoreAway | None = None
        self._refused: Counter[str] = Counter()
        self._lost: defaultdict[str, float] = defaultdict(float)

    @property
    def seconds(self) -> float:
        """The time lost to stores that did not delete."""
        return sum(self._lost.values())

    async def delete(self, location: str) -> bool:
        """Delete an object; False if its store did not, or is skipped. Repeating it is harmless."""
        if location.startswith(tuple(self.skipped)):
            return False
        began = time.monotonic()
        try:
            await backend_of(location).delete(location)
        except StoreAway as error:
            self.error = error
            self._skip(location, seconds=time.monotonic() - began)
            return False
        return True

    def _skip(self, location: str, *, seconds: float) -> None:
        self.skipped.append(location)
        store = _store_of(location)
        self._refused[store] += 1
        self._lost[store] += seconds
        if self._refused[store] >= MOST_REFUSED or self._lost[store] >= MOST_SECONDS:
            # Queries compare every file with every entry: one is enough for a store.
            self.skipped = [*(one for one in self.skipped if not one.startswith(store)), store]


def _store_of(location: str) -> str:
    """How the locations of all objects begin that share this one's fate: those of its bucket or folder."""
    if location.startswith("file:"):
        return location.rpartition("/")[0] + "/"
    return "/".join([*location.split("/", 3)[:3], ""])


async def delete_chunks(sessions: Sessions, file_ids: Sequence[uuid.UUID]) -> None:
    """Delete what the database has of these files."""
    while await _delete_chunks(sessions, file_ids) == CHUNKS_AT_ONCE:
        pass


async def sweep_dropped(sessions: Sessions, deleter: Deleter) -> int:
    """Delete some objects of abandoned downloads; returns how many were tried."""
    async with sessions.begin() as session:
        values = {"limit": OBJECTS_AT_ONCE, "skipped": deleter.skipped}
        dropped = (await session.execute(_DROPPED, values)).scalars().all()
    gone = [location for location in dropped if await deleter.delete(location)]
    if gone:
        async with sessions.begin() as session:
            await session.execute(_SWEPT, {"locations": gone})
    return len(dropped)


@dataclass(frozen=True, slots=True)
class Undeleted:
    """How many files, counted up to a bound, should have been deleted by now, and since when the first of them."""

    files: int
    since: datetime | None


async def undeleted(session: AsyncSession, *, after: timedelta, limit: int) -> Undeleted:
    """What should have been deleted for at least this long."""
    return await fetch_one(session, Undeleted, _UNDELETED, {"after": after, "limit": limit})


async def _delete_chunks(sessions: Sessions, file_ids: Sequence[uuid.UUID]) -> int:
    async with sessions.begin() as session:
        return await database.delete(session, file_ids, limit=CHUNKS_AT_ONCE)


# A writer that is still writing uses a location that no other file ever has.
DROP_PARTIALS = text("""
with dropped as (delete from files where run_id = any(:run_ids) and stored_at is null returning location)
insert into dropped_objects (location) select location from dropped where location is not null
""")
# SQL that leaves out what the round skips (`Deleter.skipped`).
NOT_SKIPPED = (
    "not exists (select from unnest(cast(:skipped as text[])) as skipped where starts_with(location, skipped))"
)
# In no order, so that a round does not begin with what its store kept in the last one.
UNORDERED = "order by random()"
# Deleted now, and again a day later in case a writer is still writing.
_DROPPED = text(f"""
select location from dropped_objects
where (deleted_at is null or dropped_at < clock_timestamp() - interval '1 day') and {NOT_SKIPPED} {UNORDERED}
limit :limit
""")  # noqa: S608 - of constants only
_SWEPT = text("""
with swept as (
    delete from dropped_objects where location = any(:locations) and dropped_at < clock_timestamp() - interval '1 day'
)
update dropped_objects set deleted_at = now() where location = any(:locations) and deleted_at is null
""")
# Abandoned objects belong to no account that we still know.
_UNDELETED = text(f"""
select count(*) as files, min(since) as since from (
    (select removed_at as since from files where removed_at is not null and purged_at is null
        and removed_at < clock_timestamp() - :after order by removed_at limit :limit)
    union all
    (select since from dropped_objects
    cross join lateral (select case when deleted_at is null then dropped_at else dropped_at + interval '1 day' end)
        as last(since)
    where since < clock_timestamp() - :after and {UNLIMITED} order by since limit :limit)
) as due
""")  # noqa: S608 - of constants only
