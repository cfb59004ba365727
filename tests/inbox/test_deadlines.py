"""One timer for all waiting futures: each fails at its own time, and answered ones are left alone."""

import asyncio

import pytest

from app.errors import Unavailable
from app.inbox.deadlines import Deadlines

SECONDS = 0.02


async def test_a_future_that_nobody_answers_fails_and_so_do_those_after_it() -> None:
    deadlines = Deadlines(SECONDS)
    loop = asyncio.get_running_loop()

    first, began = deadlines.future(), loop.time()
    await asyncio.wait([first])
    second = deadlines.future()
    with pytest.raises(Unavailable):
        await second

    assert isinstance(first.exception(), Unavailable)
    assert loop.time() - began >= 2 * SECONDS


async def test_an_answered_future_stays_so_and_holds_up_no_other() -> None:
    deadlines = Deadlines(SECONDS)
    answered, gone, waiting = deadlines.future(), deadlines.future(), deadlines.future()
    answered.set_result(None)
    gone.cancel()

    with pytest.raises(Unavailable):
        await waiting

    assert answered.result() is None
    assert gone.cancelled()


async def test_finished_ones_are_forgotten_while_others_arrive() -> None:
    deadlines = Deadlines(SECONDS)
    for _ in range(1000):
        deadlines.future().set_result(None)

    assert len(deadlines._waiting) == 1
