"""How work is taken: a lease that others respect, and a fence against a worker that was only slow.

A claim raises the run's fence; every later write of the claimer names it. When a lease runs out,
the next claim may take the run and raises the fence again, so the first claimer's writes find nothing. Loads and
deliveries are taken the same way (`tables/loads`, `tables/publishing`, `targets/deliveries`).
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Batch
from app.errors import Overtaken
from app.vocabulary import RunState

# Whether no lease on a row is running: a part of the claim statements.
FREE = "(lease_until is null or lease_until < clock_timestamp())"
# Whether a claim still has its lease: released or backed off, it has none, but the same fence. A part of the renewals.
LEASED = "lease_until is not null"
# How many characters of a failed try's message are stored.
MOST_TROUBLE = 500


@dataclass(frozen=True, slots=True)
class Lease:
    """Who claims, and for how many seconds unless renewed."""

    worker: uuid.UUID
    seconds: float


@dataclass(frozen=True, slots=True)
class Claim:
    """One run, leased to this process at this fence."""

    run_id: uuid.UUID
    account: str
    attempt: int
    fence: int
    tries: int
    probing: bool  # the single probe of an account on hold (see holds)
    caused_by: str | None  # what caused the run, for logs and traces
    traceparent: str | None

    @property
    def may_have_taken_effect(self) -> bool:
        """Whether an earlier call for this claim may have taken effect at Stripe."""
        return False


async def lock_claim(session: AsyncSession, claim: Claim, state: RunState) -> None:
    """Lock the run until the transaction ends. Raises `Overtaken` if it is no longer ours."""
    await lock_claims(session, [claim], state)


async def lock_claims(session: AsyncSession, claims: Sequence[Claim], state: RunState) -> None:
    """Lock many runs. Raises `Overtaken` if one of them is no longer ours."""
    batch = Batch(session)
    values = {"ids": [c.run_id for c in claims], "fences": [c.fence for c in claims], "state": state.value}
    locked = batch.add(_LOCK, values)
    await batch.send()
    if len(locked) < len(claims):
        raise Overtaken


async def renew(session: AsyncSession, claims: Sequence[Claim], *, seconds: float) -> None:
    """Extend these claims by `seconds`; overtaken ones are left alone."""
    values = {"ids": [c.run_id for c in claims], "fences": [c.fence for c in claims], "seconds": seconds}
    await session.execute(_RENEW, values)


async def release(session: AsyncSession, claim: Claim) -> None:
    """Release an untouched claim: the run is due again at once."""
    await session.execute(_RELEASE, {"run_id": claim.run_id, "fence": claim.fence})


async def back_off(session: AsyncSession, claim: Claim, seconds: float, error: str) -> None:
    """Release the claim, due again after this many seconds; `error` says what went wrong, redacted."""
    values = {"run_id": claim.run_id, "fence": claim.fence, "seconds": seconds, "trouble": error[:MOST_TROUBLE]}
    await session.execute(_BACK_OFF, values)


_LOCK = text("""
select 1 from unnest(cast(:ids as uuid[]), cast(:fences as bigint[])) as held(id, fence)
join runs on runs.id = held.id and runs.fence = held.fence and state = :state
order by runs.id for update of runs
""")
# A locked run is skipped, so no heartbeat waits: either its outcome is being recorded, or the next heartbeat renews it.
_RENEW = text(f"""
update runs set lease_until = clock_timestamp() + make_interval(secs => :seconds)
from (
    select runs.id from unnest(cast(:ids as uuid[]), cast(:fences as bigint[])) as held(id, fence)
    join runs on runs.id = held.id and runs.fence = held.fence and {LEASED}
    for no key update of runs skip locked
) as ours where runs.id = ours.id
""")  # noqa: S608 - of constants only
_RELEASE = text("""
update runs set lease_until = null, leased_by = null, due_at = least(due_at, clock_timestamp())
where id = :run_id and fence = :fence
""")
_BACK_OFF = text("""
update runs set lease_until = null, leased_by = null, tries = tries + 1, last_trouble = :trouble,
    due_at = clock_timestamp() + make_interval(secs => :seconds)
where id = :run_id and fence = :fence
""")
