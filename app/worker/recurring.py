"""The lane of recurring work: each timetable entry is a claim of its own, so that a long one delays no other."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.errors import NotNow
from app.observability import log_lines
from app.queue import timetable
from app.queue.timetable import EntryClaim
from app.resources import Resources
from app.vocabulary import Lane
from app.worker.lanes import Claimed, Line, Pool


@dataclass(frozen=True, slots=True)
class Entry:
    """A recurring piece of work and its period in seconds. The work returns True when there is more to do.

    It raises NotNow to be retried within a minute.
    """

    name: str
    work: Callable[[Resources], Awaitable[bool | None]]
    every: float


def recurring(entries: Sequence[Entry]) -> Pool[EntryClaim]:
    """The lane that works on these entries when they are due."""
    by_name = {entry.name: entry for entry in entries}
    every = {entry.name: entry.every for entry in entries}

    async def claim(res: Resources, limit: int) -> list[EntryClaim]:
        async with res.sessions.begin() as session:
            return await timetable.claim(session, every, limit)

    async def step(res: Resources, claim: EntryClaim) -> bool:
        return await _do(res, by_name[claim.name], claim)

    return Pool(
        Lane.TIMETABLE,
        slots=len(entries),
        claim=claim,
        step=step,
        kind=_ENTRIES,
        line=lambda claim: Line(f"timetable.{claim.name}", {"caused_by": f"timetable/{claim.name}"}),
        next_due=[timetable.next_due(every)],
    )


async def _do(res: Resources, entry: Entry, claim: EntryClaim) -> bool:
    """Do a claimed entry and record when it is due again; False if it was interrupted, so it is due again soon."""
    try:
        more = await entry.work(res)
    except NotNow as error:
        log_lines.annotate(outcome="NotNow", about=str(error))
        return False
    log_lines.annotate(outcome="done")
    async with res.sessions.begin() as session:
        await timetable.finish(session, claim, again_after=0.0 if more else entry.every)
    return True


async def _crashed(_res: Resources, _claim: EntryClaim, _error: Exception) -> None:
    """Nothing to record: the bug is in the log, and the entry is due again soon in any case."""


_ENTRIES: Claimed[EntryClaim] = Claimed(renew=timetable.renew, release=timetable.release, crashed=_crashed)
