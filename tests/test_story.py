"""The story that README tells, over real HTTP: from Stripe's signed webhook to the bytes out of the admin API."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from app.serving import running
from app.simulator import Simulator
from tests.service import ADMIN_TOKEN, REPORT_TYPE, WEBHOOK_SECRET, at, make_settings, unpublished
from tests.until import until

RULE = {
    "name": "daily-activity",
    "report_type": REPORT_TYPE,
    "cadence": "daily",
    "timezone": "America/Los_Angeles",
    "starts_on": "2026-03-07",
    "parameters": {"timezone": "America/Los_Angeles"},
}
# Three local days in Los Angeles; on the second one the clocks go forward, and it has 23 hours.
DAYS = [
    ("2026-03-07T08:00:00Z", "2026-03-08T08:00:00Z"),
    ("2026-03-08T08:00:00Z", "2026-03-09T07:00:00Z"),
    ("2026-03-09T07:00:00Z", "2026-03-10T07:00:00Z"),
]


async def test_webhooks_bring_every_report_that_is_owed(database_url: str, simulator: Simulator) -> None:
    # Given a rule for the days of Los Angeles, and a Stripe that will tell us by webhook (and nobody asks it again)
    async with service(database_url, simulator, TALLYHOOK_PENDING_POLL_SECONDS=900) as (api, webhook_url):
        simulator.add_endpoint(webhook_url, secrets=[WEBHOOK_SECRET])
        assert (await api.post("/v1/rules", json=RULE)).status_code == 201

        # When Stripe's data reaches further, half a day at a time
        for noon in range(8, 11):
            simulator.advance(REPORT_TYPE, to=at(f"2026-03-{noon:02}"))
            simulator.advance(REPORT_TYPE, to=at(f"2026-03-{noon:02}T12:00"))
        runs = await runs_when_all_are(api, "stored", count=3)

        # Then each local day is stored once, whole, and comes out of the API as Stripe made it
        await check_story(api, simulator, runs)


async def test_without_a_single_webhook_everything_arrives_all_the_same(
    database_url: str, simulator: Simulator
) -> None:
    # Given the same rule, and no webhook endpoint at all
    async with service(database_url, simulator, TALLYHOOK_RECONCILE_SECONDS=0.2) as (api, _):
        await api.post("/v1/rules", json=RULE)

        # When Stripe's data reaches further, and nobody tells us
        simulator.advance(REPORT_TYPE, to=at("2026-03-10T12:00"))
        runs = await runs_when_all_are(api, "stored", count=3)

        # Then asking now and then has brought the same
        await check_story(api, simulator, runs)


async def check_story(api: httpx.AsyncClient, simulator: Simulator, runs: list[dict[str, Any]]) -> None:
    """Each day once, one Stripe run each, and every byte as Stripe made it."""
    assert [(run["interval_start"], run["interval_end"]) for run in reversed(runs)] == DAYS
    assert len(simulator.runs) == 3
    made = {file.id: b"".join(file.content.chunks()) for file in simulator.files}
    for run in runs:
        answer = await api.get(f"/v1/runs/{run['id']}/file")
        assert answer.status_code == 200
        assert answer.content == made[run["file"]["stripe_file_id"]]
        assert len(answer.content) == run["file"]["size"]
        assert hashlib.sha256(answer.content).hexdigest() == run["file"]["sha256"]
        history = (await api.get(f"/v1/runs/{run['id']}")).json()["history"]
        assert [move["to_state"] for move in history] == ["planned", "requested", "ready", "stored"]


@asynccontextmanager
async def service(
    database_url: str, simulator: Simulator, **settings: object
) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """The whole service on a free port, a client with its token, and where it takes webhooks."""
    unpublished(simulator, until="2026-03-07")
    async with running(make_settings(database_url, simulator, **settings)) as up:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with httpx.AsyncClient(base_url=str(up.url), headers=headers, timeout=30, trust_env=False) as api:
            yield api, f"{up.url}/webhooks/stripe"


async def runs_when_all_are(api: httpx.AsyncClient, state: str, *, count: int) -> list[dict[str, Any]]:
    """All runs, newest first, as soon as there are `count` and all are in `state`."""
    runs: list[dict[str, Any]] = []

    async def they_are() -> bool:
        runs[:] = (await api.get("/v1/runs")).raise_for_status().json()["data"]
        return len(runs) >= count and all(run["state"] == state for run in runs)

    await until(they_are, f"{count} runs are {state}")
    return runs
