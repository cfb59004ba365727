"""Doctor, `/health`, `/metrics`, `waiting` and the alerts agree on what is wrong and what to do. Each world breaks
one thing in a healthy service, and all of them are queried."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from sqlalchemy import make_url

from app.errors import NotNow, SchemaError
from app.health import outside
from app.health.results import Status
from app.resources import Resources, open_resources
from app.rules.slices import work_slice
from app.settings import Settings
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.api.deliveries import delivery
from tests.cli.examined import URL, findings, make_healthy
from tests.database import PostgresServer
from tests.deploy.watched import alerts
from tests.runs.stories import days_due
from tests.service import REPORT_TYPE, add_rule, download_due, execute, look_up_due, make_settings, request_due
from tests.stripe_api.authority import behind_tls

KEY = "sk_test_simulator_default"


@dataclass(frozen=True)
class Place:
    """Where a world is set up."""

    res: Resources
    api: httpx.AsyncClient
    simulator: Simulator
    folder: Path
    patched: pytest.MonkeyPatch


@dataclass(frozen=True)
class World:
    """One thing that is wrong: how it comes about, the check that says so, and the alert that wakes somebody."""

    name: str
    play: Callable[[Place], Awaitable[None]]
    check: str
    status: Status
    alert: str | None
    settings: dict[str, str] = field(default_factory=dict)
    waiting: str | None = None  # why its runs wait, or the newest window of its rule
    encrypted: bool = False  # Stripe is behind TLS, its certificate from an authority that is not known here


async def nothing(place: Place) -> None:
    """The world as it should be."""


async def wrong_secret(place: Place) -> None:
    assert (await place.api.post("/webhooks/stripe", **delivery(secret="whsec_another"))).status_code == 400
    await place.res.intake.refused.keep(place.res.engine)


async def store_away(place: Place) -> None:
    await days_due(place.res, place.simulator, 1)
    (place.folder / "store").write_text("not a folder")
    await request_due(place.res)
    await asyncio.sleep(0)
    while not await download_due(place.res):
        await look_up_due(place.res)
    with suppress(NotNow):
        await outside.look_at_store(place.res)


async def mistyped_type(place: Place) -> None:
    await reconcile(place.res)
    await add_rule(place.res, report_type=REPORT_TYPE.replace("itemized", "itemised"))


async def unreadable_type(place: Place) -> None:
    place.simulator.report_type(REPORT_TYPE).data_available_end = None  # type: ignore[assignment]
    await reconcile(place.res)


async def organization_key(place: Place) -> None:
    """An organization's key, with no account named: every call is refused alike, none because of its run."""
    await days_due(place.res, place.simulator, 1)
    said = "Please include the Stripe-Context header with this request"
    place.simulator.inject("status", status=400, message=said, times=None)
    for _ in range(2):
        await request_due(place.res)
    with suppress(NotNow):
        await reconcile(place.res)


async def unknown_authority(place: Place) -> None:
    with suppress(NotNow):
        await reconcile(place.res)
    await outside.look_at_stripe(place.res)


async def unplannable_rule(place: Place) -> None:
    await reconcile(place.res)
    rule = await add_rule(place.res, starts_on=date(2027, 1, 1))
    await execute(
        place.res, "update rules set timezone = 'Mars/Base', starts_on = '2026-02-01' where id = :id", id=rule.id
    )
    await execute(place.res, "update rule_progress set next_due_at = null")
    await work_slice(place.res)


async def revoked_key(place: Place) -> None:
    await days_due(place.res, place.simulator, 1)
    place.simulator.change_key(KEY, revoked=True)
    await request_due(place.res)


async def read_only(place: Place) -> None:
    name = make_url(place.res.direct_url).database
    await execute(place.res, f'alter database "{name}" set default_transaction_read_only = on')
    await place.res.engine.dispose()


async def date_style(place: Place) -> None:
    name = make_url(place.res.direct_url).database
    await execute(place.res, f"alter database \"{name}\" set datestyle = 'German'")
    await place.res.engine.dispose()


async def clock_off(place: Place) -> None:
    async def read_clock(_settings: Settings) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=400)

    place.patched.setattr(outside, "read_clock", read_clock)
    await outside.look_at_stripe(place.res)


async def disabled_endpoint(place: Place) -> None:
    for endpoint in list(place.simulator.world.account(None).endpoints.values()):
        place.simulator.change_endpoint(endpoint.id, enabled=False)
    await outside.look_at_stripe(place.res)


async def star_endpoint(place: Place) -> None:
    place.simulator.world.account(None).endpoints.clear()
    place.simulator.add_endpoint(URL, events=["*"])
    await outside.look_at_stripe(place.res)


def late_data(report_type: str, hours: int) -> Callable[[Place], Awaitable[None]]:
    """Data of this type is this late."""

    async def play(place: Place) -> None:
        await add_rule(place.res, report_type=report_type)
        await execute(
            place.res, "insert into report_types (account, id, data_available_start, data_available_end)"
            " values ('default', :type, '2026-01-01', '2026-03-01')", type=report_type,
        )  # fmt: skip
        await execute(
            place.res, "update rule_progress set next_due_at = now() - :hours * interval '1 hour'", hours=hours
        )

    return play


async def no_worker(place: Place) -> None:
    await execute(place.res, "delete from workers")


async def nothing_heard(place: Place) -> None:
    await execute(place.res, "update accounts set created_at = now() - interval '2 days'")


async def other_accounts_key(place: Place) -> None:
    await days_due(place.res, place.simulator, 1)
    await execute(place.res, "update accounts set stripe_account_id = 'acct_of_somebody_else'")
    with suppress(NotNow):
        await reconcile(place.res)


async def failed_window(place: Place) -> None:
    await days_due(place.res, place.simulator, 1)
    await execute(place.res, "update runs set state = 'failed'")


WORLDS = [
    World("well", nothing, "workers", Status.OK, None),
    World("DateStyle", date_style, "workers", Status.OK, None),
    World(
        "fees within 96 h", late_data("all_fees.incurred_at.summary.2", 90), "freshness", Status.OK, None,
        waiting="availability",
    ),
    World("wrong secret", wrong_secret, "deliveries_refused", Status.DEGRADED, "TallyhookSignaturesRefused"),
    World(
        "store away", store_away, "file_store", Status.FAILING, "TallyhookFileStoreAway", waiting="backoff",
        settings={
            "TALLYHOOK_FILE_STORE": "file://{folder}/store",
            "TALLYHOOK_RETRY_BASE_SECONDS": "800", "TALLYHOOK_RETRY_MAX_SECONDS": "900",
        },
    ),
    World(
        "mistyped type", mistyped_type, "report_types", Status.DEGRADED, "TallyhookReportTypeMissing",
        waiting="report_type_missing",
    ),
    World(
        "mistyped type, its rule", mistyped_type, "freshness", Status.DEGRADED, "TallyhookReportsLate",
        waiting="report_type_missing",
    ),
    World(
        "organization key", organization_key, "credentials", Status.DEGRADED, "TallyhookKeyRefused",
        waiting="account_held",
    ),
    World(
        "unknown authority", unknown_authority, "clock", Status.DEGRADED, "TallyhookClockOff", encrypted=True,
    ),
    World("rule that cannot be planned", unplannable_rule, "freshness", Status.DEGRADED, "TallyhookReportsLate"),
    World("unreadable report type", unreadable_type, "unreadable_items", Status.DEGRADED, None),
    World(
        "revoked key", revoked_key, "credentials", Status.DEGRADED, "TallyhookKeyRefused", waiting="account_held",
    ),
    World("read-only database", read_only, "database", Status.FAILING, "TallyhookCheckFails"),
    World("clock off", clock_off, "clock", Status.FAILING, "TallyhookClockOff"),
    World("disabled endpoint", disabled_endpoint, "webhook_endpoint", Status.FAILING, "TallyhookEndpointWrong"),
    World("* endpoint", star_endpoint, "webhook_endpoint", Status.FAILING, "TallyhookEndpointWrong"),
    World(
        "balances late", late_data("payouts.itemized.5", 37), "freshness", Status.DEGRADED, "TallyhookReportsLate",
        waiting="availability",
    ),
    World(
        "fees late", late_data("all_fees.incurred_at.summary.2", 97), "freshness", Status.DEGRADED,
        "TallyhookReportsLate", waiting="availability",
    ),
    World(
        "unknown type late", late_data("tax.transactions.itemized.2", 97), "freshness", Status.DEGRADED,
        "TallyhookReportsLate", waiting="availability",
    ),
    World("no worker", no_worker, "workers", Status.FAILING, "TallyhookCheckFails"),
    World("nothing heard from Stripe", nothing_heard, "polling", Status.FAILING, "TallyhookPollingStopped"),
    World(
        "another account's key", other_accounts_key, "credentials", Status.DEGRADED, "TallyhookKeyRefused",
        waiting="account_held",
    ),
    World("a window failed", failed_window, "failed_runs", Status.DEGRADED, "TallyhookRunsFailed"),
    World(
        "nothing configured", nothing, "credentials", Status.FAILING, "TallyhookCheckFails",
        settings={"STRIPE_API_KEY": "", "STRIPE_WEBHOOK_SECRET": ""},
    ),
]  # fmt: skip


@asynccontextmanager
async def played(world: World, url: str, simulator: Simulator, folder: Path) -> AsyncIterator[Place]:
    """A service that is healthy but for this."""
    given = {name: value.format(folder=folder) for name, value in world.settings.items()}
    async with AsyncExitStack() as open_:
        if world.encrypted:
            stripe = await open_.enter_async_context(behind_tls(simulator.world.base_url, folder))
            given |= {"STRIPE_API_BASE": stripe, "STRIPE_FILES_BASE": stripe}
        settings = make_settings(url, simulator, **given)
        res = await open_.enter_async_context(open_resources(settings, works_queue=False))
        await make_healthy(res, simulator)
        async with client_of(res) as api:
            with pytest.MonkeyPatch.context() as patched:
                place = Place(res, api, simulator, folder, patched)
                await world.play(place)
                yield place


@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
async def test_everybody_says_the_same(world: World, database_url: str, simulator: Simulator, tmp_path: Path) -> None:
    async with played(world, database_url, simulator, tmp_path) as place:
        health = (await place.api.get("/health")).json()
        metrics = await samples(place.api)
        doctor = await findings(place.res.settings)
        reasons = set() if world.check == "database" else await why_they_wait(place.api)

    told = {check["name"]: check for check in health["checks"]}
    check = told[world.check]
    assert check["status"] == world.status, check
    assert health["status"] == worst(told)
    assert world.status is Status.OK or check["advice"], "a check that says what is wrong says what to do"
    assert metrics["tallyhook_check_status", world.check] == list(Status).index(world.status)
    assert doctor[world.check].status == world.status, doctor[world.check]
    assert world.status is Status.OK or doctor[world.check].advice
    assert (world.alert in firing(metrics)) if world.alert else not firing(metrics)
    assert reasons == ({world.waiting} if world.waiting else set())


async def why_they_wait(api: httpx.AsyncClient) -> set[str]:
    """Why runs wait; if there are none yet, why the newest window of each rule does."""
    found = (await api.get("/v1/runs")).json()["data"]
    if not found:
        rules = (await api.get("/v1/rules")).json()["data"]
        answers = [await api.get(f"/v1/rules/{rule['id']}/coverage") for rule in rules]
        found = [window for answer in answers for window in answer.json().get("data", [])[:1]]
    return {one["waiting"]["reason"] for one in found if one["waiting"] is not None}


def worst(told: dict[str, dict[str, str]]) -> str:
    return str(max((Status(check["status"]) for check in told.values()), key=list(Status).index))


Samples = dict[tuple[str, str], float]


async def samples(api: httpx.AsyncClient) -> Samples:
    """Every sample by its name and the label that matters to alerts."""
    found = text_string_to_metric_families((await api.get("/metrics")).text)
    return {
        (sample.name, sample.labels.get("check") or sample.labels.get("state") or sample.labels.get("call_kind", "")):
            sample.value
        for family in found
        for sample in family.samples
    }  # fmt: skip


def firing(metrics: Samples) -> set[str]:
    """The alerts whose expressions hold for these samples, of those about checks, holds and failed runs."""
    found = set()
    for name, expression in alerts().items():
        if wanted := re.fullmatch(r'max\(tallyhook_check_status\{check="(\w+)"\}\) > 0', expression):
            holds = metrics.get(("tallyhook_check_status", wanted[1]), 0) > 0
        elif expression == "max by (check) (tallyhook_check_status) == 2":
            holds = any(key[0] == "tallyhook_check_status" and value == 2 for key, value in metrics.items())
        elif "tallyhook_account_held" in expression:
            holds = any(key[0] == "tallyhook_account_held" and value == 1 for key, value in metrics.items())
        elif 'tallyhook_runs{state="failed"}' in expression:
            holds = metrics.get(("tallyhook_runs", "failed"), 0) > 0
        else:
            continue
        if holds:
            found.add(name)
    return found


@pytest.fixture
def latin1_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database that cannot hold every character."""
    name = f"latin1_{int(time.time() * 1000)}"
    create = sql.SQL("create database {} encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'")
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(name)))
        yield postgres_server.url(name)
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


async def test_a_database_of_another_encoding_is_refused_at_start_and_failing_for_doctor(
    latin1_url: str, simulator: Simulator
) -> None:
    settings = make_settings(latin1_url, simulator)
    with pytest.raises(SchemaError, match="LATIN1"):
        async with open_resources(settings):
            pass

    doctor = (await findings(settings))["database"]

    assert (doctor.status, "LATIN1" in doctor.detail) == ("failing", True)
    assert "ENCODING 'UTF8'" in str(doctor.advice)
