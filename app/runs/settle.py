"""Stripe said where a run stands, by event, by answer or when asked: record it. Hearing it twice changes nothing."""

import json
import uuid

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.runs import rows
from app.runs.rows import RunError
from app.stripe_values import StripeRun, stripe_run_from
from app.vocabulary import ErrorKind, RunState


async def lock_stripe_run(session: AsyncSession, account: str, stripe_run_id: str) -> None:
    """Serialise all that is done about one Stripe run until the transaction ends.

    The event may overtake the answer that tells us the run's id: if its handler and the recorder of the answer
    both only read, they could miss each other. Both take this lock first.
    """
    await session.execute(_LOCK, {"name": f"{account}/{stripe_run_id}"})


def has_ended(stripe_run: StripeRun) -> bool:
    """Whether Stripe is done with it; a success that comes without its file says nothing that we can go on with."""
    return stripe_run.status == "failed" or (stripe_run.status == "succeeded" and stripe_run.file is not None)


async def settle(session: AsyncSession, account: str, stripe_run: StripeRun, *, poll_seconds: float) -> bool:
    """Record where this Stripe run stands for every run that waits for it; False when it is not ours (yet)."""
    await lock_stripe_run(session, account, stripe_run.id)
    values = {"account": account, "stripe_run_id": stripe_run.id}
    attempts = (await session.execute(_ATTEMPTS_OF, values)).all()
    for attempt in attempts:
        if stripe_run.status == "succeeded" and stripe_run.file is not None:
            await _succeeded(session, attempt.run_id, attempt.number, stripe_run)
        elif stripe_run.status == "failed":
            error = RunError(ErrorKind.STRIPE_FAILED, stripe_run.error or "Stripe gave no reason")
            await _failed(session, attempt.run_id, attempt.number, error)
        else:
            await session.execute(_HEARD, {"run_id": attempt.run_id, "number": attempt.number, "poll": poll_seconds})
    return bool(attempts)


async def hear_earlier_events(session: AsyncSession, account: str, stripe_run_id: str, *, poll_seconds: float) -> None:
    """Apply the events about this Stripe run that came before we knew that it is ours."""
    found = await session.execute(_EARLIER_EVENTS, {"account": account, "stripe_run_id": stripe_run_id})
    for payload in found.scalars().all():
        await settle(
            session, account, stripe_run_from(json.loads(payload)["data"]["object"]), poll_seconds=poll_seconds
        )


async def _succeeded(session: AsyncSession, run_id: uuid.UUID, number: int, stripe_run: StripeRun) -> None:
    file = stripe_run.file
    assert file is not None
    facts = {"id": file.id, "url": file.url, "size": file.size, "name": file.filename, "expires_at": file.expires_at}
    await session.execute(_RESULT, {"run_id": run_id, "number": number, **facts})
    await rows.move(session, run_id, to=RunState.READY, reason="Stripe finished the run", attempt=number)


async def _failed(session: AsyncSession, run_id: uuid.UUID, number: int, error: RunError) -> None:
    # A failure after the success that we already have changes nothing: only a requested run waits for an outcome.
    state = (await session.execute(_STATE, {"run_id": run_id})).scalar_one()
    if state == RunState.REQUESTED:
        await rows.try_again_or_fail(session, run_id, number, error)


_LOCK = text("select pg_advisory_xact_lock(hashtextextended(:name, 0))")
_ATTEMPTS_OF = text("""
select attempts.run_id, attempts.number from attempts join runs on runs.id = attempts.run_id
where attempts.account = :account and stripe_run_id = :stripe_run_id and runs.attempt = attempts.number
order by attempts.run_id
""")
_RESULT = text("""
update attempts set heard_at = now(), stripe_file_id = :id, file_url = :url, file_size = :size, file_name = :name,
    file_expires_at = :expires_at
where run_id = :run_id and number = :number and ended_at is null and stripe_file_id is null
""")
_HEARD = text("""
with heard as (
    update attempts set heard_at = now() where run_id = :run_id and number = :number and ended_at is null
)
update runs set due_at = now() + :poll * interval '1 s', lease_until = null, leased_by = null
where id = :run_id and state = 'requested' and attempt = :number
""")
# Events that nobody has handled yet are left to the inbox.
_EARLIER_EVENTS = text("""
select payload from events
where account = :account and object_id = :stripe_run_id and status = 'handled' and payload is not null order by id
""")
_STATE = text("select state from runs where id = :run_id for update")
