"""OpenTelemetry traces: on if its usual variables ask for them, and free of cost if they do not.

A later step, often in another process, continues the trace that caused it: the rows store a `traceparent`
(W3C). Everything that goes into a span passes through here and is redacted; bodies, headers and queries never do.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

from app import __version__
from app.observability.logs import redact

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanContext, Tracer

log = structlog.get_logger()

# Unsent spans get this long at the end; we promise that a process exits within 15 s.
FLUSH_SECONDS = 3.0


class Kind(StrEnum):
    """The role of this process in a span."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    CONSUMER = "CONSUMER"


@dataclass(slots=True)
class _Process:
    """Like logging itself, one per process; without a tracer nothing happens."""

    tracer: "Tracer | None" = None


_process = _Process()


def is_on() -> bool:
    """Whether spans go anywhere."""
    return _process.tracer is not None


def span(
    name: str, *, parent: str | None = None, kind: Kind = Kind.INTERNAL, **attributes: object
) -> AbstractContextManager[object]:
    """A span around the block; `parent` is a stored `traceparent`, by default the current span."""
    return nullcontext() if _process.tracer is None else _span(_process.tracer, name, parent, kind, attributes)


def note(**attributes: object) -> None:
    """Add attributes to the current span."""
    if _process.tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(_clean(attributes))


def record(
    name: str, *, parent: str | None, kind: Kind, links: Iterable[str | None], seconds: float, **attributes: object
) -> None:
    """Record a span that has just ended and took this long."""
    if _process.tracer is None:
        return
    from opentelemetry.trace import Link, SpanKind

    ended = time.time_ns()
    _process.tracer.start_span(
        name,
        context=None if parent is None else _context(parent),
        kind=SpanKind[kind],
        attributes=_clean(attributes),
        links=[Link(_span_of(kept)) for kept in links if kept is not None],
        start_time=ended - int(seconds * 1e9),
    ).end(ended)


def traceparent() -> str | None:
    """The current span as a `traceparent`, to be stored with what it causes; None without a span."""
    if _process.tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def trace_id() -> str | None:
    """The id of the current trace, for log lines."""
    kept = traceparent()
    return None if kept is None else trace_of(kept)


def trace_of(traceparent: str) -> str:
    """The trace id in a stored `traceparent`."""
    return traceparent.split("-")[1]


@contextmanager
def exporting() -> Iterator[None]:
    """Export this process's spans as the environment says, until the end of the block; do nothing if it does not."""
    provider = _provider() if wanted(os.environ) else None
    if provider is None:
        yield
        return
    _process.tracer = provider.get_tracer("tallyhook", __version__)
    try:
        yield
    finally:
        _process.tracer = None
        # In a daemon thread: a collector that does not answer must not hold up the exit.
        flushing = threading.Thread(target=provider.shutdown, name="traces-flush", daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables ask for traces: an exporter by name, or an endpoint."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter:
        return exporter != "none"
    return any(environ.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", "TRACES_"))


def _provider() -> "TracerProvider | None":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning(
            "tracing.not_installed",
            detail="OTEL_… turns traces on: install the packages with `make run EXTRAS=tracing`",
        )
        return None
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if os.environ.get(name, "http/protobuf") != "http/protobuf":
            log.warning("tracing.other_protocol", detail=f"{name} is not supported: traces are sent as http/protobuf")
    about = {"service.version": __version__}
    if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        about["service.name"] = "tallyhook"
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


@contextmanager
def _span(
    tracer: "Tracer", name: str, parent: str | None, kind: Kind, attributes: Mapping[str, object]
) -> Iterator[None]:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    # Exceptions are shown by class only: their messages and tracebacks may contain anything.
    with tracer.start_as_current_span(
        name,
        context=None if parent is None else _context(parent),
        kind=SpanKind[kind],
        attributes=_clean(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except BaseException as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def _context(traceparent: str) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, context=Context())


def _span_of(traceparent: str) -> "SpanContext":
    from opentelemetry.trace import get_current_span

    return get_current_span(_context(traceparent)).get_span_context()


def _clean(attributes: Mapping[str, object]) -> dict[str, Any]:
    """The value as a span attribute: numbers unchanged, lists as strings, secrets redacted, empty values dropped."""
    return {name: _value(value) for name, value in attributes.items() if value is not None}


def _value(value: object) -> Any:
    match value:
        case bool() | int() | float():
            return value
        case list() | tuple():
            return [redact(str(item)) for item in value]
    return redact(str(value))
