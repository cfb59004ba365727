"""Counts refused deliveries by account and reason: in memory, and every few seconds in rows.

Anybody can send deliveries, so a refused one alone writes nothing: every few seconds one statement adds up the
counts. Only configured accounts and a closed set of reasons are counted, so the table does not grow either.
"""

import asyncio
from collections import Counter

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.errors import is_transient

log = structlog.get_logger()

KEEP_SECONDS = 5.0


class RefusedDeliveries:
    """`by_reason` counts since this process started, for its metrics."""

    def __init__(self) -> None:
        self.by_reason: Counter[str] = Counter()
        self._unkept: Counter[tuple[str, str]] = Counter()

    def add(self, account: str, reason: str) -> None:
        """One more."""
        self.by_reason[reason] += 1
        self._unkept[account, reason] += 1

    async def keep_on(self, engine: AsyncEngine) -> None:
        """Store the counts every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            await self.keep(engine)

    async def keep(self, engine: AsyncEngine) -> None:
        """Add the counts to the rows; if the database fails now, they are added next time."""
        counted, self._unkept = self._unkept, Counter()
        if not counted:
            return
        keys = sorted(counted)
        values = {
            "accounts": [account for account, _ in keys],
            "reasons": [reason for _, reason in keys],
            "numbers": [counted[key] for key in keys],
        }
        try:
            async with engine.begin() as connection:
                await connection.execute(_KEEP, values)
        except Exception as error:
            self._unkept.update(counted)
            if not is_transient(error):
                log.exception("intake.refusals_not_kept")


# After a day the count starts over.
_KEEP = text("""
insert into refused_deliveries as known (account, reason, number, first_at, last_at)
select account, reason, number, clock_timestamp(), clock_timestamp()
from unnest(cast(:accounts as text[]), cast(:reasons as text[]), cast(:numbers as bigint[]))
    as counted(account, reason, number)
on conflict (account, reason) do update set last_at = excluded.last_at, (number, first_at) = (
    select excluded.number + known.number, known.first_at where known.last_at > excluded.last_at - interval '1 day'
    union all
    select excluded.number, excluded.first_at where known.last_at <= excluded.last_at - interval '1 day')
""")
