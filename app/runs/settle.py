"""Record the state of Stripe runs, learned from events, answers or lookups. Idempotent."""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Batch
from app.observability import log_lines
from app.queue.wakeups import wake
from app.runs import moves
from app.runs.moves import Move, RunError
from app.stripe_api.objects import StripeFile, StripeRun, stripe_run_from
from app.vocabulary import ErrorKind, Lane, RunState

# A file of at least this size is big and has a lane of its own, so that small reports never wait behind it.
BIG_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt that made a Stripe run; `left_pending`: it was cancelled, and Stripe may still be making it."""

    run_id: uuid.UUID
    number: int
    stripe_run_id: str
    traceparent: str | None
    is_current: bool
    state: str
    left_pending: bool | None


async def lock_stripe_runs(session: AsyncSession, account: str, stripe_run_ids: Sequence[str]) -> None:
    """Serialise all work on these Stripe runs until the transaction ends.

    An event may overtake the answer with the run's id. Without this lock, its handler and the code that records
    the answer could miss each other.
    """
    batch = Batch(session)
    add_lock(batch, account, stripe_run_ids)
    await batch.send()


def add_lock(batch: Batch, account: str, stripe_run_ids: Sequence[str]) -> None:
    """Have the batch lock these Stripe runs: see `lock_stripe_runs`."""
    batch.add(_LOCK, {"names": [f"{account}/{id_}" for id_ in stripe_run_ids]})


def has_ended(stripe_run: StripeRun) -> bool:
    """Whether Stripe has finished it; a success without its file does not count, as it leads nowhere."""
    return stripe_run.status == "failed" or (stripe_run.status == "succeeded" and stripe_run.file is not None)


async def settle(session: AsyncSession, account: str, updates: Sequence[StripeRun], *, poll_seconds: float) -> int:
    """Record the state of these Stripe runs on every run that waits for them.

    Returns how many attempts they concern; Stripe runs that are not ours (yet) concern none. Several reports about
    one Stripe run are applied in order.
    """
    if not updates:
        return 0
    concerned = 0
    batch = Batch(session)
    add_lock(batch, account, [stripe_run.id for stripe_run in updates])
    for turn in _in_turns(updates):
        concerned += await _settle_each_once(batch, account, turn, poll_seconds=poll_seconds)
    return concerned


async def apply_earlier_events(
    session: AsyncSession, account: str, stripe_run_ids: Sequence[str], *, poll_seconds: float
) -> None:
    """Apply events about these Stripe runs that arrived before we knew that the runs are ours."""
    found = await session.execute(_EARLIER_EVENTS, {"account": account, "stripe_run_ids": stripe_run_ids})
    updates = [stripe_run_from(json.loads(payload)["data"]["object"]) for payload in found.scalars()]
    await settle(session, account, updates, poll_seconds=poll_seconds)


def _in_turns(updates: Sequence[StripeRun]) -> Iterator[dict[str, StripeRun]]:
    """All reports in order, in batches with each Stripe run at most once."""
    turn: dict[str, StripeRun] = {}
    for stripe_run in updates:
        if stripe_run.id in turn:
            yield turn
            turn = {}
        turn[stripe_run.id] = stripe_run
    yield turn


async def _settle_each_once(batch: Batch, account: str, updates: dict[str, StripeRun], *, poll_seconds: float) -> int:
    session = batch.session
    found = batch.add(_ATTEMPTS_OF, {"account": account, "stripe_run_ids": list(updates)})
    await batch.send()
    known = found.rows(_Attempt)
    await _note_ends(session, [one for one in known if one.left_pending and has_ended(updates[one.stripe_run_id])])
    attempts = [one for one in known if one.is_current]
    succeeded: list[tuple[_Attempt, StripeFile]] = []
    pending = []
    for attempt in attempts:
        stripe_run = updates[attempt.stripe_run_id]
        log_lines.link_run(account, stripe_run.id, attempt.run_id, attempt.traceparent)
        if stripe_run.status == "succeeded" and stripe_run.file is not None:
            succeeded.append((attempt, stripe_run.file))
        elif stripe_run.status == "failed":
            await _failed(session, attempt, stripe_run)
        else:
            pending.append(attempt)
    await _succeeded(session, succeeded)
    if pending:
        await session.execute(_HEARD, {**_names(pending), "poll": poll_seconds})
    return len(attempts)


async def _note_ends(session: AsyncSession, attempts: Sequence[_Attempt]) -> None:
    """Stripe has finished runs that were cancelled here: free their slots."""
    if attempts:
        await session.execute(_ENDED, _names(attempts))
        await wake(session, Lane.REQUESTS)


async def _succeeded(session: AsyncSession, results: Sequence[tuple[_Attempt, StripeFile]]) -> None:
    if not results:
        return
    attempts, files = [attempt for attempt, _ in results], [file for _, file in results]
    facts = {
        "ids": [file.id for file in files],
        "urls": [file.url for file in files],
        "sizes": [file.size for file in files],
        "file_names": [file.filename for file in files],
        "file_types": [file.type for file in files],
        "expiries": [file.expires_at for file in files],
    }
    batch = Batch(session)
    batch.add(_RESULTS, {**_names(attempts), **facts})
    made = [Move(attempt.run_id, "Stripe finished the run", attempt.number) for attempt in attempts]
    big = {(file.size or 0) >= BIG_BYTES for file in files}
    lanes = [Lane.BIG_DOWNLOADS if is_big else Lane.DOWNLOADS for is_big in sorted(big)]
    moves.begin_moves(batch, made, to=RunState.READY, wakes=lanes)
    await batch.send()


async def _failed(session: AsyncSession, attempt: _Attempt, stripe_run: StripeRun) -> None:
    # A failure after a recorded success changes nothing: only a requested run waits for an outcome.
    if attempt.state == RunState.REQUESTED:
        error = RunError(ErrorKind.STRIPE_FAILED, stripe_run.error or "Stripe gave no reason")
        await moves.try_again_or_fail(session, attempt.run_id, attempt.number, error)


def _names(attempts: Sequence[_Attempt]) -> dict[str, list[Any]]:
    return {"run_ids": [attempt.run_id for attempt in attempts], "numbers": [attempt.number for attempt in attempts]}


# Always in the same order, so that no two transactions deadlock.
_LOCK = text("""
select pg_advisory_xact_lock(key) from (
    select distinct hashtextextended(name, 0) as key from unnest(cast(:names as text[])) as name order by key offset 0
) as keys
""")
# What was true before somebody else let go of the run does not count: both rows are read as they are then.
_ATTEMPTS_OF = text("""
select attempts.run_id, attempts.number, attempts.stripe_run_id, runs.traceparent,
    runs.attempt = attempts.number as is_current, runs.state,
    outcome = 'cancelled' and stripe_ended_at is null as left_pending
from attempts join runs on runs.id = attempts.run_id
where attempts.account = :account and stripe_run_id = any(:stripe_run_ids)
order by attempts.run_id, attempts.number for no key update of runs, attempts
""")
_ENDED = text("""
update attempts set stripe_ended_at = now()
from unnest(cast(:run_ids as uuid[]), cast(:numbers as int[])) as ended(run_id, number)
where attempts.run_id = ended.run_id and attempts.number = ended.number
""")
_RESULTS = text("""
update attempts set heard_at = now(), stripe_file_id = given.id, file_url = given.url, file_size = given.size,
    file_name = given.name, file_type = given.type, file_expires_at = given.expires_at
from unnest(cast(:run_ids as uuid[]), cast(:numbers as int[]), cast(:ids as text[]), cast(:urls as text[]),
    cast(:sizes as bigint[]), cast(:file_names as text[]), cast(:file_types as text[]),
    cast(:expiries as timestamptz[])) as given(run_id, number, id, url, size, name, type, expires_at)
where attempts.run_id = given.run_id and attempts.number = given.number and ended_at is null and stripe_file_id is null
""")
_HEARD = text("""
with given as (
    select * from unnest(cast(:run_ids as uuid[]), cast(:numbers as int[])) as given(run_id, number)
), heard as (
    update attempts set heard_at = now() from given
    where attempts.run_id = given.run_id and attempts.number = given.number and ended_at is null
)
update runs set lease_until = null, leased_by = null, due_at = clock_timestamp() + make_interval(
        secs => case when lease_until is not null and due_at > clock_timestamp() then 0 else :poll end),
    tries = 0, refusals = 0, refused_at = null, last_trouble = null
from given where id = given.run_id and state = 'requested' and attempt = given.number
""")
# Events that are still pending are left to the inbox.
_EARLIER_EVENTS = text("""
select payload from events
where account = :account and object_id = any(:stripe_run_ids) and status = 'handled' and payload is not null
order by id
""")
