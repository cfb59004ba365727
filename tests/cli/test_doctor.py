"""The doctor's findings about settings, database, worker and clock: each made to appear."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from app.cli.doctor.command import examine
from app.db.embedded.server import EmbeddedPostgres
from app.db.migrate import migrate
from app.resources import Resources
from app.settings import load_settings
from app.simulator import Simulator
from tests.cli.examined import findings, make_healthy, statuses
from tests.database import run_folder
from tests.runs.strangers import stranger
from tests.service import execute, make_settings


async def test_a_healthy_installation_has_nothing_to_do(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)

    found = await findings(res.settings)

    assert statuses(found) == {}
    assert all(one.advice is None for one in found.values())
    assert {"settings", "database", "schema", "workers", "clock", "key", "key_report_types", "key_report_runs"} <= set(
        found
    )


async def test_malformed_settings_are_all_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLYHOOK_ADMIN_TOKEN", "short")
    monkeypatch.setenv("DATABASE_URL", "mysql://here")

    found, _ = await examine(None, fix=False)

    assert [(one.name, one.status.value) for one in found] == [("settings", "failing")] * 2
    assert {one.detail.partition(":")[0] for one in found} == {"TALLYHOOK_ADMIN_TOKEN", "DATABASE_URL"}


async def test_a_misspelt_setting_is_a_warning(res: Resources, simulator: Simulator, database_url: str) -> None:
    await make_healthy(res, simulator)

    found = await findings(make_settings(database_url, simulator, TALLYHOOK_EVENTDAYS=40))

    assert statuses(found) == {"settings": "degraded"}
    assert "TALLYHOOK_EVENT_DAYS" in found["settings"].detail


async def test_without_an_admin_token_nobody_can_write(res: Resources, simulator: Simulator, database_url: str) -> None:
    await make_healthy(res, simulator)

    found = await findings(make_settings(database_url, simulator, TALLYHOOK_ADMIN_TOKEN=""))

    assert statuses(found) == {"settings": "degraded"}
    assert "admin token" in found["settings"].detail


async def test_without_an_account_nothing_can_work(res: Resources, simulator: Simulator, database_url: str) -> None:
    await make_healthy(res, simulator)

    found = await findings(make_settings(database_url, simulator, STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET=""))

    assert statuses(found) == {"settings": "failing", "credentials": "failing"}
    assert "no Stripe account" in found["settings"].detail


async def test_a_database_that_is_away_fails_and_the_other_checks_run(simulator: Simulator) -> None:
    found = await findings(make_settings("postgresql://u:pw-canary@127.0.0.1:1/none", simulator), None)

    assert found["database"].status == "failing"
    assert "pw-canary" not in found["database"].detail
    assert found["key_report_types"].status == "ok"
    assert {"schema", "workers"} & set(found) == set()


async def test_the_doctor_never_creates_a_database(simulator: Simulator, tmp_path: Path) -> None:
    settings = make_settings("", simulator, TALLYHOOK_DATA_DIR=tmp_path / "data")

    found = await findings(settings)

    assert found["database"].status == "degraded"
    assert os.listdir(tmp_path) == []


async def test_the_running_embedded_database_is_joined(simulator: Simulator) -> None:
    with run_folder() as folder, EmbeddedPostgres(folder / "postgres", fast_unsafe=True) as server:
        migrate(server.url())

        found = await findings(make_settings("", simulator, TALLYHOOK_DATA_DIR=folder))

        assert (found["database"].status, found["schema"].status) == ("ok", "ok")


async def test_a_schema_that_is_behind_fails(simulator: Simulator, empty_database_url: str) -> None:
    found = await findings(make_settings(empty_database_url, simulator))

    assert found["database"].status == "ok"
    assert found["schema"].status == "failing"
    assert "tallyhook migrate" in str(found["schema"].advice)


async def test_a_schema_of_a_newer_version_serves(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    await execute(res, "update alembic_version set version_num = 'of_next_year'")

    assert statuses(await findings(res.settings)) == {}


@pytest.mark.parametrize("last_heard", [None, timedelta(minutes=10)])
async def test_without_a_living_worker_it_fails(
    res: Resources, simulator: Simulator, last_heard: timedelta | None
) -> None:
    await make_healthy(res, simulator)
    if last_heard is None:
        await execute(res, "delete from workers")
    else:
        await execute(res, "update workers set seen_at = now() - cast(:ago as interval)", ago=last_heard)

    found = await findings(res.settings)

    assert statuses(found) == {"workers": "failing"}
    assert ("here/1 last reported" in found["workers"].detail) == (last_heard is not None)


async def test_failed_events_are_a_warning(res: Resources, simulator: Simulator) -> None:
    await make_healthy(res, simulator)
    columns = "account, stripe_event_id, type, payload_sha256, status"
    await execute(res, f"insert into events ({columns}) values ('default', 'evt_1', 'x.y', '', 'failed')")

    assert statuses(await findings(res.settings)) == {"failed_events": "degraded"}


@pytest.mark.parametrize(("seconds", "status"), [(20, "ok"), (-150, "degraded"), (150, "degraded"), (400, "failing")])
async def test_the_clock_is_compared_with_stripes(database_url: str, seconds: int, status: str) -> None:
    async with stranger() as stripe:
        moment = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        stripe.answer = f"HTTP/1.1 401 No\r\ndate: {moment}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
        environ = {"DATABASE_URL": database_url, "STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": stripe.url}

        found = await findings(load_settings(environ, None))

    assert found["clock"].status == status


async def test_a_stripe_that_does_not_tell_the_time_is_a_warning(database_url: str) -> None:
    async with stranger() as stripe:
        environ = {"DATABASE_URL": database_url, "STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": stripe.url}

        found = await findings(load_settings(environ, None))

    assert found["clock"].status == "degraded"


async def test_the_key_is_not_sent_to_the_server_that_tells_the_time(database_url: str) -> None:
    async with stranger() as stripe:
        from app.stripe_api.webhook_endpoints import read_clock

        environ = {"STRIPE_API_KEY": "sk_test_canary", "STRIPE_API_BASE": stripe.url}
        await asyncio.gather(read_clock(load_settings(environ, None)), return_exceptions=True)

    assert "sk_test_canary" not in "".join(stripe.requests)
    assert len(stripe.requests) == 1
