"""When Stripe is due to be polled about each account: a row per account, claimed by one process at a time.

The timetable begins a round (`begin_round`); every account then has a due time and a claim of its own, so that one
that does not answer delays no other. `app/upkeep/reconcile.py` says what is asked.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.queue.timetable import RETRY_SECONDS
from app.queue.wakeups import wake
from app.resources import Resources
from app.vocabulary import Lane

# A round of many accounts is spread out: the first few are due at once, then this many a second.
DUE_AT_ONCE = 16
PER_SECOND = 10.0
# The longest time that a round is spread over; no due time is later than that (see upkeep/clock).
LONGEST_ROUND_SECONDS = 1800.0
# A claim names only accounts that are due, not the thousands that a process may have keys for.
LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class AccountClaim:
    """An account that this process asks about; `started_at` tells it from another's claim (see `make_due`)."""

    account: str
    started_at: datetime


async def begin_round(session: AsyncSession, accounts: Collection[str]) -> None:
    """Make these accounts due, spread over time; those under way, or due before, stay as they are."""
    values = {"accounts": sorted(accounts), "at_once": DUE_AT_ONCE, "per_second": PER_SECOND}
    await session.execute(_BEGIN_ROUND, {**values, "longest": LONGEST_ROUND_SECONDS})
    await wake(session, Lane.ACCOUNTS)


async def make_due(session: AsyncSession, *accounts: str) -> None:
    """Make these accounts due when the session's transaction commits, even those under way right now."""
    await session.execute(_MAKE_DUE, {"accounts": sorted(accounts)})
    await wake(session, Lane.ACCOUNTS)


async def hasten(session: AsyncSession, account: str) -> None:
    """Make the account due, no earlier than a minute after it was last asked about, however often this is called.

    One that is being asked about is due again a minute afterwards: the answers may be older than the hint.
    """
    await session.execute(_HASTEN, {"account": account, "seconds": RETRY_SECONDS})
    await wake(session, Lane.ACCOUNTS)


async def claim_accounts(res: Resources, limit: int) -> list[AccountClaim]:
    """Take up to `limit` due accounts that this process has a key for."""
    ours = res.stripe.accounts
    async with res.sessions.begin() as session:
        due = (await session.execute(_DUE_NOW, {"limit": LOOKED_AT})).scalars().all()
        if not due:
            return []
        # If none of these is ours, other processes have other keys: then all of ours are named.
        named = [account for account in due if account in ours][:limit] or list(ours)
        values = {"accounts": named, "limit": limit, "seconds": res.settings.stalled_after_seconds}
        return await fetch(session, AccountClaim, _CLAIM, values)


async def renew(session: AsyncSession, claims: Sequence[AccountClaim], *, seconds: float) -> None:
    """Extend these claims by `seconds`; overtaken ones are left alone."""
    accounts, started = [claim.account for claim in claims], [claim.started_at for claim in claims]
    await session.execute(_RENEW, {"accounts": accounts, "started": started, "seconds": seconds})


async def release(session: AsyncSession, claim: AccountClaim) -> None:
    """Release an interrupted claim: the account is due again at once."""
    await session.execute(_PUT_OFF, _values(claim, 0.0))


async def put_off(session: AsyncSession, claim: AccountClaim) -> None:
    """Stripe could not be asked now: the account is due again within a minute."""
    await session.execute(_PUT_OFF, _values(claim, RETRY_SECONDS))


async def finish(session: AsyncSession, claim: AccountClaim) -> None:
    """Everything was asked: not due before the next round, unless `make_due` or `hasten` was called meanwhile."""
    await session.execute(_FINISH, _values(claim, RETRY_SECONDS))


def _values(claim: AccountClaim, seconds: float) -> dict[str, object]:
    return {"account": claim.account, "started_at": claim.started_at, "seconds": seconds}


# `started_at` is set while a worker asks; `make_due` clears it. `hasten` sets it to infinity: the claim stays, and the
# account is due again afterwards.
_BEGIN_ROUND = text("""
insert into reconciliations (account, due_at)
select slug, clock_timestamp() + make_interval(secs => least(:longest, greatest(0, n - :at_once) / :per_second))
from unnest(cast(:accounts as text[])) with ordinality as given(slug, n) join accounts using (slug) order by slug
on conflict (account) do update set due_at = least(reconciliations.due_at, excluded.due_at)
where reconciliations.started_at is null
""")
_HASTEN = text("""
insert into reconciliations (account, due_at) select slug, clock_timestamp() from accounts where slug = :account
on conflict (account) do update set
    started_at = case when reconciliations.started_at is not null then cast('infinity' as timestamptz) end,
    due_at = case when reconciliations.started_at is not null then reconciliations.due_at
        else least(reconciliations.due_at,
            greatest(clock_timestamp(), reconciliations.finished_at + make_interval(secs => :seconds))) end
""")
_MAKE_DUE = text("""
insert into reconciliations (account, due_at)
select slug, clock_timestamp() from accounts where slug = any(cast(:accounts as text[])) order by slug
on conflict (account) do update set due_at = excluded.due_at, started_at = null
""")
_DUE_NOW = text("""
select account from reconciliations where due_at <= clock_timestamp() order by due_at limit :limit
""")
_CLAIM = text("""
update reconciliations set started_at = clock_timestamp(),
    due_at = clock_timestamp() + make_interval(secs => :seconds)
from (
    select account from reconciliations
    where due_at <= clock_timestamp() and account = any(cast(:accounts as text[]))
    order by due_at limit :limit for update skip locked
) as due
where reconciliations.account = due.account
returning reconciliations.account, reconciliations.started_at
""")
_RENEW = text("""
update reconciliations set due_at = greatest(due_at, clock_timestamp() + make_interval(secs => :seconds))
where account in (
    select reconciliations.account
    from unnest(cast(:accounts as text[]), cast(:started as timestamptz[])) as held(account, started_at)
    join reconciliations on reconciliations.account = held.account
        and reconciliations.started_at in (held.started_at, 'infinity')
    order by reconciliations.account for update of reconciliations skip locked)
""")
_PUT_OFF = text("""
update reconciliations set started_at = null, due_at = clock_timestamp() + make_interval(secs => :seconds)
where account = :account and started_at in (:started_at, 'infinity')
""")
# Everything was asked, also if somebody else asks again by now.
_FINISH = text("""
update reconciliations set finished_at = clock_timestamp(),
    started_at = nullif(nullif(started_at, :started_at), 'infinity'),
    due_at = case when started_at = 'infinity' then clock_timestamp() + make_interval(secs => :seconds)
        when started_at = :started_at then null else due_at end
where account = :account
""")
# When an account is due next (see worker/due).
DUE = "select min(due_at) from reconciliations where due_at > {since}"
