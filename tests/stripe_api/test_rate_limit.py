"""How fast Stripe is called: one rate over all processes, per account and kind of call."""

import asyncio
import time
from dataclasses import dataclass
from itertools import product

from app.resources import Resources
from app.simulator import Simulator
from app.stripe_api.rate_limit import Limiter
from app.vocabulary import CallKind
from tests.runs.stories import another_process
from tests.service import execute, fetch

RATE, BURST = 20, 5


@dataclass(frozen=True, slots=True)
class Grant:
    """Some calls that were granted, at some time between `asked` and `got`."""

    calls: int
    asked: float
    got: float


async def test_two_processes_together_never_call_faster_than_the_rate_and_its_burst(
    res: Resources, simulator: Simulator
) -> None:
    grants: list[Grant] = []

    async def take(process: Resources) -> None:
        while sum(grant.calls for grant in grants) < 2 * RATE:
            asked = time.monotonic()
            async with process.sessions.begin() as session:
                calls = await process.limiter.take(session, "default", CallKind.CREATE, wanted=3)
            # An empty grant proves nothing, and a quick machine asks thousands of times.
            if calls:
                grants.append(Grant(calls, asked, time.monotonic()))

    async with (
        another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=RATE) as one,
        another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=RATE) as other,
    ):
        await asyncio.gather(take(one), take(other))

    # However slow the machine: what was granted within a time lies between the first question and the last answer.
    for since, until in product(grants, grants):
        within = sum(grant.calls for grant in grants if since.asked <= grant.asked and grant.got <= until.got)
        assert within <= BURST + RATE * max(0.0, until.got - since.asked)


async def test_files_have_a_slower_rate_and_kinds_do_not_share_theirs(res: Resources, simulator: Simulator) -> None:
    async with another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=20) as process:
        granted = {}
        for kind in CallKind:
            async with process.sessions.begin() as session:
                granted[kind] = await process.limiter.take(session, "default", kind, wanted=100)

    assert granted == {CallKind.CREATE: 5, CallKind.READ: 5, CallKind.FILES: 3}


async def test_a_call_that_was_not_committed_does_not_count(res: Resources, simulator: Simulator) -> None:
    async with another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=0.1) as process:
        async with process.sessions() as session:
            assert await process.limiter.take(session, "default", CallKind.READ, wanted=1) == 1
            await session.rollback()
        async with process.sessions.begin() as session:
            assert await process.limiter.take(session, "default", CallKind.READ, wanted=5) == 1
            assert await process.limiter.take(session, "default", CallKind.READ, wanted=5) == 0


async def test_a_limit_that_was_written_when_the_clock_was_ahead_is_soon_forgotten(res: Resources) -> None:
    await execute(res, "insert into rate_limits values ('default', 'create', now() + interval '30 days')")
    limiter = Limiter(10.0)

    async with res.sessions.begin() as session:
        await limiter.take(session, "default", CallKind.CREATE, wanted=1)

    (row,) = await fetch(res, "select extract(epoch from arrival - now())::float8 as ahead from rate_limits")
    assert row["ahead"] < 1
