"""Wake-ups: received by every process, harmless to miss, sent with the transaction that makes them true."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from app.queue.wakeups import CHANNEL, Wakeups, wake
from app.resources import Resources
from app.vocabulary import Lane
from tests.detour import detour
from tests.until import until


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Wakeups]:
    """Wake-ups that are already listening."""
    ears = Wakeups()
    task = asyncio.create_task(ears.listen(url))
    try:
        await until(lambda: ears.listening)
        for lane in Lane:  # the ring at the beginning, for what became due while nobody listened
            assert await rung(ears, lane)
        yield ears
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def rung(ears: Wakeups, lane: Lane) -> bool:
    """Whether the lane has been woken, without waiting for it."""
    return await ears.wait(lane, seconds=0)


async def woken(ears: Wakeups, lane: Lane) -> None:
    """Wait until the lane is woken."""
    await until(lambda: rung(ears, lane), f"{lane} is woken")


async def test_a_wake_up_reaches_the_lanes_that_it_names_in_every_process(res: Resources, database_url: str) -> None:
    async with listening(database_url) as one, listening(database_url) as other:
        async with res.sessions.begin() as session:
            await wake(session, Lane.REQUESTS, Lane.DOWNLOADS)

        for ears in (one, other):
            await woken(ears, Lane.REQUESTS)
            assert await rung(ears, Lane.DOWNLOADS), "one notification names them all"
            assert not await rung(ears, Lane.LOOKUPS)


async def test_a_transaction_that_is_rolled_back_wakes_no_lane(res: Resources, database_url: str) -> None:
    async with listening(database_url) as ears:
        async with res.sessions() as session:
            await wake(session, Lane.REQUESTS)
            await session.rollback()
        async with res.sessions.begin() as session:
            await wake(session, Lane.LOOKUPS)

        # Notifications arrive in the order of their commits.
        await woken(ears, Lane.LOOKUPS)
        assert not await rung(ears, Lane.REQUESTS)


async def test_a_lane_that_this_version_does_not_know_is_ignored(database_url: str) -> None:
    async with listening(database_url) as ears:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute("select pg_notify(%s, 'of_the_future lookups')", [CHANNEL])

        await woken(ears, Lane.LOOKUPS)


async def test_a_process_does_not_hear_what_it_has_rung_for_itself(res: Resources, database_url: str) -> None:
    async with listening(database_url) as own, listening(database_url) as other:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute("select pg_notify(%s, %s)", [CHANNEL, f"inbox {own.own_word}"])
            await connection.execute("select pg_notify(%s, 'lookups')", [CHANNEL])

        for ears, hears in ((own, False), (other, True)):
            await woken(ears, Lane.LOOKUPS)
            assert await rung(ears, Lane.INBOX) is hears


@pytest.mark.parametrize(("word", "lane"), [("loads", Lane.LOADS), ("rules", Lane.RULES), ("slots", Lane.REQUESTS)])
async def test_lanes_with_less_urgent_work_are_woken_a_little_later(
    database_url: str, monkeypatch: pytest.MonkeyPatch, word: str, lane: Lane
) -> None:
    monkeypatch.setattr("app.queue.wakeups.PATIENCE_SECONDS", 1e6)
    async with listening(database_url) as ears:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute("select pg_notify(%s, %s)", [CHANNEL, f"{word} downloads"])
        await woken(ears, Lane.DOWNLOADS)
        assert not await rung(ears, lane)

        ears._ringing_soon.pop(lane).cancel()
        monkeypatch.setattr("app.queue.wakeups.PATIENCE_SECONDS", 0.0)
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute("select pg_notify(%s, %s)", [CHANNEL, word])
        await woken(ears, lane)


async def test_a_lost_connection_is_made_again_and_rings_for_what_was_missed(res: Resources, database_url: str) -> None:
    async with listening(database_url) as ears:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'tallyhook-listen' and datname = current_database()"
            )

        await woken(ears, Lane.INBOX)


async def test_a_connection_that_a_network_swallows_as_it_begins_to_listen_is_given_up_for_a_new_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.queue.wakeups.CONNECT_TIMEOUT_SECONDS", 0.3)
    async with detour(database_url) as way:
        way.swallow_at(b"listen tallyhook")
        ears = Wakeups()
        task = asyncio.create_task(ears.listen(way.url))
        await until(lambda: way.swallowed)
        way.swallow_at(None)
        await until(lambda: ears.listening)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_ring_between_looking_and_sleeping_is_not_lost() -> None:
    ears = Wakeups()
    ears.ring([Lane.INBOX])

    assert await rung(ears, Lane.INBOX)
    assert not await rung(ears, Lane.INBOX), "and it counts once"


@pytest.mark.parametrize("seconds", [-3.0, 0.0, 0.01])
async def test_without_any_ring_a_lane_wakes_by_itself(seconds: float) -> None:
    assert not await Wakeups().wait(Lane.INBOX, seconds=seconds)


async def test_a_lane_to_be_woken_soon_is_woken_once_however_often_that_was_requested() -> None:
    ears = Wakeups()
    for _ in range(3):
        ears.ring_soon(Lane.REQUESTS, seconds=0.0)

    assert await ears.wait(Lane.REQUESTS, seconds=60)
    assert not await ears.wait(Lane.REQUESTS, seconds=0.01)
    ears.ring_soon(Lane.REQUESTS, seconds=0.0)
    assert await ears.wait(Lane.REQUESTS, seconds=60)
