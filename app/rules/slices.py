"""The rules lane: whatever became due for rules, a slice at a time, each in a short transaction."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession

from app.resources import Resources
from app.rules import backfill, schedule, withdrawals

# Wake-ups normally say when there is something to do; these queries make up for a lost one.
SLICES_DUE = (
    schedule.PLANNING_DUE,
    "select min(marked_at) from withdrawals where marked_at > {since}",
    "select min(asked_at) from backfills where asked_at > {since}",
)


async def work_slice(res: Resources) -> int:
    """Continue a withdrawal, planning and a backfill; returns 0 when there is nothing to do."""
    attempts = res.settings.max_run_attempts
    steps: list[Callable[[AsyncSession], Awaitable[int]]] = [
        withdrawals.resume,
        lambda session: schedule.plan_any(session, attempts=attempts),
        lambda session: backfill.resume(session, attempts=attempts),
    ]
    done = 0
    while steps:
        # An empty step opens no transaction of its own.
        async with res.sessions.begin() as session:
            slice_ = 0
            while steps and not slice_:
                slice_ = await steps.pop(0)(session)
        done += slice_
    return done
