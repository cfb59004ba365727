"""What `/health` says about the outside: checked on a timetable, kept, and checked again by the doctor."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from app.errors import NotNow
from app.health import outside
from app.health.outside import look_at_store, look_at_stripe
from app.resources import Resources, open_resources
from app.settings import Settings
from app.simulator import Simulator
from app.simulator.state.model import PERMISSIONS
from tests.api.conftest import client_of
from tests.api.deliveries import event
from tests.api.test_health_checks import check
from tests.cli.examined import URL, findings, make_healthy, statuses
from tests.runs.stories import deliver_value
from tests.service import execute, fetch, make_settings


async def test_before_the_first_look_nothing_is_claimed(api: httpx.AsyncClient) -> None:
    assert await check(api, "file_store") == ("ok", "not checked yet: a worker does so when it starts")


async def test_a_store_that_keeps_files_leaves_nothing_behind(res: Resources, api: httpx.AsyncClient) -> None:
    await look_at_store(res)

    assert await check(api, "file_store") == ("ok", "files can be written, read and deleted in the database")
    assert await fetch(res, "select * from file_store_probes") == []


async def test_a_folder_is_tried_and_left_empty(database_url: str, simulator: Simulator, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    async with open_resources(make_settings(database_url, simulator, TALLYHOOK_FILE_STORE=f"file://{folder}")) as res:
        await look_at_store(res)

        async with client_of(res) as api:
            assert (await check(api, "file_store"))[0] == "ok"
    assert list(folder.iterdir()) == []


async def test_a_store_that_is_away_is_failing_in_health_and_doctor_and_checked_again(
    database_url: str, simulator: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "files").write_text("not a folder")
    settings = make_settings(database_url, simulator, TALLYHOOK_FILE_STORE=f"file://{tmp_path}/files")
    async with open_resources(settings) as res:
        await make_healthy(res, simulator)
        with pytest.raises(NotNow):
            await look_at_store(res)

        async with client_of(res) as api:
            status, detail = await check(api, "file_store")
        assert (status, "files cannot be stored" in detail) == ("failing", True)
        assert statuses(await findings(settings)) == {"file_store": "failing"}


async def test_a_database_without_room_for_files_is_failing(res: Resources, api: httpx.AsyncClient) -> None:
    await execute(res, "alter table file_store_probes add constraint full_disk check (octet_length(data) < 10)")

    with pytest.raises(NotNow):
        await look_at_store(res)

    status, detail = await check(api, "file_store")
    assert (status, "full_disk" in detail) == ("failing", True)


async def test_a_look_that_is_old_says_nothing_about_now(res: Resources, api: httpx.AsyncClient) -> None:
    await look_at_store(res)
    await execute(res, "update kept_checks set looked_at = now() - interval '1 hour'")

    assert await check(api, "file_store") == ("degraded", "not checked for 60 minutes")


@pytest.mark.parametrize(
    ("events", "enabled", "said"),
    [(["*"], True, "`*` does not include it"), (["reporting.report_type.updated"], False, "is disabled")],
    ids=["star", "disabled"],
)
async def test_an_endpoint_that_is_wrong_is_failing_in_health_and_doctor(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator, events: list[str], *, enabled: bool, said: str
) -> None:
    await make_healthy(res, simulator)
    simulator.world.account(None).endpoints.clear()
    simulator.change_endpoint(simulator.add_endpoint(URL, events=events).id, enabled=enabled)
    await look_at_stripe(res)

    status, detail = await check(api, "webhook_endpoint")

    assert (status, said in detail) == ("failing", True)
    assert statuses(await findings(res.settings)) == {"webhook_endpoint": "failing"}


async def test_an_endpoint_that_was_repaired_is_seen_at_the_next_check(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await look_at_stripe(res)
    assert (await check(api, "webhook_endpoint"))[0] == "degraded"

    simulator.add_endpoint(URL)
    await look_at_stripe(res)

    assert (await check(api, "webhook_endpoint"))[0] == "ok"


async def test_where_webhooks_arrive_an_endpoint_leads_here_whatever_its_path(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.add_endpoint("https://proxy.example.com/stripe-events")
    await deliver_value(res, event("evt_1"))

    await look_at_stripe(res)

    assert await check(api, "webhook_endpoint") == (
        "ok", "default: no webhook endpoint points to …/webhooks/stripe, but webhooks arrive",
    )  # fmt: skip


async def test_a_key_that_may_not_list_endpoints_is_not_a_problem(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    key = "sk_test_simulator_default"
    simulator.change_key(key, permissions=set(PERMISSIONS - {"webhook_endpoints"}))

    await look_at_stripe(res)

    assert (await check(api, "webhook_endpoint"))[0] == "ok"


async def test_a_clock_that_is_off_is_reported(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_clock(_settings: Settings) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=400)

    monkeypatch.setattr(outside, "read_clock", read_clock)
    await look_at_stripe(res)

    status, detail = await check(api, "clock")

    assert (status, "400 s ahead of" in detail) == ("failing", True)
    assert (await findings(res.settings))["clock"].status == "failing"
