"""Which accounts have runs to work on, and whose turn it is."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import autocommit_session
from app.db.errors import is_transient
from app.errors import AccountBusy
from app.queue.claims import FREE
from app.resources import Resources
from app.vocabulary import RUN_STEPS, Lane, RunState

log = structlog.get_logger()
Claim = TypeVar("Claim")

# When to look again at an account for which another process was claiming: a claim takes a few round trips. Chosen at
# random, so that the processes do not collide again.
BUSY_SECONDS = 0.01, 0.1
_STATE = {lane: step.state for step in RUN_STEPS for lane in step.lanes}


async def claim_in_turn(
    res: Resources, lane: Lane, limit: int, claim: Callable[[str, int], Awaitable[list[Claim]]]
) -> list[Claim]:
    """Up to `limit` claims of this lane's runs, account by account: `claim` takes an account and how many at most.

    A process never queues for an account: if `claim` raises AccountBusy, the next account has its turn, and the lane
    looks again soon. If it raises anything else after something was claimed, that is returned at once: it has
    a lease, and must be worked on.
    """
    claims: list[Claim] = []
    for account in await accounts_due(res, _STATE[lane]):
        if len(claims) < limit:
            try:
                claims += await claim(account, limit - len(claims))
            except AccountBusy:
                _look_soon(res, lane)
            except Exception as error:
                if not claims:
                    raise
                if is_transient(error):
                    log.warning("lane.database_trouble", lane=lane.value, account=account, error=type(error).__name__)
                else:
                    log.exception("lane.crashed", lane=lane.value, account=account)
                _look_soon(res, lane)
                break
    return claims


def _look_soon(res: Resources, lane: Lane) -> None:
    shortest, longest = BUSY_SECONDS
    res.wakeups.ring_soon(lane, seconds=shortest + (longest - shortest) * res.random())


@asynccontextmanager
async def claiming(res: Resources) -> AsyncIterator[AsyncSession]:
    """The transaction of a claim; it commits even if the account is busy: a rollback costs all prepared statements."""
    busy: AccountBusy | None = None
    async with res.sessions.begin() as session:
        try:
            yield session
        except AccountBusy as error:
            busy = error
    if busy is not None:
        raise busy


async def accounts_due(res: Resources, state: RunState) -> list[str]:
    """The accounts with a run in this state that is due, in a different order each time: none is always last.

    One statement asks about all of them, so that accounts with nothing due cost nothing, however many there are; a
    single account is simply looked at.
    """
    accounts = res.callable_accounts
    if len(accounts) == 1:
        return list(accounts)
    values = {"accounts": list(accounts)}
    async with autocommit_session(res.sessions) as session:
        found = sorted((await session.execute(_ACCOUNTS_DUE[state], values)).scalars())
    first = int(res.random() * len(found))
    return found[first:] + found[:first]


# Jumps from one account that has such a run to the next, by index.
_ACCOUNTS_DUE = {
    state: text(f"""
with recursive found as (
    (select account from runs where state = '{state.value}' order by account limit 1)
    union all
    select next.account from found cross join lateral (
        select account from runs where state = '{state.value}' and account > found.account order by account limit 1
    ) as next
)
select account from found where account = any(cast(:accounts as text[])) and exists (
    select from runs where account = found.account and state = '{state.value}' and due_at <= clock_timestamp()
        and {FREE})
""")  # noqa: S608 - words of ours
    for state in (step.state for step in RUN_STEPS)
}
