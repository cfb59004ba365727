"""The moves of a run: one guarded UPDATE each, its history written in the same statement."""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import files
from app.db.batch import Answer, Batch
from app.queue.wakeups import CHANNEL, SLOTS_WORD
from app.targets import messages
from app.vocabulary import AttemptOutcome, ErrorKind, Lane, RunState, sources_of

# The lanes that a move wakes: the one of the run's next step and, if a slot became free, the one that waits for slots.
_WAKES: dict[RunState, tuple[str, ...]] = {
    RunState.PLANNED: (Lane.REQUESTS,),
    RunState.REQUESTED: (),
    RunState.READY: (SLOTS_WORD,),  # and the download lane for its size: see settle
    RunState.STORED: (),
    RunState.FAILED: (Lane.REQUESTS,),
    RunState.CANCELLED: (Lane.REQUESTS,),
}


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed, as the admin API shows it; the message is redacted."""

    kind: ErrorKind
    message: str
    stripe_request_id: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The stored form."""
        return {"kind": self.kind.value, "message": self.message, "stripe_request_id": self.stripe_request_id}


@dataclass(frozen=True, slots=True)
class Move:
    """One run's move and its reason; with `attempt` only if the run is in that attempt."""

    run_id: uuid.UUID
    reason: str
    attempt: int | None = None


# A channel without lanes to wake gets no notification. Of equal notifications in a transaction only one is sent.
# Leaving a state clears the lease, the back-off and whatever the state was waiting for.
_MOVE = """
with wanted as (
    select * from unnest(cast(:run_ids as uuid[]), cast(:attempts as int[]), cast(:reasons as text[]))
        as wanted(run_id, attempt, reason)
), before as (
    select runs.id, runs.state, wanted.reason from wanted join runs on runs.id = wanted.run_id
        and (wanted.attempt is null or wanted.attempt = runs.attempt)
    order by runs.id for update of runs
), moved as (
    update runs set state = :to, lease_until = null, leased_by = null, fence = fence + 1, tries = 0, crashes = 0,
        refusals = 0, refused_at = null, last_trouble = null,
        asked_at = null {columns}
    from before where runs.id = before.id and before.state = any(:sources)
    returning runs.id, runs.account, before.state as from_state, runs.attempt, before.reason
)
insert into run_moves (run_id, account, from_state, to_state, attempt, reason)
select id, account, from_state, cast(:to as text), attempt, reason from moved
returning run_id, case when cast(:lanes as text) <> '' then pg_notify(:channel, :lanes) end
"""
_STAMPS = {
    RunState.PLANNED: """
        , due_at = clock_timestamp(), attempt = runs.attempt + 1, requested_at = null, ready_at = null, error = null""",
    RunState.REQUESTED: ", requested_at = now(), due_at = clock_timestamp() + make_interval(secs => :poll)",
    RunState.READY: ", due_at = clock_timestamp(), ready_at = now()",
    # Not when the transaction began: pollers ask for what was stored later than what they have seen (runs/listing).
    RunState.STORED: ", stored_at = clock_timestamp(), error = null",
    RunState.FAILED: ", error = cast(:error as jsonb)",
    RunState.CANCELLED: "",
}
_MOVES = {state: text(_MOVE.format(columns=columns)) for state, columns in _STAMPS.items()}


async def move(
    session: AsyncSession,
    run_id: uuid.UUID,
    *,
    to: RunState,
    reason: str,
    attempt: int | None = None,
    sources: Iterable[RunState] | None = None,
    **values: Any,
) -> bool:
    """Move a run if its state (and attempt, if given) allows it; otherwise return False."""
    return bool(await move_all(session, [Move(run_id, reason, attempt)], to=to, sources=sources, **values))


async def move_all(
    session: AsyncSession,
    moves: Sequence[Move],
    *,
    to: RunState,
    sources: Iterable[RunState] | None = None,
    wakes: Iterable[Lane] = (),
    **values: Any,
) -> set[uuid.UUID]:
    """Move those of these runs that allow it; returns their ids.

    `wakes` are lanes to wake beside those that the move wakes anyway. `values`: `error` (JSON) for failed, `poll`
    (seconds until it is looked up) for requested.
    """
    batch = Batch(session)
    moving = begin_moves(batch, moves, to=to, sources=sources, wakes=wakes, **values)
    await batch.send()
    return await finish_moves(session, moving)


@dataclass(frozen=True, slots=True)
class Moving:
    """Moves in a batch: which runs have moved, and what to announce about them."""

    to: RunState
    moved: Answer
    news: Answer | None


def begin_moves(
    batch: Batch,
    moves: Sequence[Move],
    *,
    to: RunState,
    sources: Iterable[RunState] | None = None,
    wakes: Iterable[Lane] = (),
    **values: Any,
) -> Moving:
    """Have the batch move those of these runs that allow it: see `move_all`; call `finish_moves` after it was sent."""
    allowed = sources_of(to) if sources is None else set(sources) & sources_of(to)
    run_ids = [move.run_id for move in moves]
    known = {
        "run_ids": run_ids,
        "attempts": [move.attempt for move in moves],
        "reasons": [move.reason for move in moves],
        "to": to.value,
        "sources": [state.value for state in allowed],
        "channel": CHANNEL,
        "lanes": " ".join((*_WAKES[to], *wakes)),
    }
    if "error" in values:
        values["error"] = json.dumps(values["error"])
    return Moving(to, batch.add(_MOVES[to], {**known, **values}), messages.look_at_runs(batch, run_ids, to))


async def finish_moves(session: AsyncSession, moving: Moving) -> set[uuid.UUID]:
    """Announce what the batch has moved; returns the ids of those runs."""
    moved = set(moving.moved.scalars())
    if moving.news is not None:
        await messages.announce_found(session, moving.news, moving.to, moved)
    return moved


async def end_attempt(
    session: AsyncSession,
    run_id: uuid.UUID,
    attempt: int,
    *,
    outcome: AttemptOutcome | ErrorKind,
    error: RunError | None = None,
) -> None:
    """Record how an attempt ended, unless that is already recorded."""
    await end_attempts(session, [(run_id, attempt)], outcome=outcome, error=error)


async def end_attempts(
    session: AsyncSession,
    attempts: Sequence[tuple[uuid.UUID, int]],
    *,
    outcome: AttemptOutcome | ErrorKind,
    error: RunError | None = None,
) -> None:
    """Record the same outcome for these attempts (run and number)."""
    batch = Batch(session)
    add_ends(batch, attempts, outcome=outcome, error=error)
    await batch.send()


def add_ends(
    batch: Batch,
    attempts: Sequence[tuple[uuid.UUID, int]],
    *,
    outcome: AttemptOutcome | ErrorKind,
    error: RunError | None = None,
) -> None:
    """Have the batch record the same outcome for these attempts (run and number)."""
    values = {"run_ids": [run_id for run_id, _ in attempts], "numbers": [number for _, number in attempts]}
    ended = {"outcome": outcome.value, "error": json.dumps(error.as_json()) if error else None}
    batch.add(_END_ATTEMPTS, {**values, **ended})


async def cancel(
    session: AsyncSession, run_id: uuid.UUID, *, reason: str, sources: Iterable[RunState] | None = None
) -> bool:
    """Cancel a run and its attempt. The remains of an unfinished download are removed."""
    moved = await move(session, run_id, to=RunState.CANCELLED, reason=reason, sources=sources)
    if moved:
        attempt = (await session.execute(_ATTEMPT, {"run_id": run_id})).scalar_one()
        await end_attempt(session, run_id, attempt, outcome=AttemptOutcome.CANCELLED)
        await files.drop_partial(session, run_id)
    return moved


async def fail(session: AsyncSession, run_id: uuid.UUID, attempt: int, error: RunError) -> bool:
    """Fail the run, visibly. The remains of an unfinished download are removed."""
    moved = await move(
        session, run_id, to=RunState.FAILED, reason=f"{error.kind}: {error.message}", attempt=attempt,
        error=error.as_json(),
    )  # fmt: skip
    if moved:
        await end_attempt(session, run_id, attempt, outcome=error.kind, error=error)
        await files.drop_partial(session, run_id)
    return moved


async def try_again_or_fail(session: AsyncSession, run_id: uuid.UUID, attempt: int, error: RunError) -> None:
    """End the failed attempt: start the next one or, after the last granted one, fail the run."""
    granted = (await session.execute(_GRANTED, {"run_id": run_id})).scalar_one()
    if attempt >= granted:
        await fail(session, run_id, attempt, error)
        return
    again = await move(
        session, run_id, to=RunState.PLANNED, reason=f"{error.kind}: {error.message}", attempt=attempt,
        sources=(RunState.REQUESTED, RunState.READY),
    )  # fmt: skip
    if again:
        await end_attempt(session, run_id, attempt, outcome=error.kind, error=error)
        await files.drop_partial(session, run_id)


_END_ATTEMPTS = text("""
update attempts set ended_at = now(), outcome = :outcome, error = cast(:error as jsonb)
from unnest(cast(:run_ids as uuid[]), cast(:numbers as int[])) as ended(run_id, number)
where attempts.run_id = ended.run_id and attempts.number = ended.number and ended_at is null
""")
_ATTEMPT = text("select attempt from runs where id = :run_id")
_GRANTED = text("select attempts_granted from runs where id = :run_id")
