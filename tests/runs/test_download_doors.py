"""The key goes to the files host and to nobody else, and a key that is refused holds downloads alone."""

import hashlib

import pytest

from app.resources import Resources
from app.simulator import Simulator
from tests.runs.ready import content, one_ready_run
from tests.runs.stories import (
    CONTENTS,
    attempts,
    days_due,
    everything_is_due,
    one_due_run,
    states,
    stored_bytes,
)
from tests.runs.strangers import stranger
from tests.service import (
    download_due,
    execute,
    fetch,
    look_up_due,
    request_due,
    work_off,
)


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
