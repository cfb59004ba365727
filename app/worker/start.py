"""What a worker does once, before it takes up anything."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from app.accounts import catch_up, holds
from app.accounts.identity import check_identity
from app.errors import NotNow
from app.queue import processes, timetable
from app.resources import Resources
from app.worker.recurring import Entry

# At start, for Stripe to say whose the keys are.
IDENTITY_SECONDS = 5.0


async def start(res: Resources, entries: Sequence[Entry]) -> None:
    """Make the whole timetable due, find out whose the keys are, and have every hold probed."""
    async with res.sessions.begin() as session:
        await timetable.make_due(session, *(entry.name for entry in entries))
    await _check_identities(res)
    async with res.sessions.begin() as session:
        await holds.probe_all_now(session)
        await processes.say_alive(session, res.worker_id, works_queue=True)
        await catch_up.move_marks(session, settings=res.settings)


async def _check_identities(res: Resources) -> None:
    """Before anything is asked for: a key of another account must not make a single run there."""
    with suppress(TimeoutError):
        async with asyncio.timeout(IDENTITY_SECONDS):
            await asyncio.gather(*(_check_identity(res, account) for account in sorted(res.stripe.accounts)))


async def _check_identity(res: Resources, account: str) -> None:
    # An account that does not answer now is asked again by the timetable, and keeps the others from nothing.
    with suppress(NotNow):
        await check_identity(res, account)
