"""What a failed call means for its run: decided here, once, for every step.

A step handles only its own special cases; temporary failures (`NotNow`), a refused key (`KeyRefused`) and our own bugs
are handled alike in all steps.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import holds
from app.db.rows import fetch_first
from app.errors import KeyRefused, NotNow
from app.observability import log_lines
from app.observability.logs import redact
from app.planning.backoff import Backoff
from app.queue import claims
from app.queue.claims import Claim
from app.resources import Resources
from app.runs import moves
from app.runs.moves import RunError
from app.vocabulary import CallKind, ErrorKind

C = TypeVar("C", bound=Claim)
Step = Callable[[Resources, C], Coroutine[Any, Any, None]]

# After this many crashes of ours the run is `failed` (internal): a poison pill must not be tried forever.
MOST_CRASHES = 5
# A run refused this often while others of its account succeed is `failed` (refused).
MOST_REFUSALS = 10


@dataclass(frozen=True, slots=True)
class _Before:
    """A run's refusals so far: how often it was refused while others succeeded."""

    refusals: int
    refused_alone: bool


def puts_off(kind: CallKind) -> Callable[[Step[C]], Step[C]]:
    """Decorates a step with the kind of its Stripe calls: a failure that the step does not handle itself puts the
    claim off.
    """

    def marked(step: Step[C]) -> Step[C]:
        @wraps(step)
        async def guarded(res: Resources, claim: C) -> None:
            try:
                await step(res, claim)
            except (NotNow, KeyRefused) as error:
                log_lines.annotate(outcome=type(error).__name__, about=str(error))
                await put_off(res, claim, kind, error)

        return guarded

    return marked


async def put_off(res: Resources, claim: Claim, kind: CallKind, error: NotNow | KeyRefused) -> None:
    """Release the claim and its idempotency key, due again later.

    With exponential back-off, and no earlier than the answer demanded (`NotNow.after`).
    """
    async with res.sessions.begin() as session:
        if isinstance(error, KeyRefused):
            await _refused(session, claim, kind, error, res.backoff)
        else:
            seconds = res.backoff.seconds(claim.tries, at_least=error.after)
            await claims.back_off(session, claim, seconds, str(error))


async def _refused(session: AsyncSession, claim: Claim, kind: CallKind, error: KeyRefused, backoff: Backoff) -> None:
    """Back off the run, and hold the account's calls of this kind, unless only this run is refused."""
    values = {
        "run_id": claim.run_id,
        "fence": claim.fence,
        "seconds": backoff.seconds(claim.tries),
        "trouble": f"{error.status}: {error.message}"[: claims.MOST_TROUBLE],
        "keeps_slot": claim.may_have_taken_effect,
    }
    before = await fetch_first(session, _Before, _REFUSED, values)
    if before is None or not before.refused_alone:
        await holds.hold(session, claim.account, kind, error, probing=claim.probing, backoff=backoff)
    elif before.refusals + 1 >= MOST_REFUSALS:
        reason = RunError(ErrorKind.REFUSED, error.message, error.request_id)
        await moves.fail(session, claim.run_id, claim.attempt, reason)


async def crashed(res: Resources, claim: Claim, error: Exception) -> None:
    """Count a bug of ours: retry a limited number of times, then fail the run with a redacted message."""
    message = redact(f"{type(error).__name__}: {error}")[:500]
    async with res.sessions.begin() as session:
        values = {"run_id": claim.run_id, "fence": claim.fence, "seconds": res.settings.retry_base_seconds}
        values["trouble"] = message
        crashes = (await session.execute(_CRASHED, values)).scalar_one_or_none()
        if crashes is not None and crashes >= MOST_CRASHES:
            await moves.fail(session, claim.run_id, claim.attempt, RunError(ErrorKind.INTERNAL, message))


# Others have succeeded since the last refusal: `holds.accepted` has counted that, and cleared `refused_at`.
_REFUSED = text("""
with before as (
    select id, refusals, refusals > 0 and refused_at is null as refused_alone from runs
    where id = :run_id and fence = :fence for update
)
update runs set lease_until = null, leased_by = null, tries = tries + 1, last_trouble = :trouble,
    due_at = clock_timestamp() + make_interval(secs => :seconds), refused_at = clock_timestamp(),
    asked_at = case when :keeps_slot then asked_at end
from before where runs.id = before.id returning before.refusals, before.refused_alone
""")
_CRASHED = text("""
update runs set lease_until = null, leased_by = null, crashes = crashes + 1,
    last_trouble = :trouble, due_at = clock_timestamp() + make_interval(secs => :seconds * 2 ^ crashes)
where id = :run_id and fence = :fence returning crashes
""")
