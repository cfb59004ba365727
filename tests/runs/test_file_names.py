"""What a stored file is called and served as: no two runs share a name, and a ZIP is a ZIP all the way."""

import io
import uuid
import zipfile
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resources import Resources
from app.runs.transfer import FileKind, NamedRun, file_name, kind_of
from app.simulator import Simulator
from app.stripe_api.objects import StripeFile
from tests.api.conftest import client_of
from tests.service import at, fetch, work_off

CSV = FileKind("csv", "text/csv")
RUN = uuid.UUID("01980000-0000-7000-8000-00a1b2c3d4e5")


def local(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def run_of(start: str | None, end: str | None, zone: str | None = "America/Los_Angeles", **changes: Any) -> NamedRun:
    run: dict[str, Any] = {
        "run_id": RUN,
        "report_type": "payouts.itemized.5",
        "account": "default",
        "connected_account": None,
        "interval_start": None if start is None else local(start, zone or "UTC"),
        "interval_end": None if end is None else local(end, zone or "UTC"),
        "timezone": zone,
        "revision": 1,
        "parameters": {},
    }
    return NamedRun(**{**run, **changes})


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (run_of("2026-10-01", "2026-11-01"), "2026-10-01_2026-10-31_America-Los_Angeles"),
        (run_of("2026-10-01", "2026-10-02"), "2026-10-01_2026-10-01_America-Los_Angeles"),
        (run_of("2026-10-01T12:00", "2026-10-02"), "2026-10-01T120000_2026-10-01_America-Los_Angeles"),
        (run_of("2026-10-01", "2026-10-01T12:00"), "2026-10-01_2026-10-01T120000_America-Los_Angeles"),
        # The day of a change of time, and one whose midnight does not exist.
        (run_of("2026-11-01", "2026-11-02"), "2026-11-01_2026-11-01_America-Los_Angeles"),
        (run_of("2026-04-24T01:00", "2026-04-25", "Africa/Cairo"), "2026-04-24_2026-04-24_Africa-Cairo"),
        (run_of(None, "2026-11-01"), "2026-10-31_America-Los_Angeles"),
        (run_of("2026-10-01", "2026-11-01", None), "2026-10-01_2026-10-31_UTC"),
        (run_of("2026-10-01", "2026-11-01", "UTC", revision=3), "2026-10-01_2026-10-31_UTC_r3"),
        (
            run_of("2026-10-01", "2026-11-01", "UTC", parameters={"currency": "usd", "reporting_category": "charge"}),
            "2026-10-01_2026-10-31_UTC_charge_usd",
        ),
        (run_of(None, None, None, parameters={"payout": "po_1", "columns": ["net"]}), "po_1"),
    ],
)
def test_the_name_says_what_tells_runs_apart(run: NamedRun, name: str) -> None:
    assert file_name(run, CSV) == f"payouts.itemized.5_default_{name}_00a1b2c3d4e5.csv"


def test_a_connected_account_stands_beside_its_platform() -> None:
    run = run_of(None, None, account="eu", connected_account="acct_1", parameters={"payout": "po_1"})

    assert file_name(run, CSV) == "payouts.itemized.5_eu_acct_1_po_1_00a1b2c3d4e5.csv"


WORDS = st.text(max_size=120)


@given(st.uuids(version=4), WORDS, WORDS, WORDS)
def test_a_name_needs_no_quoting_and_fits_into_any_file_system(
    run_id: uuid.UUID, account: str, payout: str, category: str
) -> None:
    parameters = {"payout": payout, "reporting_category": category}

    run = run_of("2026-10-01", "2026-11-01", run_id=run_id, account=account, parameters=parameters)
    name = file_name(run, CSV)

    assert all(letter.isascii() and (letter.isalnum() or letter in "._+-") for letter in name)
    assert len(name) <= 200


@pytest.mark.parametrize(
    ("type_", "filename", "kind"),
    [
        ("csv", "frr_1.csv", CSV),
        ("zip", "frr_1.zip", FileKind("zip", "application/zip")),
        ("zip", "frr_1.csv", FileKind("zip", "application/zip")),
        (None, "frr_1.zip", FileKind("zip", "application/zip")),
        (None, "file_1MrQ", CSV),
        (None, None, CSV),
        ("parquet", None, FileKind("parquet", "application/octet-stream")),
        ("../x", None, FileKind("x", "application/octet-stream")),
    ],
)
def test_stripes_own_word_decides_what_a_file_is(type_: str | None, filename: str | None, kind: FileKind) -> None:
    assert kind_of(StripeFile("file_1", None, 1, filename, None, type_)) == kind


async def ask(api: httpx.AsyncClient, report_type: str, **parameters: Any) -> str:
    """An ad-hoc run; `interval_start` and `interval_end` beside what is sent on."""
    bounds = {name: parameters.pop(name) for name in ("interval_start", "interval_end") if name in parameters}
    asked = await api.post("/v1/runs", json={"report_type": report_type, "parameters": parameters} | bounds)
    assert asked.status_code == 201, asked.text
    return str(asked.json()["id"])


async def test_two_payouts_two_categories_and_two_equal_runs_have_names_of_their_own(
    res: Resources, simulator: Simulator
) -> None:
    day = {"interval_start": "2026-02-27T00:00:00Z", "interval_end": "2026-02-28T00:00:00Z"}
    async with client_of(res) as api:
        for payout in ("po_1", "po_2"):
            await ask(api, "payout_reconciliation.by_id.itemized.4", payout=payout)
        for category in ("charge", "refund", "refund"):
            await ask(api, "balance_change_from_activity.itemized.7", **day, reporting_category=category)
        await work_off(res)

    names = [row["filename"] for row in await fetch(res, "select filename from files where stored_at is not null")]
    assert len(set(names)) == len(names) == 5
    assert {word for name in names for word in ("po_1", "po_2", "charge", "refund") if f"_{word}_" in name} == {
        "po_1",
        "po_2",
        "charge",
        "refund",
    }
    assert sum("_2026-02-27_2026-02-27_UTC_" in name for name in names) == 3


async def test_a_zip_is_stored_named_and_served_as_a_zip(res: Resources, simulator: Simulator) -> None:
    async with client_of(res) as api:
        run_id = await ask(
            api,
            "balance_change_from_activity.itemized.7",
            interval_start=f"{at('2026-02-27'):%FT%TZ}",
            interval_end=f"{at('2026-02-28'):%FT%TZ}",
            compress_file="true",
        )
        await work_off(res)
        run = (await api.get(f"/v1/runs/{run_id}")).json()
        answer = await api.get(f"/v1/runs/{run_id}/file")

    assert run["file"]["media_type"] == answer.headers["content-type"] == "application/zip"
    assert run["file"]["filename"].endswith(".zip")
    assert run["file"]["filename"] in answer.headers["content-disposition"]
    assert [row["line_count"] for row in await fetch(res, "select line_count from files")] == [None]
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert [name.endswith(".csv") for name in archive.namelist()] == [True]
