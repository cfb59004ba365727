"""Traces: from a delivery to the stored file, over real HTTP to a collector; and nothing by default."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.observability import tracing
from app.resources import Resources
from app.serving import running
from app.simulator import Simulator
from tests.observability.collector import collecting
from tests.service import (
    ADMIN_TOKEN,
    REPORT_TYPE,
    WEBHOOK_SECRET,
    add_rule,
    at,
    fetch,
    make_settings,
    only_run,
    unpublished,
)
from tests.worker.workers import until_stored


def about(span: Span) -> dict[str, Any]:
    """A span's attributes."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in span.attributes}


async def test_the_spans_of_one_report_hang_together_from_the_delivery_to_the_file(
    database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(database_url, simulator, TALLYHOOK_PENDING_POLL_SECONDS=900)
    simulator.configure(delay=0.5)  # so that no event overtakes the answer that tells the run's id
    with collecting(monkeypatch) as collector:
        async with running(settings) as service:
            simulator.add_endpoint(f"{service.url}/webhooks/stripe", secrets=[WEBHOOK_SECRET])
            await add_rule(service.res)
            simulator.advance(REPORT_TYPE, to=at("2026-03-02"))
            await until_stored(service.res, 1)
            run = await only_run(service.res)

        asked = one(collector.named("run.asked"))
        received = {span.span_id: span for span in collector.named("webhook.received")}
        (told,) = [span for span in collector.named("event.finished") if about(span)["event_id"] == run["caused_by"]]
        (settled,) = [span for span in collector.named("event.finished") if span.links]
        fetched = one(collector.named("run.fetched"))

        assert told.parent_span_id in received
        assert asked.parent_span_id == fetched.parent_span_id == told.parent_span_id
        assert {asked.trace_id, fetched.trace_id, told.trace_id} == {received[told.parent_span_id].trace_id}
        assert settled.links[0].span_id == told.parent_span_id
        assert settled.parent_span_id in received
        assert {about(span)["run_id"] for span in (asked, fetched)} == {str(run["id"])}
        assert about(fetched)["outcome"] == "stored"
        (create,) = collector.named("stripe POST /v1/reporting/report_runs")
        assert (create.parent_span_id, create.kind) == (asked.span_id, Span.SPAN_KIND_CLIENT)
        assert about(create)["http.response.status_code"] == "200"
        assert collector.resource["service.name"] == "tallyhook"


async def test_requested_work_continues_in_the_trace_of_the_request(
    database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpublished(simulator, until="2026-03-02")
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    with collecting(monkeypatch) as collector:
        async with running(make_settings(database_url, simulator)) as service:
            async with httpx.AsyncClient(base_url=str(service.url), timeout=30, trust_env=False) as client:
                headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "traceparent": parent, "X-Request-Id": "mine"}
                interval = {"interval_start": "2026-03-01T00:00:00Z", "interval_end": "2026-03-02T00:00:00Z"}
                answer = await client.post("/v1/runs", headers=headers, json={"report_type": REPORT_TYPE, **interval})
            assert answer.status_code == 201, answer.text
            await until_stored(service.res, 1)

        (request,) = collector.named("api.answered")
        assert request.trace_id.hex() == "ab" * 16
        assert about(request)["http.route"] == "/v1/runs"
        assert (about(request)["actor"], about(request)["request_id"]) == ("admin", "mine")
        fetched = one(collector.named("run.fetched"))
        assert (fetched.trace_id, fetched.parent_span_id) == (request.trace_id, request.span_id)
        assert about(fetched)["caused_by"] == "mine"


async def test_an_error_is_recorded_by_its_class_and_never_by_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting(monkeypatch) as collector:
        with tracing.exporting(), pytest.raises(ValueError, match="customer"):
            _fail_in_a_span()

        (span,) = collector.spans()
        assert (span.status.code, span.status.message) == (span.status.STATUS_CODE_ERROR, "ValueError")
        assert about(span)["key"] == "[redacted]"
        for canary in (b"sk_live_abc", b"0123456789abcdefgh", b"whsec_123", b"customer"):
            assert canary not in b"".join(collector.bodies)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SERVICE_NAME": "tallyhook", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318"}, False),
    ],
)
def test_traces_are_on_where_the_usual_variables_say_so(environ: dict[str, str], wanted: bool) -> None:
    assert tracing.wanted(environ) is wanted


async def test_with_traces_off_nothing_is_kept_with_the_rows(res: Resources) -> None:
    with tracing.exporting(), tracing.span("it"):
        await add_rule(res)

    assert await fetch(res, "select 1 from runs where traceparent is not null") == []


def test_a_collector_that_does_not_answer_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.2)
    answering = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answering.wait(60)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with tracing.exporting(), tracing.span("it"):
            pass
        flushing = [thread for thread in threading.enumerate() if thread.name == "traces-flush"]
        assert flushing, "the end did not wait for it"
        assert all(thread.daemon for thread in flushing)
        answering.set()
        for thread in flushing:
            thread.join()
        server.shutdown()


def _fail_in_a_span() -> None:
    with tracing.span("it", key="sk_live_abc"):
        tracing.note(said="Bearer 0123456789abcdefgh", list=["whsec_123"], nothing=None)
        raise ValueError("what a customer wrote")


def one(spans: list[Span]) -> Span:
    """The one that succeeded; failed tries come before it."""
    (found,) = [span for span in spans if about(span)["outcome"] in ("made", "stored")]
    return found
