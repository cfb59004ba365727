"""Which processes live and what they can read: asked before a rule uses a word that an older one does not know."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from app.health import rows
from app.queue import processes
from app.resources import Resources
from app.vocabulary import WORDS
from app.worker.lanes import be_seen
from tests.service import execute, until_found, working


async def a_process(res: Resources, host: str, *, words: int, seconds_ago: float, works_queue: bool = True) -> None:
    await execute(
        res,
        "insert into workers (id, host, pid, words, works_queue, seen_at)"
        " values (:id, :host, 1, :words, :works_queue, clock_timestamp() - make_interval(secs => :ago))",
        id=uuid4(), host=host, words=words, works_queue=works_queue, ago=seconds_ago,
    )  # fmt: skip


async def test_processes_that_are_too_old_for_a_word_are_named_whatever_they_do_and_dead_ones_are_not(
    res: Resources,
) -> None:
    await a_process(res, "old-worker", words=WORDS, seconds_ago=10)
    await a_process(res, "old-server", words=WORDS, seconds_ago=10, works_queue=False)
    await a_process(res, "new-worker", words=WORDS + 1, seconds_ago=10)
    await a_process(res, "dead-worker", words=WORDS, seconds_ago=processes.ALIVE_SECONDS + 1)

    async with res.sessions.begin() as session:
        older = await processes.older_than(session, WORDS + 1, stalled_after_seconds=12)
        none = await processes.older_than(session, WORDS, stalled_after_seconds=12)
        slow = await processes.older_than(session, WORDS + 1, stalled_after_seconds=600)

    assert [process.host for process in older] == ["old-server", "old-worker"]
    assert none == []
    # Versions before this one report four times within that setting.
    assert [process.host for process in slow] == ["dead-worker", "old-server", "old-worker"]


@pytest.mark.parametrize("works_queue", [True, False])
async def test_a_process_reports_within_the_minute_however_long_its_leases_are(
    res: Resources, monkeypatch: pytest.MonkeyPatch, *, works_queue: bool
) -> None:
    monkeypatch.setattr(processes, "ALIVE_SECONDS", 0.4)
    settings = res.settings.model_copy(update={"stalled_after_seconds": 3600.0})
    res = replace(res, settings=settings)

    if works_queue:
        async with working(res):
            await until_found(
                res, "select 1 from workers where works_queue and seen_at > started_at + interval '0.2 s'"
            )
    else:
        seen = asyncio.create_task(be_seen(res))
        await until_found(res, "select 1 from workers where not works_queue and seen_at > started_at")
        res.stopping.set()
        await seen


async def test_a_process_of_the_version_before_says_no_version_and_counts_as_able_to_read_the_first_words(
    res: Resources,
) -> None:
    await execute(res, "insert into workers (id, host, pid) values (:id, 'of-330d95e', 7)", id=uuid4())

    async with res.sessions.begin() as session:
        (old,) = await processes.older_than(session, 2, stalled_after_seconds=60)

    assert str(old) == "process 7 on of-330d95e (version unknown)"


@pytest.mark.parametrize("works_queue", [True, False])
async def test_only_a_process_that_works_the_queue_counts_as_a_worker(res: Resources, works_queue: bool) -> None:
    async with res.sessions.begin() as session:
        await processes.say_alive(session, res.worker_id, works_queue=works_queue)
        seen = await rows.workers(session, stalled_after_seconds=60)

    assert len(seen) == works_queue
