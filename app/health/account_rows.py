"""The state of accounts: their keys' Stripe accounts, what Stripe refuses, what is pending, how far data reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.runs.slots import PENDING_AT_STRIPE


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account that a key or a signing secret was ever configured for.

    `pending_runs` counts the runs pending at Stripe over all processes; the last three are of its report types.
    """

    slug: str
    stripe_account_id: str | None
    livemode: bool | None
    created_at: datetime
    pending_runs: int
    report_types: int
    data_available_end: datetime | None
    refreshed_at: datetime | None


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A kind of call that Stripe refuses; without a time of the next probe only proof of the right key ends it."""

    account: str
    call_kind: str
    reason: str
    since: datetime
    next_probe_at: datetime | None


async def list_accounts(
    session: AsyncSession, *, timeout: float, after: str = "", only: str | None = None, limit: int
) -> list[AccountRow]:
    """Up to `limit` accounts by name, from the one after `after` on; `timeout` in seconds is when a Stripe run is
    given up."""
    values = {"after": after, "only": only, "limit": limit, "timeout": timeout}
    return await fetch(session, AccountRow, _ACCOUNTS, values)


async def holds_of(session: AsyncSession, accounts: Sequence[str]) -> Mapping[str, list[HoldRow]]:
    """What Stripe refuses these accounts, by account."""
    found: dict[str, list[HoldRow]] = {account: [] for account in accounts}
    for hold in await fetch(session, HoldRow, _HOLDS, {"accounts": list(accounts)}):
        found[hold.account].append(hold)
    return found


_ACCOUNTS = text(f"""
with shown as (
    select * from accounts where slug > :after and slug = coalesce(cast(:only as text), slug) order by slug limit :limit
), used as (
    select account, count(*) as runs from ({PENDING_AT_STRIPE}) as pending_at_stripe
    where account in (select slug from shown) group by account
)
select slug, stripe_account_id, livemode, created_at, coalesce(used.runs, 0) as pending_runs,
    types.report_types, types.data_available_end, types.refreshed_at
from shown left join used on used.account = slug cross join lateral (
    select count(*) filter (where missing_since is null and report_types.data_available_end is not null)
            as report_types,
        max(report_types.data_available_end) as data_available_end, max(report_types.refreshed_at) as refreshed_at
    from report_types where report_types.account = slug and resolves_to is null
) as types
order by slug
""")  # noqa: S608 - the part comes from a constant
_HOLDS = text("""
select account, call_kind, reason, since, nullif(next_probe_at, 'infinity') as next_probe_at
from account_holds where account = any(cast(:accounts as text[])) order by account, call_kind
""")
