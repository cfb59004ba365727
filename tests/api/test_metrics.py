"""Prometheus text: the process's counters, gauges from the rows, and no secret."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import handlers
from app.db.engine import make_engine
from app.resources import Resources
from app.simulator import Simulator
from app.stripe_api.http import endpoint_of
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.api.deliveries import delivery, event
from tests.runs.stories import CREATE, days_due, deliver_value
from tests.service import ADMIN_TOKEN, READ_TOKEN, REPORT_TYPE, WEBHOOK_SECRET, execute, request_due, work_off

Samples = dict[tuple[str, tuple[str, ...]], float]


async def scraped(client: httpx.AsyncClient) -> Samples:
    """Every sample: its name, and its labels' values in the order of their names."""
    answer = await client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = list(text_string_to_metric_families(answer.text))
    assert len({family.name for family in families}) == len(families), "each family is told once"
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def test_any_token_reads_the_metrics_and_nobody_else(res: Resources, nobody: httpx.AsyncClient) -> None:
    async with client_of(res, READ_TOKEN) as reader:
        assert (await reader.get("/metrics")).status_code == 200
    assert (await nobody.get("/metrics")).status_code == 401


async def test_two_apps_in_one_process_count_apart(res: Resources) -> None:
    async with client_of(res, READ_TOKEN) as first, client_of(res, READ_TOKEN) as second:
        await first.post("/v1/report-types/refresh")

        assert (await scraped(first))["tallyhook_authentication_failures_total", ("read_only",)] == 1
        assert ("tallyhook_authentication_failures_total", ("read_only",)) not in await scraped(second)


async def test_a_day_of_work_is_counted(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await days_due(res, simulator, 2)
    await work_off(res)
    size = sum(file["size"] for file in [run["file"] for run in (await api.get("/v1/runs")).json()["data"]])

    found = await scraped(api)

    assert found["tallyhook_stored_files_total", ("default",)] == 2
    assert found["tallyhook_stored_bytes_total", ("default",)] == size
    assert found["tallyhook_availability_to_stored_seconds_count", ()] == 2
    assert found["tallyhook_stripe_requests_total", ("default", "POST /v1/reporting/report_runs", "200")] == 2
    assert found["tallyhook_stripe_requests_total", ("default", "GET /v1/files/:id/contents", "200")] == 2
    assert found["tallyhook_stripe_requests_total", ("default", "GET /v1/reporting/report_types", "200")] == 2
    assert found["tallyhook_data_available_end_timestamp_seconds", ("default", REPORT_TYPE)] == 1_772_496_000
    assert found["tallyhook_database_up", ()] == 1


async def test_a_call_that_stripe_refuses_or_never_answers_is_counted_by_its_status(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await days_due(res, simulator, 1)
    simulator.inject("status", match=CREATE, status=500)
    await request_due(res)
    await execute(res, "update runs set due_at = now()")
    simulator.inject("cut", match=CREATE)
    await request_due(res)

    found = await scraped(api)

    for status in ("500", "none"):
        assert found["tallyhook_stripe_requests_total", ("default", "POST /v1/reporting/report_runs", status)] == 1


async def test_events_are_counted_by_type_and_outcome(res: Resources, api: httpx.AsyncClient) -> None:
    await deliver_value(res, event("evt_1"))
    await deliver_value(res, event("evt_2", data={"object": {"id": "x.1"}}))
    await deliver_value(res, event("evt_3", type="invented.by.somebody"))
    await api.post("/webhooks/stripe", **delivery(secret="whsec_another"))
    await handlers.drain(res)

    found = await scraped(api)

    used = "reporting.report_type.updated"
    assert found["tallyhook_deliveries_total", ("default", "pending", used)] == 2
    assert found["tallyhook_deliveries_total", ("default", "ignored", "other")] == 1
    assert found["tallyhook_events_total", ("handled", used)] == 1
    assert found["tallyhook_events_total", ("ignored", used)] == 1
    assert found["tallyhook_event_handling_seconds_count", ()] == 2
    assert found["tallyhook_deliveries_refused_total", ("bad_signature",)] == 1


async def test_the_rows_are_read_at_each_scrape(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await days_due(res, simulator, 3)
    await deliver_value(res, event("evt_1"))
    await execute(res, "update events set received_at = now() - interval '100 s'")
    await execute(res, "update runs set due_at = now() - interval '50 s'")
    await execute(res, "update runs set state = 'failed' where window_key = '2026-03-01'")
    await execute(res, "insert into workers (id, host, pid, seen_at) values (gen_random_uuid(), 'a', 1, now())")
    await execute(res, "insert into account_holds values ('default', 'create', '401', now(), 0, now())")

    found = await scraped(api)

    assert found["tallyhook_runs", (REPORT_TYPE, "planned")] == 2
    assert found["tallyhook_runs", (REPORT_TYPE, "failed")] == 1
    assert found["tallyhook_inbox_events", ()] == 1
    assert found["tallyhook_inbox_oldest_age_seconds", ()] >= 100
    assert found["tallyhook_oldest_due_run_age_seconds", ("requests",)] == 0, "held, so nobody could have"
    assert found["tallyhook_oldest_due_run_age_seconds", ("lookups",)] == 0
    assert found["tallyhook_worker_heartbeat_age_seconds", ("a/1",)] >= 0
    assert found["tallyhook_account_held", ("default", "create")] == 1
    assert found["tallyhook_account_held", ("default", "files")] == 0

    await execute(res, "delete from account_holds")
    assert (await scraped(api))["tallyhook_oldest_due_run_age_seconds", ("requests",)] >= 50


async def test_the_checks_of_health_are_gauges(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await days_due(res, simulator, 1)
    await execute(res, "update runs set state = 'failed'")

    found = await scraped(api)

    health = {check["name"]: check["status"] for check in (await api.get("/health")).json()["checks"]}
    told = {labels[0]: value for (name, labels), value in found.items() if name == "tallyhook_check_status"}
    assert set(told) == set(health)
    assert {name: ("ok", "degraded", "failing")[int(value)] for name, value in told.items()} == {
        name: health[name] for name in told
    }
    assert (told["failed_runs"], told["inbox"], told["workers"]) == (1, 0, 2)


async def test_a_run_that_waits_for_data_is_not_overdue_and_an_unknown_type_has_no_label(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    ahead = {"interval_start": "2026-03-01T00:00:00Z", "interval_end": "2026-03-02T00:00:00Z"}
    await api.post("/v1/runs", json={"report_type": REPORT_TYPE, **ahead})
    await api.post("/v1/runs", json={"report_type": "any.name.1", **ahead})
    await execute(res, "update runs set due_at = now() - interval '50 s' where report_type <> 'any.name.1'")

    found = await scraped(api)

    assert found["tallyhook_runs", ("other", "planned")] == 1
    assert found["tallyhook_oldest_due_run_age_seconds", ("requests",)] < 50


async def test_without_the_database_the_process_still_shows_its_counters(
    res: Resources, api: httpx.AsyncClient
) -> None:
    res.sessions.configure(bind=make_engine("postgresql://nobody@127.0.0.1:1/none", pool_size=1))

    found = await scraped(api)

    assert found["tallyhook_database_up", ()] == 0
    assert ("tallyhook_inbox_events", ()) not in found


async def test_no_secret_is_in_the_metrics(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await days_due(res, simulator, 1)
    await work_off(res)

    text = (await api.get("/metrics")).text

    for secret in (ADMIN_TOKEN, READ_TOKEN, WEBHOOK_SECRET, next(iter(simulator.world.keys))):
        assert secret not in text


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://a/v1/account", "GET /v1/account"),
        ("https://a/v1/reporting/report_runs?limit=3", "GET /v1/reporting/report_runs"),
        ("https://a/v1/reporting/report_runs/frr_1", "GET /v1/reporting/report_runs/:id"),
        ("https://a/v1/webhook_endpoints/we_1", "GET /v1/webhook_endpoints/:id"),
        ("https://a/v1/accountants", "GET other"),
    ],
)
def test_endpoints_have_few_names(url: str, endpoint: str) -> None:
    assert endpoint_of("get", url) == endpoint
