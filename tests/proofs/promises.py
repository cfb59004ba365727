"""Whether the service's promises were kept, according to the rows and Stripe once everything has settled."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from app.planning.report_types import OWN_FIELDS
from app.resources import Resources
from app.simulator import Simulator
from app.simulator.state.model import Run as StripeRun
from app.vocabulary import ALLOWED_MOVES, RunState
from tests.service import fetch

ENDED = ("stored", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Owed:
    """A window that a rule owes, named as the runs name it."""

    rule_id: UUID
    window_key: str
    start: datetime
    end: datetime


def owed_days(rule_id: UUID, first: date, days: int) -> set[Owed]:
    """The windows of a daily rule in UTC, from `first` on."""
    begins = [datetime(first.year, first.month, first.day, tzinfo=UTC) + timedelta(number) for number in range(days)]
    return {Owed(rule_id, f"{begin.date()}", begin, begin + timedelta(1)) for begin in begins}


def owed_by(run: RowMapping) -> Owed:
    """The window that a run was made for."""
    return Owed(run["rule_id"], run["window_key"], run["interval_start"], run["interval_end"])


async def broken_promises(
    res: Resources,
    simulator: Simulator,
    *,
    owed: Set[Owed],
    allowed: Set[Owed] | None = None,
    lost: Set[str] = frozenset(),
) -> list[str]:
    """Every promise that was not kept, in words. `owed` must be there; `allowed` may (nothing else, if None).

    `lost` are Stripe runs that the service forgot, because its database comes from a backup.
    """
    state = await _read(res, simulator)
    found = [
        *_windows(state, owed, owed if allowed is None else allowed),
        *_stripe_runs(state, lost),
        *_spent_attempts(state),
        *_histories(state),
        *_left_over(state),
    ]
    return found + [problem async for problem in _file_problems(res, state)]


@dataclass(frozen=True, slots=True)
class _State:
    """Everything that exists, here and at Stripe."""

    runs: list[RowMapping]
    attempts: list[RowMapping]
    moves: list[RowMapping]
    files: list[RowMapping]
    chunks: list[RowMapping]
    events: list[RowMapping]
    stripe_runs: list[StripeRun]
    contents: dict[str, bytes]  # by Stripe's file id


async def _read(res: Resources, simulator: Simulator) -> _State:
    return _State(
        runs=await fetch(res, "select * from runs order by id"),
        attempts=await fetch(res, "select * from attempts order by run_id, number"),
        moves=await fetch(res, "select * from run_moves order by run_id, id"),
        files=await fetch(res, "select * from files"),
        chunks=await fetch(res, "select file_id, raw_start, raw_size from file_chunks order by file_id, raw_start"),
        events=await fetch(res, "select stripe_event_id, type, status, reason from events"),
        stripe_runs=simulator.runs,
        contents={file.id: simulator.content(file) for file in simulator.files},
    )


def _windows(state: _State, owed: Set[Owed], allowed: Set[Owed]) -> Iterator[str]:
    """Every owed window has one run, in an end state; nothing was made that was not owed."""
    made = Counter(owed_by(run) for run in state.runs)
    for window in sorted(owed - made.keys(), key=str):
        yield f"{window} is owed, and there is no run"
    for window, count in made.items():
        if count > 1:
            yield f"{window} has {count} runs"
        if window not in allowed | owed:
            yield f"{window} has a run, and nobody owes it"
    for run in state.runs:
        if run["state"] not in ENDED:
            yield f"{_named(run)} has not come to an end"


def _stripe_runs(state: _State, lost: Set[str]) -> Iterator[str]:
    """One Stripe run per attempt, about what the run is about; and none that we do not know of.

    What was lost with a backup may stay unknown (its rule was lost with it), but is never made once more.
    """
    runs = {run["id"]: run for run in state.runs}
    by_id = {attempt["stripe_run_id"]: attempt for attempt in state.attempts if attempt["stripe_run_id"]}
    by_key = {attempt["idempotency_key"]: attempt for attempt in state.attempts}
    retried_at = Counter(
        {move["run_id"]: move["attempt"] for move in state.moves if (move["reason"] or "").startswith("retried by ")}
    )
    made: Counter[tuple[UUID, int]] = Counter()
    for stripe_run in state.stripe_runs:
        attempt = by_id.get(stripe_run.id) or by_key.get(stripe_run.idempotency_key)
        if attempt is None and stripe_run.id in lost:
            again = [run.id for run in _made_after(stripe_run, state.stripe_runs) if run.id not in lost]
            yield from (f"{stripe_run.id} was lost with a backup, and {other} made for the same" for other in again)
            continue
        if attempt is None:
            yield f"{stripe_run.id} was made at Stripe, and no attempt knows it"
            continue
        made[attempt["run_id"], attempt["number"]] += 1
        run = runs[attempt["run_id"]]
        # A retry takes the parameters that the rule has by then: earlier attempts had others, for the same window.
        wanted = run["parameters"] if attempt["number"] >= retried_at[run["id"]] else _of_window(run["parameters"])
        found = stripe_run.parameters if wanted is run["parameters"] else _of_window(stripe_run.parameters)
        if (stripe_run.report_type, found) != (run["report_type"], wanted):
            yield f"{stripe_run.id} reports something else than {_named(run)} is about"
    yield from (f"attempt {key} made {count} Stripe runs" for key, count in made.items() if count > 1)
    if len(by_id) < sum(attempt["stripe_run_id"] is not None for attempt in state.attempts):
        yield "two attempts share a Stripe run"


def _of_window(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name in OWN_FIELDS}


def _made_after(lost: StripeRun, runs: Sequence[StripeRun]) -> Iterator[StripeRun]:
    """The Stripe runs for the same report that were made later."""
    later = runs[runs.index(lost) + 1 :]
    return (run for run in later if (run.report_type, run.parameters) == (lost.report_type, lost.parameters))


def _spent_attempts(state: _State) -> Iterator[str]:
    """An attempt is spent only if Stripe's run failed; a run fails only when all are spent."""
    at_stripe = {stripe_run.id: stripe_run for stripe_run in state.stripe_runs}
    for attempt in state.attempts:
        stripe_run = at_stripe.get(attempt["stripe_run_id"])
        true = {"stripe_failed": "failed", "timed_out": "pending", "file_gone": "succeeded", "stored": "succeeded"}
        if attempt["outcome"] is None or stripe_run is None:
            continue
        if stripe_run.status != true.get(attempt["outcome"], stripe_run.status):
            yield f"an attempt ended as {attempt['outcome']}, and its Stripe run {stripe_run.status}"
    for run in state.runs:
        if run["state"] == "failed" and run["attempt"] < run["attempts_granted"]:
            yield f"{_named(run)} failed at attempt {run['attempt']}: {run['error']}"


def _histories(state: _State) -> Iterator[str]:
    """The history of a run begins with `planned`, has no gap and no move that is not allowed, and ends where it is."""
    for run in state.runs:
        moves = [move for move in state.moves if move["run_id"] == run["id"]]
        words = " → ".join(move["to_state"] for move in moves)
        gaps = any(before["to_state"] != after["from_state"] for before, after in pairwise(moves))
        if gaps or not moves or moves[0]["from_state"] is not None or moves[-1]["to_state"] != run["state"]:
            yield f"the history of {_named(run)} has a gap: {words}"
        for move in moves[1:]:
            if RunState(move["to_state"]) not in ALLOWED_MOVES[RunState(move["from_state"])]:
                yield f"{_named(run)} made a move that is not allowed: {words}"


def _left_over(state: _State) -> Iterator[str]:
    """Nothing is leased, half done or waiting any more."""
    for run in state.runs:
        if run["state"] in ENDED and (run["lease_until"] or run["leased_by"] or run["asked_at"]):
            yield f"{_named(run)} has ended, and is still leased"
    over = {run["id"]: run["attempt"] for run in state.runs if run["state"] in ("stored", "failed")}
    for attempt in state.attempts:
        if attempt["run_id"] in over and attempt["outcome"] is None:
            yield f"attempt {attempt['number']} of run {attempt['run_id']} has no outcome"
    for event in state.events:
        if event["status"] not in ("handled", "ignored"):
            yield f"event {event['stripe_event_id']} ({event['type']}) is {event['status']}: {event['reason']}"


async def _file_problems(res: Resources, state: _State) -> AsyncIterator[str]:
    """A run that is stored has one file, whole, with the bytes that Stripe made for it; no other run has any."""
    stored = {file["run_id"]: file for file in state.files}
    current = {(attempt["run_id"], attempt["number"]): attempt for attempt in state.attempts}
    for run in state.runs:
        file = stored.pop(run["id"], None)
        if (file is not None) != (run["state"] == "stored"):
            yield f"{_named(run)} has {'a' if file else 'no'} file"
        elif file is not None:
            truth = _file_made_for(state, current[run["id"], run["attempt"]])
            chunks = _wrong_chunks(file, state) if file["location"] is None else ()
            for problem in [*_wrong_facts(file, truth), *chunks]:
                yield f"the file of {_named(run)} {problem}"
            pieces = [piece async for piece in res.files.read(file["id"], file["location"], start=0, stop=file["size"])]
            if b"".join(pieces) != truth:
                yield f"the file of {_named(run)} does not read as Stripe made it"
    if stored:
        yield f"{len(stored)} files belong to no run"
    if orphans := {chunk["file_id"] for chunk in state.chunks} - {file["id"] for file in state.files}:
        yield f"bytes of {len(orphans)} files are left over"


def _file_made_for(state: _State, attempt: RowMapping) -> bytes:
    (made,) = [run for run in state.stripe_runs if run.id == attempt["stripe_run_id"]]
    return b"" if made.file is None else state.contents[made.file.id]


def _wrong_facts(file: RowMapping, truth: bytes) -> Iterator[str]:
    if file["stored_at"] is None:
        yield "is partial"
    facts = {"size": len(truth), "sha256": sha256(truth).hexdigest(), "line_count": truth.count(b"\n")}
    for name, value in facts.items():
        if file[name] != value:
            yield f"says {name} {file[name]}, and Stripe made {value}"


def _wrong_chunks(file: RowMapping, state: _State) -> Iterator[str]:
    place = 0
    for chunk in (chunk for chunk in state.chunks if chunk["file_id"] == file["id"]):
        if chunk["raw_start"] != place:
            yield f"has a gap or an overlap at byte {place}"
        place = chunk["raw_start"] + chunk["raw_size"]
    if place != file["size"]:
        yield f"has {place} bytes of {file['size']}"


def _named(run: Any) -> str:
    return f"run {run['window_key']} of rule {run['rule_id']} ({run['state']}, attempt {run['attempt']})"
