"""How work on a run is taken: a lease that others respect, and a fence against whoever was only slow.

A claim raises the run's fence; every later write of the claimer names it. A lease that runs out makes the run
free for the next claim, which raises the fence again, and so the first claimer's writes find nothing.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotNow
from app.observability.logs import redact
from app.planning.backoff import full_jitter
from app.resources import Resources
from app.runs import moves
from app.runs.moves import RunError
from app.vocabulary import ErrorKind, RunState

# Errors of our own are tried again this often before the run is `failed` (internal): a poison pill must end.
MOST_CRASHES = 5


class Overtaken(Exception):
    """Somebody else has the run now, or it moved on: drop everything, write nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One run, leased to this process at this fence."""

    run_id: uuid.UUID
    account: str
    attempt: int
    fence: int
    tries: int
    probing: bool  # the one call of an account that is held (see holds)
    caused_by: str | None  # what the run goes back to, for logs and traces
    traceparent: str | None


async def hold_fence(session: AsyncSession, claim: Claim, state: RunState) -> None:
    """Lock the run until the transaction ends. Raises `Overtaken` when it is no longer ours."""
    await hold_fences(session, [claim], state)


async def hold_fences(session: AsyncSession, claims: Sequence[Claim], state: RunState) -> None:
    """The same for many runs. Raises `Overtaken` when one of them is no longer ours."""
    values = {"ids": [c.run_id for c in claims], "fences": [c.fence for c in claims], "state": state.value}
    if len((await session.execute(_HOLD, values)).all()) < len(claims):
        raise Overtaken


def in_turn(res: Resources) -> list[str]:
    """Every account that there is a key for, another one first each time: none is always last."""
    accounts = sorted(res.stripe.accounts)
    first = int(res.random() * len(accounts))
    return accounts[first:] + accounts[:first]


async def renew(session: AsyncSession, claims: list[Claim], *, seconds: float) -> None:
    """Keep these claims for another `seconds`; those that were overtaken stay so."""
    values = {"ids": [c.run_id for c in claims], "fences": [c.fence for c in claims], "seconds": seconds}
    await session.execute(_RENEW, values)


async def release(session: AsyncSession, claim: Claim) -> None:
    """Give a claim back untouched: the run is due again at once."""
    await session.execute(_RELEASE, {"run_id": claim.run_id, "fence": claim.fence})


async def back_off(res: Resources, session: AsyncSession, claim: Claim, trouble: NotNow) -> None:
    """Not now: release the claim, due again after what the answer said, or with exponential back-off."""
    seconds = full_jitter(
        claim.tries,
        base=res.settings.retry_base_seconds,
        maximum=res.settings.retry_max_seconds,
        random=res.random,
    )
    values = {"run_id": claim.run_id, "fence": claim.fence, "seconds": max(seconds, trouble.after or 0.0)}
    await session.execute(_BACK_OFF, values)


async def crashed(res: Resources, claim: Claim, error: Exception) -> None:
    """An error of our own: try again a bounded number of times, then fail the run, redacted."""
    message = redact(f"{type(error).__name__}: {error}")[:500]
    async with res.sessions.begin() as session:
        values = {"run_id": claim.run_id, "fence": claim.fence, "seconds": res.settings.retry_base_seconds}
        row = (await session.execute(_CRASHED, values)).first()
        if row is not None and row.crashes >= MOST_CRASHES:
            await moves.fail(session, claim.run_id, claim.attempt, RunError(ErrorKind.INTERNAL, message))


_HOLD = text("""
select 1 from unnest(cast(:ids as uuid[]), cast(:fences as bigint[])) as held(id, fence)
join runs on runs.id = held.id and runs.fence = held.fence and state = :state
order by runs.id for update of runs
""")
_RENEW = text("""
update runs set lease_until = clock_timestamp() + :seconds * interval '1 s'
from unnest(cast(:ids as uuid[]), cast(:fences as bigint[])) as held(id, fence)
where runs.id = held.id and runs.fence = held.fence and lease_until is not null
""")
_RELEASE = text("""
update runs set lease_until = null, leased_by = null where id = :run_id and fence = :fence
""")
_BACK_OFF = text("""
update runs set lease_until = null, leased_by = null, tries = tries + 1,
    due_at = clock_timestamp() + :seconds * interval '1 s'
where id = :run_id and fence = :fence
""")
_CRASHED = text("""
update runs set lease_until = null, leased_by = null, crashes = crashes + 1,
    due_at = clock_timestamp() + :seconds * (2 ^ crashes) * interval '1 s'
where id = :run_id and fence = :fence returning crashes
""")
