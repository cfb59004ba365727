"""The lane of the rules: whatever became due for them, a slice at a time, each in a short transaction of its own."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession

from app.resources import Resources
from app.rules import backfill, schedule, withdrawals

# Wake-ups say when there is something; these are for one that was lost.
SLICES_DUE = (
    "select min(refreshed_at) from report_types where refreshed_at > {since}",
    "select min(marked_at) from withdrawals where marked_at > {since}",
    "select min(asked_at) from backfills where asked_at > {since}",
)


async def work_slice(res: Resources) -> int:
    """Go on with a withdrawal, with planning and with a backfill; returns 0 when there is nothing of any."""
    attempts = res.settings.max_run_attempts
    steps: list[Callable[[AsyncSession], Awaitable[int]]] = [
        withdrawals.resume,
        lambda session: schedule.plan_any(session, attempts=attempts),
        lambda session: backfill.resume(session, attempts=attempts),
    ]
    done = 0
    while steps:
        # What finds nothing to do takes no transaction of its own.
        async with res.sessions.begin() as session:
            slice_ = 0
            while steps and not slice_:
                slice_ = await steps.pop(0)(session)
        done += slice_
    return done
