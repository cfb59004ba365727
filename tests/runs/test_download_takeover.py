"""Which worker downloads a file, and what is left by one that did not finish."""

import resource
from datetime import timedelta

import pytest

from app.errors import Overtaken
from app.files.chunker import BLOCK_BYTES, CHUNK_BYTES, Chunker
from app.resources import Resources
from app.runs.download import claim_downloads, download
from app.simulator import Simulator
from tests.runs.ready import claim_download, content, one_ready_run
from tests.runs.stories import (
    attempts,
    days_due,
    everything_is_due,
    leases_run_out,
    one_due_run,
    states,
    stored_bytes,
)
from tests.service import (
    REPORT_TYPE,
    download_due,
    execute,
    fetch,
    history,
    look_up_due,
    only_run,
    request_due,
)


async def test_a_partial_file_is_invisible_and_leaves_nothing_behind_when_the_attempt_is_given_up(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.add_report_type(REPORT_TYPE, bytes=40_000_000)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    simulator.inject("file_cut", bytes=36_000_000)
    simulator.inject("file_cut", bytes=0)
    await download_due(res)
    (partial,) = await fetch(res, "select stored_at, size, sha256 from files")
    assert dict(partial) == {"stored_at": None, "size": None, "sha256": None}
    assert await fetch(res, "select 1 from file_chunks limit 1") != []
    simulator.inject("file_gone")
    await everything_is_due(res)

    await download_due(res)

    assert await fetch(res, "select 1 from files") == []
    assert await fetch(res, "select 1 from file_chunks limit 1") == []


async def test_a_slow_worker_that_comes_back_cannot_write_over_its_successor(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.add_report_type(REPORT_TYPE, bytes=20_000_000)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    slow = await claim_download(res)
    await leases_run_out(res)
    successor = await claim_download(res)

    with pytest.raises(Overtaken):
        await download(res, slow)
    assert await fetch(res, "select 1 from files") == []
    await download(res, successor)
    with pytest.raises(Overtaken):
        await download(res, slow)

    assert await history(res) == ["planned", "requested", "ready", "stored"]
    assert await stored_bytes(res) == content(simulator)
    assert len(await fetch(res, "select 1 from files")) == 1


async def test_a_slow_worker_with_a_small_file_is_overtaken_before_it_writes_anything(
    res: Resources, simulator: Simulator
) -> None:
    await one_ready_run(res, simulator)
    slow = await claim_download(res)
    await leases_run_out(res)
    await download(res, await claim_download(res))

    with pytest.raises(Overtaken):
        await download(res, slow)

    assert len(await fetch(res, "select 1 from files")) == 1
    assert (await only_run(res))["crashes"] == 0


async def test_a_slow_worker_whose_file_is_gone_or_wrong_does_not_end_its_successors_attempt(
    res: Resources, simulator: Simulator
) -> None:
    await one_ready_run(res, simulator)
    slow = await claim_download(res)
    await leases_run_out(res)
    await claim_download(res)

    for fault in ("file_gone", "file_short"):
        simulator.inject(fault)
        with pytest.raises(Overtaken):
            await download(res, slow)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("ready", 1)
    assert (await attempts(res))[0]["mismatches"] == 0


async def test_a_lease_is_respected_until_it_runs_out(res: Resources, simulator: Simulator) -> None:
    await one_ready_run(res, simulator)
    claim = await claim_download(res)

    assert await claim_downloads(res, 10, big=False) == []
    (run,) = await fetch(res, "select lease_until - now() as left, leased_by from runs")
    assert timedelta(seconds=50) < run["left"] <= timedelta(seconds=60)
    assert run["leased_by"] == res.worker_id
    assert claim.tries == 0


async def test_big_files_go_by_a_lane_of_their_own(res: Resources, simulator: Simulator) -> None:
    await one_ready_run(res, simulator)
    await execute(res, "update attempts set file_size = :size", size=64 * 1024 * 1024)

    assert await claim_downloads(res, 10, big=False) == []
    assert len(await claim_downloads(res, 10, big=True)) == 1


async def test_a_zone_that_the_time_zone_data_has_dropped_blocks_nobody_elses_file(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 2)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    await execute(res, "update runs set timezone = 'Mars/Base' where interval_start = '2026-03-01+00'")

    claims = await claim_downloads(res, 10, big=False)
    outcomes = []
    for claim in claims:
        try:
            await download(res, claim)
        except Exception as error:
            outcomes.append(type(error).__name__)

    assert len(claims) == 2
    assert (await states(res))["stored"] >= 1


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_size_of_a_file(res: Resources, simulator: Simulator) -> None:
    size = 300_000_000
    await one_due_run(res, simulator)
    simulator.add_report_type(REPORT_TYPE, bytes=size)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    await download_due(res)

    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    (file,) = await fetch(res, "select size from files where stored_at is not null")
    assert file["size"] == size
    assert grown < 150_000_000


async def test_a_line_without_end_fills_no_buffer(res: Resources) -> None:
    chunker = Chunker()
    most = 0
    for _ in range(200):
        for chunk in await chunker.write(b"x" * 100_000):
            most = max(most, chunk.raw_size)
        assert sum(map(len, chunker._filling)) < BLOCK_BYTES
    await chunker.flush()

    assert most == CHUNK_BYTES
    assert chunker.facts().line_count == 1
    assert chunker.facts().size == 20_000_000
