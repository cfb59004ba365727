"""Wake-ups: heard by every process, missed without harm, born with the transaction that makes them true."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from app.queue.wakeups import CHANNEL, POLL_SECONDS, Wakeups, wake
from app.resources import Resources
from app.vocabulary import Lane


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Wakeups]:
    """Ears that hear already."""
    ears = Wakeups()
    task = asyncio.create_task(ears.listen(url))
    try:
        while not ears.listening:  # noqa: ASYNC110 - nobody else needs to be told
            await asyncio.sleep(0.01)
        for lane in Lane:  # the ring at the beginning, for what became due while nobody listened
            await ears.wait(lane, seconds=1)
        yield ears
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def rung(ears: Wakeups, lane: Lane, *, seconds: float) -> bool:
    """Whether the lane is woken within that time."""
    waiting = asyncio.create_task(ears.wait(lane, seconds=POLL_SECONDS))
    done, _ = await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()
    return bool(done)


async def test_a_wake_up_is_heard_in_every_process_by_the_lanes_that_it_names(
    res: Resources, database_url: str
) -> None:
    async with listening(database_url) as one, listening(database_url) as other:
        async with res.sessions.begin() as session:
            await wake(session, Lane.REQUESTS, Lane.DOWNLOADS)

        for ears in (one, other):
            assert await rung(ears, Lane.REQUESTS, seconds=5)
            assert await rung(ears, Lane.DOWNLOADS, seconds=5)
            assert not await rung(ears, Lane.LOOKUPS, seconds=0.1)


async def test_a_transaction_that_is_rolled_back_wakes_nobody(res: Resources, database_url: str) -> None:
    async with listening(database_url) as ears:
        async with res.sessions() as session:
            await wake(session, Lane.REQUESTS)
            await session.rollback()

        assert not await rung(ears, Lane.REQUESTS, seconds=0.2)


async def test_a_lane_that_this_version_does_not_know_is_passed_over(database_url: str) -> None:
    async with listening(database_url) as ears:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute("select pg_notify(%s, 'of_the_future lookups')", [CHANNEL])

        assert await rung(ears, Lane.LOOKUPS, seconds=5)


async def test_a_lost_connection_is_made_again_and_rings_for_what_was_missed(res: Resources, database_url: str) -> None:
    async with listening(database_url) as ears:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'tallyhook-listen' and datname = current_database()"
            )

        assert await rung(ears, Lane.INBOX, seconds=10)


async def test_a_ring_between_looking_and_sleeping_is_not_lost() -> None:
    ears = Wakeups()
    ears.ring([Lane.INBOX])

    assert await rung(ears, Lane.INBOX, seconds=1)
    assert not await rung(ears, Lane.INBOX, seconds=0.05), "and it counts once"


@pytest.mark.parametrize("seconds", [-3.0, 0.0, 0.01])
async def test_without_any_ring_a_lane_wakes_by_itself(seconds: float) -> None:
    async with asyncio.timeout(5):
        await Wakeups().wait(Lane.INBOX, seconds=seconds)
