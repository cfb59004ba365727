"""A month as one ZIP: complete, proved by its manifest, always the same bytes, and never held in memory whole."""

import csv
import hashlib
import io
import json
import zipfile
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

from app.packs.contents import Pack, PackedFile
from app.packs.stream import pack_bytes
from app.planning.dates import local_dates
from app.resources import Resources
from app.simulator import Simulator
from app.tables.checks.results import Verdict
from tests import service
from tests.api.conftest import client_of
from tests.files import stored
from tests.service import execute, fetch

MARCH = "/v1/packs/2026-03.zip"
ZONE = "America/Los_Angeles"


@pytest.fixture
async def api(res: Resources) -> Any:
    async with client_of(res) as client:
        yield client


@pytest.fixture
async def march(res: Resources, simulator: Simulator) -> None:
    """All of March is stored: three days of a rule in Los Angeles, and the month of another."""
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-04-02"))
    await service.add_rule(res, name="daily", timezone=ZONE, starts_on=date(2026, 3, 29))
    await service.add_rule(res, name="monthly", cadence="monthly", starts_on=date(2026, 3, 1))
    await service.work_off(res)


def opened(answer: httpx.Response) -> zipfile.ZipFile:
    assert answer.status_code == 200, answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    return archive


def manifest(archive: zipfile.ZipFile) -> Any:
    return json.loads(archive.read("manifest.json"))


@pytest.mark.usefixtures("march")
async def test_a_month_is_one_zip_of_its_files_with_a_manifest_that_proves_them(
    res: Resources, api: httpx.AsyncClient
) -> None:
    archive = opened(await api.get(MARCH))

    told = manifest(archive)
    assert (told["month"], told["complete"], told["missing"], told["cancelled"]) == ("2026-03", True, [], [])
    assert sorted((one["rule"], one["first"], one["last"]) for one in told["files"]) == [
        ("daily", "2026-03-29", "2026-03-29"),
        ("daily", "2026-03-30", "2026-03-30"),
        ("daily", "2026-03-31", "2026-03-31"),
        ("monthly", "2026-03-01", "2026-03-31"),
    ]
    assert archive.namelist() == ["manifest.json", "manifest.csv", *sorted(one["filename"] for one in told["files"])]
    for one in told["files"]:
        content = archive.read(one["filename"])
        assert (len(content), hashlib.sha256(content).hexdigest()) == (one["size"], one["sha256"])
        assert one["stripe_run_id"].startswith("frr_")


@pytest.mark.usefixtures("march")
async def test_the_manifest_as_csv_says_the_same_in_the_columns_that_were_promised(api: httpx.AsyncClient) -> None:
    archive = opened(await api.get(MARCH))

    lines = list(csv.DictReader(io.StringIO(archive.read("manifest.csv").decode())))

    assert list(lines[0]) == [
        "rule", "report_type", "account", "connected_account", "first", "last", "timezone", "filename", "rows", "size",
        "sha256", "revision", "stripe_run_id", "stripe_file_id", "stored_at", "checks",
    ]  # fmt: skip
    assert [line["filename"] for line in lines] == [one["filename"] for one in manifest(archive)["files"]]


@pytest.mark.usefixtures("march")
async def test_a_pack_stays_the_same_byte_for_byte_until_something_is_restated(
    res: Resources, api: httpx.AsyncClient
) -> None:
    first, second = await api.get(MARCH), await api.get(MARCH)
    known = {"If-None-Match": first.headers["etag"]}
    unchanged = await api.get(MARCH, headers=known)

    await api.post("/v1/rules/daily/backfill", json={"from": "2026-03-29", "to": "2026-03-30", "rerun": True})
    await service.work_off(res)
    restated = await api.get(MARCH, headers=known)

    assert second.content == first.content
    assert unchanged.status_code == 304
    assert restated.content != first.content
    revisions = {one["first"]: one["revision"] for one in manifest(opened(restated))["files"] if one["rule"] == "daily"}
    assert revisions == {"2026-03-29": 2, "2026-03-30": 1, "2026-03-31": 1}


@pytest.mark.usefixtures("march")
async def test_missing_reports_are_listed_instead_unless_an_incomplete_pack_is_requested(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await execute(res, "update runs set state = 'failed' where window_key = '2026-03-29'")

    refused, partly = await api.get(MARCH), await api.get(MARCH, params={"incomplete": True})

    missing = {"rule": "daily", "connected_account": None, "first": "2026-03-29", "last": "2026-03-29",
               "timezone": ZONE, "reason": "failed"}  # fmt: skip
    assert (refused.status_code, refused.json()["missing"]) == (409, [missing])
    assert refused.json()["detail"] == (
        "2026-03 lacks 1 of its reports: daily 2026-03-29: failed. "
        "incomplete=true packs the others; rule=NAME packs only some rules"
    )
    told = manifest(opened(partly))
    assert (told["complete"], told["missing"], len(told["files"])) == (False, [missing], 3)


async def test_a_window_of_which_no_run_was_made_yet_is_missing_too(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-31"))
    await service.add_rule(res, name="daily", starts_on=date(2026, 3, 29))
    await service.work_off(res)

    refused = await api.get(MARCH)

    (missing,) = refused.json()["missing"]
    assert (refused.status_code, missing["first"]) == (409, "2026-03-31")
    assert missing["reason"].startswith("waits (availability until 2026-04-01")


async def test_a_rule_that_is_switched_off_owes_only_windows_that_have_a_run(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-31"))
    for cadence in ("daily", "every_update"):
        await service.add_rule(res, name=cadence, cadence=cadence, starts_on=date(2026, 3, 29))
    await service.work_off(res)
    await execute(res, "update rules set enabled = false")

    named = await api.get(MARCH, params={"rule": ["daily", "every_update"]})

    assert (named.status_code, (await api.get(MARCH)).status_code) == (200, 200)


async def test_a_month_that_has_not_begun_is_not_found(res: Resources, api: httpx.AsyncClient) -> None:
    for cadence in ("daily", "every_update"):
        await service.add_rule(res, name=cadence, cadence=cadence)

    assert (await api.get("/v1/packs/2999-01.zip")).status_code == 404


@pytest.mark.usefixtures("march")
async def test_a_cancelled_window_is_listed_and_blocks_nothing(res: Resources, api: httpx.AsyncClient) -> None:
    await execute(res, "update runs set state = 'cancelled' where window_key = '2026-03-29'")

    told = manifest(opened(await api.get(MARCH)))

    assert [(one["first"], one["reason"]) for one in told["cancelled"]] == [("2026-03-29", "cancelled")]
    assert told["complete"]


@pytest.mark.usefixtures("march")
async def test_a_removed_file_counts_as_missing(res: Resources, api: httpx.AsyncClient) -> None:
    await execute(
        res, "update files set removed_at = '2026-06-01', removed_reason = 'kept for 1 days'"
        " where run_id = (select id from runs where window_key = '2026-03-29')",
    )  # fmt: skip

    (missing,) = (await api.get(MARCH)).json()["missing"]

    assert missing["reason"] == "its file was removed on 2026-06-01: kept for 1 days"


@pytest.mark.usefixtures("march")
async def test_only_the_named_rules_are_packed(api: httpx.AsyncClient) -> None:
    both = await api.get(MARCH, params={"rule": ["daily", "monthly"]})
    one = await api.get(MARCH, params={"rule": "monthly"})
    unknown = await api.get(MARCH, params={"rule": "monthyl"})

    assert [file["rule"] for file in manifest(opened(one))["files"]] == ["monthly"]
    assert len(manifest(opened(both))["files"]) == 4
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "there is no rule monthyl: did you mean 'monthly'?")


@pytest.mark.usefixtures("march")
async def test_files_of_a_deleted_rule_stay_in_their_month_and_nothing_more_is_owed(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await execute(res, "update runs set state = 'failed' where window_key = '2026-03-29'")
    await api.delete("/v1/rules/daily")

    told = manifest(opened(await api.get(MARCH)))

    assert sorted(one["rule"] for one in told["files"]) == ["daily", "daily", "monthly"]


@pytest.mark.usefixtures("march")
async def test_a_month_without_windows_and_an_invalid_month_are_not_found(api: httpx.AsyncClient) -> None:
    empty, no_month = await api.get("/v1/packs/2019-03.zip"), await api.get("/v1/packs/2026-13.zip")

    assert (empty.status_code, empty.json()["detail"]) == (404, "no rule has a window in 2019-03")
    assert no_month.status_code == 404


@pytest.mark.usefixtures("march")
async def test_the_manifest_has_rows_and_the_worst_verdict_of_each_check(
    res: Resources, api: httpx.AsyncClient
) -> None:
    (run,) = await fetch(res, "select * from runs where window_key = '2026-03-29'")
    await execute(
        res,
        "insert into loads (run_id, file_id, rule_id, account, scope, report_type, family, table_name, revision,"
        " filtered, state, rows) select run_id, id, rule_id, account, '', 'x.y.1', 'x.y', 'x_y', 1, false, 'loaded', 12"
        " from files where run_id = :run_id on conflict (run_id) do update set state = 'loaded', rows = 12",
        run_id=run["id"],
    )
    for subject, verdict in (("usd", Verdict.AGREES), ("eur", Verdict.DIFFERS), ("eur", Verdict.AGREES),
                             ("chf", Verdict.NOT_COMPARABLE)):  # fmt: skip
        await execute(
            res,
            "insert into checks (subject, name, verdict, account, currency, load_ids, rule_ids)"
            " select :subject, 'row_net', :verdict, 'default', :subject, array[id], '{}' from loads"
            " where run_id = :run_id",
            subject=subject, verdict=verdict, run_id=run["id"],
        )  # fmt: skip

    told = {one["first"]: one for one in manifest(opened(await api.get(MARCH)))["files"]}

    assert (told["2026-03-29"]["rows"], told["2026-03-29"]["checks"]) == (12, {"row_net": "not_comparable"})


async def test_a_large_file_is_never_held_whole(res: Resources) -> None:
    content = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(640_000))
    run_id = await stored.one_run(res)
    await stored.store(res, run_id, content)
    (file,) = await fetch(res, "select id, size from files where run_id = :run_id", run_id=run_id)
    dates = local_dates(service.at("2026-03-01"), service.at("2026-04-01"), "UTC")
    packed = PackedFile(
        "big", "x.y.1", "default", None, dates, "big.csv", None, file["size"], hashlib.sha256(content).hexdigest(), 1,
        "frr_1", "file_1", datetime(2026, 4, 1, tzinfo=UTC), {}, file["id"], None,
    )  # fmt: skip

    pieces = [piece async for piece in pack_bytes(res.files, Pack(date(2026, 3, 1), [packed], [], []))]

    # What a reader that stalls leaves in memory is one piece; it cannot be compressed, so nothing hides there.
    assert file["size"] > 20_000_000
    assert max(map(len, pieces)) < 600_000
    archive = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert archive.read("big.csv") == content
