"""Delete rows that are past their retention: every kind that is pruned is in one list."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import catch_up
from app.inbox import events
from app.queue import processes
from app.resources import Resources
from app.settings import Settings
from app.targets import recovery

log = structlog.get_logger()

BATCH = 1000
# A process that has not reported for this long is gone; its work was taken over long before.
PROCESS_DAYS = 1


class _Prune(Protocol):
    async def __call__(self, session: AsyncSession, *, days: int, limit: int) -> int:
        """Delete up to `limit` rows that are older than `days`; returns how many."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of one kind, and for how many days they are kept."""

    prune: _Prune
    days: Callable[[Settings], int]


KEPT: dict[str, Kept] = {
    "processes": Kept(processes.prune, lambda _: PROCESS_DAYS),
    "unclaimed Stripe runs": Kept(catch_up.prune, lambda settings: settings.event_days),
    "events": Kept(events.prune, lambda settings: settings.event_days),
    "messages": Kept(recovery.prune, lambda settings: settings.event_days),
}


async def prune(res: Resources) -> None:
    """Delete all that is due, each batch in a transaction of its own."""
    for what, kept in KEPT.items():
        if rows := await _all_of(res, kept):
            log.info("rows.pruned", what=what, rows=rows)


async def _all_of(res: Resources, kept: Kept) -> int:
    total, pruned = 0, BATCH
    while pruned == BATCH:
        async with res.sessions.begin() as session:
            pruned = await kept.prune(session, days=kept.days(res.settings), limit=BATCH)
        total += pruned
    return total
