"""How fast Stripe is called: one rate over all processes, per account and kind of call."""

import asyncio
import time

from app.resources import Resources
from app.simulator import Simulator
from app.vocabulary import CallKind
from tests.runs.stories import another_process
from tests.service import execute


async def test_two_processes_together_never_call_faster_than_the_rate_and_its_burst(
    res: Resources, simulator: Simulator
) -> None:
    granted: list[float] = []

    async def take(process: Resources) -> None:
        while time.monotonic() < end:
            async with process.sessions.begin() as session:
                calls = await process.limiter.take(session, "default", CallKind.CREATE, wanted=3)
            granted.extend([time.monotonic()] * calls)

    async with (
        another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=20) as one,
        another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=20) as other,
    ):
        end = time.monotonic() + 2.5
        await asyncio.gather(take(one), take(other))

    # The moment is noted a little after it was granted: in any second there are 20, the burst of 5, and one for that.
    most = max(sum(1 for moment in granted if start <= moment < start + 1) for start in granted)
    assert 15 < most <= 26
    assert len(granted) > 40, "and the rate is used"


async def test_files_have_a_slower_rate_and_kinds_do_not_share_theirs(res: Resources, simulator: Simulator) -> None:
    async with another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=20) as process:
        granted = {}
        for kind in CallKind:
            async with process.sessions.begin() as session:
                granted[kind] = await process.limiter.take(session, "default", kind, wanted=100)

    assert granted == {CallKind.CREATE: 5, CallKind.READ: 5, CallKind.FILES: 3}


async def test_a_call_that_was_not_committed_does_not_count(res: Resources, simulator: Simulator) -> None:
    async with another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=4) as process:
        async with process.sessions() as session:
            assert await process.limiter.take(session, "default", CallKind.READ, wanted=1) == 1
            await session.rollback()
        async with process.sessions.begin() as session:
            assert await process.limiter.take(session, "default", CallKind.READ, wanted=5) == 1
            assert await process.limiter.take(session, "default", CallKind.READ, wanted=5) == 0


async def test_an_account_at_rest_does_not_hide_that_another_one_may_go_on_soon(
    res: Resources, simulator: Simulator
) -> None:
    async with another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=2) as process:
        async with process.sessions.begin() as session:
            await process.limiter.take(session, "resting", CallKind.CREATE, wanted=1)
        await execute(process, "update rate_limits set arrival = now() - interval '1 hour'")
        async with process.sessions.begin() as session:
            await process.limiter.take(session, "busy", CallKind.CREATE, wanted=1)
            seconds = await process.limiter.seconds_until_next(session, CallKind.CREATE)

    assert seconds is not None
    assert 0 < seconds <= 0.5
