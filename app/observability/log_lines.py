"""The canonical log line: each finished operation writes one line and, with tracing on, one span with the same facts.

Ids connect the work: the id of an event or a request is stored with the runs that it caused (`caused_by`), and every
later line about such a run carries it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import structlog

from app.observability import tracing
from app.observability.tracing import Kind

log = structlog.get_logger()


@dataclass(slots=True)
class Cause:
    """One of several things handled in one batch: its id, its trace, and the runs it turned out to concern.

    `runs` maps the ids of those runs to their traces.
    """

    id: str
    traceparent: str | None
    runs: dict[str, str | None] = field(default_factory=dict)


# By account and Stripe object id.
Causes = Mapping[tuple[str, str | None], Cause]

_facts: ContextVar[dict[str, object] | None] = ContextVar("facts", default=None)
_causes: ContextVar[Causes | None] = ContextVar("causes", default=None)


@contextmanager
def operation(name: str, *, parent: str | None = None, kind: Kind = Kind.INTERNAL, **ids: object) -> Iterator[None]:
    """Run an operation: its ids are bound to every line written inside, and its own line is written at the end.

    `name` is past tense: `run.asked`. `parent` is the `traceparent` stored with the row being worked on.
    """
    began, facts = time.perf_counter(), dict[str, object]()
    token = _facts.set(facts)
    known = {name: value for name, value in ids.items() if value is not None}
    try:
        with tracing.span(name, parent=parent, kind=kind, **known):
            trace = tracing.trace_id()
            bound = known if trace is None else known | {"trace_id": trace}
            with structlog.contextvars.bound_contextvars(**bound):
                try:
                    yield
                except BaseException as error:
                    facts["outcome"] = type(error).__name__
                    raise
                finally:
                    tracing.note(**facts)
                    log.info(name, **facts, seconds=round(time.perf_counter() - began, 3))
    finally:
        _facts.reset(token)


def annotate(**facts: object) -> None:
    """Add facts to the current operation's line; outside an operation this does nothing."""
    noted = _facts.get()
    if noted is not None:
        noted.update(facts)


@contextmanager
def bind_causes(causes: Causes) -> Iterator[None]:
    """Handle several things in one batch: `cause_of` and `link_run` tell them apart."""
    token = _causes.set(causes)
    try:
        yield
    finally:
        _causes.reset(token)


def log_handled(name: str, cause: Cause, *, seconds: float, **fields: object) -> None:
    """Write the line and the span of one finished thing of a batch."""
    if cause.runs:
        fields["run_ids"] = list(cause.runs)
    tracing.record(
        name, parent=cause.traceparent, kind=Kind.CONSUMER, links=cause.runs.values(), seconds=seconds, **fields
    )
    trace = None if cause.traceparent is None else tracing.trace_of(cause.traceparent)
    log.info(name, **fields, **({} if trace is None else {"trace_id": trace}), seconds=round(seconds, 3))


def link_run(account: str, about: str, run_id: object, traceparent: str | None) -> None:
    """Note that what is being handled about this Stripe object concerns this run of ours."""
    if (cause := _cause(account, about)) is not None:
        cause.runs[str(run_id)] = traceparent


def cause_of(account: str, about: str | None = None) -> dict[str, str | None]:
    """What caused a new run, to be stored with it: the event about it, the request, or whatever is bound."""
    if (cause := _cause(account, about)) is not None:
        return {"caused_by": cause.id, "traceparent": cause.traceparent}
    return {"caused_by": _bound_cause(), "traceparent": tracing.traceparent()}


def _cause(account: str, about: str | None) -> Cause | None:
    causes = _causes.get()
    return None if causes is None else causes.get((account, about))


def _bound_cause() -> str | None:
    bound = structlog.contextvars.get_contextvars()
    found = next((bound[name] for name in ("caused_by", "event_id", "request_id") if name in bound), None)
    return None if found is None else str(found)
