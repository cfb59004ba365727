"""Which processes of the service are alive, and which version each runs: each reports in its row of `workers`.

During an upgrade an older version runs beside this one. It skips what it does not know, except in a rule, where an
unknown word would break it. So before such a rule is written, the living processes are checked.
"""

import os
import socket
import uuid
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app import __version__
from app.vocabulary import WORDS

# A living process reports at least four times within this, whatever its settings: others need not know them.
ALIVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Process:
    """A living process of the service; `version` is None for processes that did not record theirs yet."""

    id: uuid.UUID
    host: str
    pid: int
    version: str | None
    words: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (version {self.version or 'unknown'})"


def report_every(stalled_after_seconds: float) -> float:
    """How often a process reports and renews its leases, in seconds."""
    return min(stalled_after_seconds, ALIVE_SECONDS) / 4


async def say_alive(session: AsyncSession, process_id: uuid.UUID, *, works_queue: bool) -> None:
    """Record that this process is alive, and its version."""
    values = {"id": process_id, "host": socket.gethostname(), "pid": os.getpid(), "works_queue": works_queue}
    await session.execute(_ALIVE, {**values, "version": __version__, "words": WORDS})


async def say_gone(sessions: async_sessionmaker[AsyncSession], process_id: uuid.UUID) -> None:
    """Record that this process is ending."""
    async with sessions.begin() as session:
        await session.execute(_GONE, {"id": process_id})


async def prune(session: AsyncSession, *, days: int, limit: int) -> int:
    """Forget up to `limit` processes that have not reported for `days` days; returns how many."""
    return len((await session.execute(_PRUNE, {"days": days, "limit": limit})).all())


async def older_than(session: AsyncSession, words: int, *, stalled_after_seconds: float) -> list[Process]:
    """The living processes that cannot read a rule that needs this number of words (see `vocabulary.WORDS`).

    Older versions report only four times within `stalled_after_seconds`, however long that is.
    """
    seconds = max(ALIVE_SECONDS, stalled_after_seconds)
    rows = await session.execute(_OLDER, {"words": words, "seconds": seconds})
    return [Process(**row) for row in rows.mappings()]


_ALIVE = text("""
insert into workers (id, host, pid, version, words, works_queue)
values (:id, :host, :pid, :version, :words, :works_queue)
on conflict (id) do update set seen_at = now()
""")
_GONE = text("delete from workers where id = :id")
_PRUNE = text("""
delete from workers where id in (
    select id from workers where seen_at < clock_timestamp() - make_interval(days => :days) order by id limit :limit)
returning 1
""")
_OLDER = text("""
select id, host, pid, version, words from workers
where words < :words and seen_at > clock_timestamp() - make_interval(secs => :seconds) order by host, pid
""")
