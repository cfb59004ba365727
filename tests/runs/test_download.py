"""Fetching files: whole or not at all, from the files host and nobody else, in bounded memory."""

import gzip
import hashlib
import resource
from datetime import timedelta

import pytest

from app import files
from app.files import ChunkMaker
from app.resources import Resources
from app.runs.claims import Overtaken
from app.runs.download import DownloadClaim, claim_downloads, download
from app.simulator import Simulator
from tests.runs.stories import (
    CONTENTS,
    attempts,
    days_due,
    everything_is_due,
    leases_run_out,
    one_due_run,
    states,
    stored_bytes,
)
from tests.runs.strangers import stranger
from tests.service import (
    REPORT_TYPE,
    download_due,
    execute,
    fetch,
    history,
    look_up_due,
    only_run,
    request_due,
    work_off,
)

CUT_SOMEHOW = ["file_cut", "file_cut_silently", "file_short", "file_long", "file_empty", "file_redirect"]


async def one_ready_run(res: Resources, simulator: Simulator) -> None:
    """A run whose file is waiting at Stripe."""
    await one_due_run(res, simulator)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    assert (await only_run(res))["state"] == "ready"


async def claim_download(res: Resources, *, big: bool = False) -> DownloadClaim:
    (claim,) = await claim_downloads(res, 10, big=big)
    return claim


def content(simulator: Simulator) -> bytes:
    """The bytes of the newest file at Stripe."""
    return simulator.content(simulator.files[-1])


@pytest.mark.parametrize("fault", CUT_SOMEHOW)
async def test_what_did_not_come_whole_is_never_stored_and_is_fetched_again_without_a_new_attempt(
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


async def test_bytes_that_are_no_text_are_stored_as_they_are(res: Resources, simulator: Simulator) -> None:
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

    await work_off(res, turns=400)

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


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_may_not_read_files_holds_downloads_and_nothing_else(
    res: Resources, simulator: Simulator, status: int
) -> None:
    await days_due(res, simulator, 3)
    simulator.inject("status", status=status, times=None, match=CONTENTS)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    await download_due(res)
    assert [hold["call_kind"] for hold in await fetch(res, "select call_kind from account_holds")] == ["files"]
    asked = simulator.world.journal.counts["file_contents"]
    await everything_is_due(res)

    assert await download_due(res) == 1, "only the probe"
    simulator.clear_faults()
    await everything_is_due(res)
    await work_off(res)

    assert await states(res) == {"stored": 3}
    assert simulator.world.journal.counts["file_contents"] == asked + 1 + 3
    assert await fetch(res, "select 1 from account_holds") == []


async def test_a_redirect_is_not_followed_with_the_key(res: Resources, simulator: Simulator) -> None:
    await one_ready_run(res, simulator)
    async with stranger() as thief:
        simulator.inject("file_redirect", url=f"{thief.url}/v1/files/file_1/contents")

        await download_due(res)
        await everything_is_due(res)
        await download_due(res)

    assert thief.requests == []
    assert await stored_bytes(res) == content(simulator)


ELSEWHERE = [
    "{thief}/v1/files/file_1/contents",
    "{base}{digit}/v1/files/file_1/contents",
    "{base}@{thief_host}/v1/files/file_1/contents",
    "http://{base_host}:{thief_port}/v1/files/file_1/contents",
    "http://{base_host}\\@{thief_host}/v1/files/file_1/contents",
    "http://key@{base_host}/v1/files/file_1/contents",
    "//{thief_host}/v1/files/file_1/contents",
    "https://{base_host}/v1/files/file_1/contents",
    "ftp://{base_host}/v1/files/file_1/contents",
    "http://{base_host}/v1/\tfiles/\x7f",
    "http://[::1/v1/files",
    "http://{base_host}:99999999/",
    "file:///etc/passwd",
    "not a url at all",
    "",
]


async def test_a_url_that_points_elsewhere_is_not_used_and_the_key_goes_to_the_files_host_only(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, len(ELSEWHERE))
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    async with stranger() as thief:
        base_host, thief_host = simulator.base_url.removeprefix("http://"), thief.url.removeprefix("http://")
        for url, attempt in zip(ELSEWHERE, await attempts(res), strict=True):
            elsewhere = url.format(
                thief=thief.url, thief_host=thief_host, base=simulator.base_url, base_host=base_host, digit=5,
                thief_port=thief_host.rpartition(":")[2],
            )  # fmt: skip
            await execute(
                res, "update attempts set file_url = :url where run_id = :id", url=elsewhere, id=attempt["run_id"]
            )

        await download_due(res)

        assert thief.requests == []
    hashes = {row["sha256"] for row in await fetch(res, "select sha256 from files where stored_at is not null")}
    assert hashes == {hashlib.sha256(simulator.content(file)).hexdigest() for file in simulator.files}
    assert len(hashes) == len(ELSEWHERE)


async def test_the_key_is_sent_to_the_files_host_as_a_bearer_token_asking_for_no_compression(
    res: Resources, simulator: Simulator
) -> None:
    await one_ready_run(res, simulator)
    async with stranger() as host:
        res.stripe._files_base = host.url
        await download_due(res)

    (request,) = host.requests
    assert "accept-encoding: identity" in request.lower()
    assert f"authorization: bearer {next(iter(simulator.world.keys))}" in request.lower()


async def test_a_file_whose_url_is_missing_is_found_by_its_id(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("url_null")

    await work_off(res)

    assert await stored_bytes(res) == content(simulator)


async def test_a_partial_file_is_invisible_and_leaves_nothing_behind_when_the_attempt_is_given_up(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.add_report_type(REPORT_TYPE, bytes=40_000_000)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    simulator.inject("file_cut", bytes=36_000_000)
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
    maker = ChunkMaker()
    most = 0
    for _ in range(200):
        for chunk in await maker.take(b"x" * 100_000):
            most = max(most, chunk.raw_size)
        assert len(maker._buffer) < files.CHUNK_BYTES + 100_000
    await maker.rest()

    assert most == files.CHUNK_BYTES
    assert maker.facts().line_count == 1
    assert maker.facts().size == 20_000_000
