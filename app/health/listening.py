"""Which events are needed besides those of reports, according to the rules."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch


@dataclass(frozen=True, slots=True)
class Needs:
    """`connect`: events of connected accounts, which need their own endpoint; `payouts`: those of own payouts."""

    account: str
    connect: bool
    payouts: bool


async def needs(session: AsyncSession) -> Mapping[str, Needs]:
    """By account."""
    return {one.account: one for one in await fetch(session, Needs, _NEEDS)}


_NEEDS = text("""
select slug as account, exists (select from connected_lists where account = slug) as connect,
    exists (select from rules where account = slug and cadence = 'every_payout' and enabled and deleted_at is null
        and connected_accounts = '{}' and connected is distinct from 'each') as payouts
from accounts
""")
