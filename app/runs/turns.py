"""Which accounts have runs to work on, and whose turn it is."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import text

from app.db.engine import autocommit_session
from app.resources import Resources
from app.vocabulary import RunState

Claim = TypeVar("Claim")


async def claim_in_turn(
    res: Resources, state: RunState, limit: int, claim: Callable[[str, int], Awaitable[list[Claim]]]
) -> list[Claim]:
    """Up to `limit` claims of runs in this state, account by account: `claim` takes an account and how many at most."""
    claims: list[Claim] = []
    for account in await accounts_due(res, state):
        if len(claims) < limit:
            claims += await claim(account, limit - len(claims))
    return claims


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


# From one account that has such a run to the next, by index.
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
        and (lease_until is null or lease_until < clock_timestamp()))
""")  # noqa: S608 - words of ours
    for state in (RunState.PLANNED, RunState.REQUESTED, RunState.READY)
}
