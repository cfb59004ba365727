"""What a reviewer would have to remember: code that handles a closed set handles all of it."""

import itertools
from typing import Any

from app import handlers
from app.resources import Resources
from app.runs import moves
from app.simulator import Simulator
from app.vocabulary import (
    ALLOWED_MOVES,
    CONNECT_EVENTS,
    OWN_EVENTS,
    PAYOUT_EVENTS,
    RUN_STEPS,
    CallKind,
    ErrorKind,
    EventType,
    Lane,
    RunState,
    sources_of,
)
from app.worker.steps import lanes
from tests.runs.stories import one_due_run
from tests.service import execute, fetch


async def test_exactly_the_allowed_moves_can_be_made_and_each_is_kept_in_the_history(
    res: Resources, simulator: Simulator
) -> None:
    run = await one_due_run(res, simulator)
    error = moves.RunError(ErrorKind.INTERNAL, "a test").as_json()

    for source, to in itertools.product(RunState, RunState):
        await execute(res, "update runs set state = :state", state=source.value)
        await execute(res, "delete from run_moves")
        values: dict[RunState, dict[str, Any]] = {RunState.FAILED: {"error": error}, RunState.REQUESTED: {"poll": 1.0}}
        async with res.sessions.begin() as session:
            moved = await moves.move(session, run["id"], to=to, reason="a test", **values.get(to, {}))

        kept = await fetch(res, "select from_state, to_state from run_moves")
        assert moved is (to in ALLOWED_MOVES[source]), (source, to)
        assert [tuple(move.values()) for move in kept] == ([(source, to)] if moved else [])


async def test_a_move_names_the_attempt_that_it_is_about(res: Resources, simulator: Simulator) -> None:
    run = await one_due_run(res, simulator)

    async with res.sessions.begin() as session:
        assert not await moves.move(session, run["id"], to=RunState.REQUESTED, reason="late", attempt=2, poll=1.0)
        assert await moves.move(session, run["id"], to=RunState.REQUESTED, reason="right", attempt=1, poll=1.0)


def test_every_state_has_its_moves_and_every_move_a_statement() -> None:
    assert set(ALLOWED_MOVES) == set(RunState)
    assert set(moves._MOVES) == set(RunState)
    assert set(moves._WAKES) == set(RunState)


async def test_every_lane_is_worked_and_knows_when_it_has_something_to_do_next(res: Resources) -> None:
    assert {lane.lane for lane in lanes(res) if lane.next_due} == set(Lane)


def test_every_event_type_has_a_handler() -> None:
    assert set(handlers.HANDLERS) == {*OWN_EVENTS, *PAYOUT_EVENTS}
    assert set(handlers.HINT_HANDLERS) == set(EventType) == {*OWN_EVENTS, *CONNECT_EVENTS}


def test_every_state_that_a_run_leaves_by_itself_has_its_lanes_and_its_kind_of_call() -> None:
    lanes = [lane for step in RUN_STEPS for lane in step.lanes]

    assert {step.state for step in RUN_STEPS} == sources_of(RunState.FAILED)
    assert {step.call for step in RUN_STEPS} == set(CallKind)
    assert len(lanes) == len(set(lanes))
