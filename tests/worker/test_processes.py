"""Real processes that are killed, told to end, or lose their database."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from app.db.embedded.server import STOP_SECONDS
from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.worker.lanes import GRACE_SECONDS
from tests.database import FOLDER_VARIABLE
from tests.runs.stories import (
    CONTENTS,
    CREATE,
    LIST_TYPES,
    keys_used,
    one_due_run,
    states,
    stored_bytes,
)
from tests.service import (
    add_rule,
    fetch,
    make_settings,
    only_run,
    unpublished,
    working,
)
from tests.until import PATIENCE_SECONDS, until
from tests.worker.workers import QUICK, called, until_stored, worker_process


@pytest.fixture
async def quick(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    """A process that takes over after a second."""
    async with open_resources(make_settings(database_url, simulator, **QUICK)) as res:
        yield res


@pytest.mark.slow
@pytest.mark.parametrize("during", ["create", "download"])
async def test_the_work_of_a_process_that_was_killed_is_taken_over(
    quick: Resources, simulator: Simulator, during: str
) -> None:
    await one_due_run(quick, simulator)
    match = CREATE if during == "create" else CONTENTS
    simulator.inject("slow", seconds=3, when="after", match=match)
    async with worker_process(quick, simulator) as process:
        await until(called(simulator, during))
        process.kill()
        await process.wait()

    async with working(quick):
        await until_stored(quick, 1)

    assert len(simulator.runs) == 1
    assert len(set(keys_used(simulator))) == 1
    assert await stored_bytes(quick) == simulator.content(simulator.files[0])


@pytest.mark.slow
async def test_sigterm_ends_a_worker_cleanly_after_the_call_in_flight(quick: Resources, simulator: Simulator) -> None:
    await one_due_run(quick, simulator)
    simulator.inject("slow", seconds=2, match=CREATE)
    async with worker_process(quick, simulator) as process:
        await until(called(simulator, "create"))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0

    assert (await only_run(quick))["state"] != "planned", "the answer was recorded"
    assert await fetch(quick, "select 1 from workers") == []
    assert await fetch(quick, "select 1 from runs where lease_until is not null") == []


@pytest.mark.slow
@pytest.mark.parametrize("match", [LIST_TYPES, CREATE, CONTENTS], ids=["timetable", "create", "download"])
async def test_sigterm_ends_a_worker_after_its_grace_though_stripe_does_not_answer(
    quick: Resources, simulator: Simulator, match: dict[str, str]
) -> None:
    await one_due_run(quick, simulator)
    simulator.inject("slow", seconds=3600, match=match)
    async with worker_process(quick, simulator) as process:
        await until(called(simulator, "any"))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0

    # What a busy machine needs beside them is not ours to promise; the whole exit may take 15 s.
    assert GRACE_SECONDS + STOP_SECONDS < 15
    assert await fetch(quick, "select 1 from runs where lease_until is not null") == []


@pytest.mark.slow
async def test_the_database_killed_under_load_is_started_again_and_nothing_is_lost(simulator: Simulator) -> None:
    folder = Path(os.environ[FOLDER_VARIABLE]) / f"private-{uuid.uuid4().hex}"
    folder.mkdir(mode=0o711)
    settings = make_settings("", simulator, TALLYHOOK_DATA_DIR=folder, **QUICK)
    unpublished(simulator, until="2026-03-21")
    async with open_resources(settings) as res:
        await reconcile(res)
        await add_rule(res)
        async with working(res):
            await until(_something_is_stored(res))
            os.kill(int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
            await until_stored(res, 20)

        assert len(simulator.runs) == 20
        assert {run["attempt"] for run in await fetch(res, "select attempt from runs")} == {1}
        sizes = await fetch(res, "select size from files where stored_at is not null")
        assert sorted(row["size"] for row in sizes) == sorted(file.size for file in simulator.files)


def _something_is_stored(res: Resources) -> Callable[[], Awaitable[bool]]:
    async def met() -> bool:
        return (await states(res))["stored"] > 0

    return met
