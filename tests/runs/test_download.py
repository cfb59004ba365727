"""Downloading files: completely or not at all, in bounded memory."""

import gzip
import hashlib

import pytest

from app.resources import Resources
from app.runs import transfer
from app.simulator import Simulator
from tests.runs.ready import content, one_ready_run
from tests.runs.stories import (
    CONTENTS,
    attempts,
    everything_is_due,
    one_due_run,
    stored_bytes,
)
from tests.runs.strangers import stranger
from tests.service import (
    download_due,
    execute,
    fetch,
    history,
    only_run,
    work_off,
)

CUT_SOMEHOW = ["file_cut", "file_cut_silently", "file_short", "file_long", "file_empty", "file_redirect"]


@pytest.mark.parametrize("fault", CUT_SOMEHOW)
async def test_an_incomplete_file_is_never_stored_and_is_downloaded_again_without_a_new_attempt(
    res: Resources, simulator: Simulator, fault: str
) -> None:
    await one_ready_run(res, simulator)
    simulator.inject(fault)  # type: ignore[arg-type]

    await download_due(res)
    assert (await only_run(res))["state"] == "ready"
    assert await fetch(res, "select 1 from files where stored_at is not null") == []
    await everything_is_due(res)
    await download_due(res)

    assert (await only_run(res))["attempt"] == 1
    assert await stored_bytes(res) == content(simulator)


@pytest.mark.parametrize("fault", ["file_gzip", "file_chunked"])
async def test_a_file_that_comes_compressed_or_without_a_length_is_stored_as_it_was_written(
    res: Resources, simulator: Simulator, fault: str
) -> None:
    await one_ready_run(res, simulator)
    simulator.inject(fault)  # type: ignore[arg-type]

    await download_due(res)

    assert await stored_bytes(res) == content(simulator)
    (file,) = await fetch(res, "select size, sha256, line_count from files")
    assert file["size"] == simulator.files[0].size
    assert file["sha256"] == hashlib.sha256(content(simulator)).hexdigest()
    assert file["line_count"] == content(simulator).count(b"\n")


async def test_compression_is_not_taken_for_a_wrong_size_where_only_the_answer_tells_one(
    res: Resources, simulator: Simulator
) -> None:
    squeezed = gzip.compress(b"a,b\n" * 100)
    await one_ready_run(res, simulator)
    async with stranger() as host:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(squeezed)}\r\n\r\n"
        host.answer = head.encode() + squeezed
        res.stripe._files_base = host.url
        await execute(res, "update attempts set file_size = null, file_url = null")
        await download_due(res)

    assert await stored_bytes(res) == b"a,b\n" * 100


async def test_a_file_of_a_header_only_is_a_file(res: Resources, simulator: Simulator) -> None:
    simulator.configure(rows_per_day=0)

    await one_ready_run(res, simulator)
    await download_due(res)

    assert await stored_bytes(res) == content(simulator)
    assert content(simulator).count(b"\n") == 1


async def test_a_file_without_a_single_byte_is_a_file_where_stripe_says_so(
    res: Resources, simulator: Simulator
) -> None:
    await one_ready_run(res, simulator)
    await execute(res, "update attempts set file_size = 0")
    simulator.inject("file_empty")

    await download_due(res)

    assert await stored_bytes(res) == b""
    (file,) = await fetch(res, "select size, sha256, line_count from files")
    assert (file["size"], file["line_count"]) == (0, 0)
    assert file["sha256"] == hashlib.sha256().hexdigest()


async def test_bytes_that_are_not_text_are_stored_as_they_are(res: Resources, simulator: Simulator) -> None:
    odd = bytes(range(256)) * 3
    await one_ready_run(res, simulator)
    async with stranger() as host:
        host.answer = b"HTTP/1.1 200 OK\r\n\r\n" + odd
        res.stripe._files_base = host.url
        await execute(res, "update attempts set file_size = :size, file_url = null", size=len(odd))
        await download_due(res)

    assert await stored_bytes(res) == odd


async def test_a_wrong_size_ten_times_makes_the_next_attempt(res: Resources, simulator: Simulator) -> None:
    await one_ready_run(res, simulator)
    simulator.inject("file_short", times=10)
    for _ in range(9):
        await download_due(res)
        await everything_is_due(res)
    assert (await only_run(res))["state"] == "ready"

    await download_due(res)
    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("planned", 2)
    await work_off(res)

    first, second = await attempts(res)
    assert (first["outcome"], second["outcome"]) == ("file_mismatch", "stored")
    assert await stored_bytes(res) == content(simulator)


async def test_a_wrong_size_in_every_attempt_is_failed_as_file_mismatch(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("file_long", times=None)

    await work_off(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"], run["error"]["kind"]) == ("failed", 3, "file_mismatch")
    assert len(simulator.runs) == 3
    assert await fetch(res, "select 1 from files") == []


async def test_cuts_and_server_errors_spend_no_attempt_however_many(res: Resources, simulator: Simulator) -> None:
    await one_ready_run(res, simulator)
    simulator.inject("file_cut", times=15)
    simulator.inject("status", status=503, times=15, match=CONTENTS)

    for _ in range(31):
        await everything_is_due(res)
        await download_due(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("stored", 1)


@pytest.mark.parametrize("how", ["gone", "expired", "410"])
async def test_a_file_that_is_gone_makes_the_next_attempt(res: Resources, simulator: Simulator, how: str) -> None:
    await one_ready_run(res, simulator)
    if how == "expired":
        simulator.expire_file(simulator.files[0].id)
    elif how == "gone":
        simulator.inject("file_gone")
    else:
        simulator.inject("status", status=410, match=CONTENTS)

    await download_due(res)
    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("planned", 2)
    await work_off(res)

    first, second = await attempts(res)
    assert (first["outcome"], second["outcome"]) == ("file_gone", "stored")
    assert await history(res) == ["planned", "requested", "ready", "planned", "requested", "ready", "stored"]


async def test_a_file_that_is_gone_every_time_is_failed_as_file_gone(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("file_gone", times=None)

    await work_off(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"], run["error"]["kind"]) == ("failed", 3, "file_gone")


async def test_a_file_that_only_trickles_gives_its_slot_back_and_keeps_what_came(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LEAST_RATE_SECONDS", 0.05)
    await one_ready_run(res, simulator)
    simulator.inject("file_slow", bytes=1000, seconds=0.02)

    await download_due(res)

    run = await only_run(res)
    assert run["state"] == "ready"
    assert "too slow" in run["last_trouble"]
    await work_off(res)
    assert (await only_run(res))["state"] == "stored"
