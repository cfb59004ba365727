"""A finished operation is one line, and ids lead from a delivery, or from a request, to the stored file."""

from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from app.observability.log_lines import Cause, Causes, annotate, bind_causes, cause_of, operation
from app.serving import running
from app.simulator import Simulator
from tests.service import ADMIN_TOKEN, REPORT_TYPE, WEBHOOK_SECRET, add_rule, at, make_settings, only_run, unpublished
from tests.until import until

WITH_WHAT_IS_BOUND = [structlog.contextvars.merge_contextvars]


def named(lines: list[Any], name: str) -> list[Any]:
    return [line for line in lines if line["event"] == name]


async def until_logged(lines: list[Any], name: str) -> None:
    """Wait for a line: it is written after the commit that everybody can see."""

    async def logged() -> bool:
        return bool(named(lines, name))

    await until(logged)


def test_an_operation_is_one_line_with_its_ids_its_outcome_and_how_long_it_took() -> None:
    with capture_logs(processors=WITH_WHAT_IS_BOUND) as lines:
        with operation("run.asked", run_id="7", caused_by=None):
            annotate(outcome="made", about="frr_1")
            structlog.get_logger().info("meanwhile")
        annotate(outcome="too late")

    meanwhile, finished = lines
    assert meanwhile["run_id"] == "7"
    assert finished.pop("seconds") >= 0
    assert finished == {"event": "run.asked", "log_level": "info", "run_id": "7", "outcome": "made", "about": "frr_1"}


def test_an_operation_that_breaks_off_says_with_what() -> None:
    with capture_logs() as lines, pytest.raises(ValueError, match="so"), operation("run.asked"):
        raise ValueError("so")

    assert lines[0]["outcome"] == "ValueError"


def test_work_is_attributed_to_its_first_cause() -> None:
    causes: Causes = {("default", "balance.summary.1"): Cause("evt_1", "its-trace")}
    with operation("timetable.reconcile", caused_by="timetable/reconcile"):
        with bind_causes(causes):
            assert cause_of("default", "balance.summary.1") == {"caused_by": "evt_1", "traceparent": "its-trace"}
            assert cause_of("other", "balance.summary.1")["caused_by"] == "timetable/reconcile"
        assert cause_of("default", "balance.summary.1")["caused_by"] == "timetable/reconcile"
    with operation("api.answered", request_id="mine"):
        assert cause_of("default")["caused_by"] == "mine"
    assert cause_of("default") == {"caused_by": None, "traceparent": None}


async def test_the_id_of_an_event_leads_from_its_delivery_to_the_stored_file(
    database_url: str, simulator: Simulator
) -> None:
    settings = make_settings(database_url, simulator, TALLYHOOK_PENDING_POLL_SECONDS=900)
    simulator.inject("event_held", match={"event": "report_run"})
    with capture_logs(processors=WITH_WHAT_IS_BOUND) as lines:
        async with running(settings) as service:
            simulator.add_endpoint(f"{service.url}/webhooks/stripe", secrets=[WEBHOOK_SECRET])
            await add_rule(service.res)
            # The polling at the start must not learn of the data before the webhook reports it,
            await until_logged(lines, "account.asked")
            simulator.advance(REPORT_TYPE, to=at("2026-03-02"))
            # and no success may overtake the answer that tells the run's id.
            await until_logged(lines, "run.asked")
            simulator.release()
            await until_logged(lines, "run.fetched")
            run = await only_run(service.res)

    cause, about = run["caused_by"], str(run["id"])
    (planned,) = named(lines, "runs.planned")
    assert [line for line in named(lines, "events.kept") if cause in line["event_ids"]]
    assert cause in [line["event_id"] for line in named(lines, "event.finished") if line["outcome"] == "handled"]
    assert planned["caused_by"] == cause
    # Loading its rows continues in the background, or is broken off by the end.
    of_run = [line for line in lines if line.get("run_id") == about and line["event"] != "file.loaded"]
    assert [(line["event"], line["outcome"]) for line in of_run] == [("run.asked", "made"), ("run.fetched", "stored")]
    assert {line["caused_by"] for line in of_run} == {cause}
    (settled,) = [line for line in named(lines, "event.finished") if about in line.get("run_ids", ())]
    assert settled["type"] == "reporting.report_run.succeeded"


async def test_the_id_of_a_request_leads_to_the_stored_file(database_url: str, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-02")
    with capture_logs(processors=WITH_WHAT_IS_BOUND) as lines:
        async with running(make_settings(database_url, simulator)) as service:
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "X-Request-Id": "mine-1"}
            url = str(service.url)
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
                interval = {"interval_start": "2026-03-01T00:00:00Z", "interval_end": "2026-03-02T00:00:00Z"}
                await client.post("/v1/runs", json={"report_type": REPORT_TYPE, **interval})
                await client.get("/health")
            await until_logged(lines, "run.fetched")

    (answered,) = named(lines, "api.answered")
    assert (answered["request_id"], answered["actor"], answered["status"]) == ("mine-1", "admin", 201)
    assert {line["event"] for line in lines if line.get("caused_by") == "mine-1"} >= {"run.asked", "run.fetched"}
