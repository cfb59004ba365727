"""What a worker does once, at its start."""

from collections.abc import Sequence

from app.accounts import catch_up, holds
from app.accounts.identity import check_at_start
from app.queue import processes, timetable
from app.resources import Resources
from app.worker.recurring import Entry


async def start(res: Resources, entries: Sequence[Entry]) -> None:
    """Make the whole timetable due, identify the keys, and probe every hold."""
    async with res.sessions.begin() as session:
        await timetable.make_due(session, *(entry.name for entry in entries))
    await check_at_start(res)
    async with res.sessions.begin() as session:
        await holds.probe_all_now(session)
        await processes.say_alive(session, res.worker_id, works_queue=True)
        await catch_up.move_marks(session, settings=res.settings)
