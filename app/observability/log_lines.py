"""A finished step is one line in the log and, where traces are on, one span: the same name, ids and outcome in both.

Work is followed by ids: an event's id or a request's is kept with the runs that it caused (`caused_by`), and every
later line about such a run has it.
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
class Told:
    """One of several things that are handled together: what it is known by, and the runs that it turned out to concern.

    `runs` are the traces of those runs by their ids.
    """

    id: str
    traceparent: str | None
    runs: dict[str, str | None] = field(default_factory=dict)


# By account and the id of what they are about.
Together = Mapping[tuple[str, str | None], Told]

_facts: ContextVar[dict[str, object] | None] = ContextVar("facts", default=None)
_together: ContextVar[Together | None] = ContextVar("together", default=None)


@contextmanager
def step(name: str, *, parent: str | None = None, kind: Kind = Kind.INTERNAL, **ids: object) -> Iterator[None]:
    """Do a step: its ids are in every line that is written meanwhile, its own line comes when it is finished.

    `name` is past tense: `run.asked`. `parent` is the `traceparent` that was kept with what is worked on.
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


def tell(**facts: object) -> None:
    """Say something about the step that is under way: it is part of its line. Outside of any step nothing happens."""
    telling = _facts.get()
    if telling is not None:
        telling.update(facts)


@contextmanager
def handling(together: Together) -> Iterator[None]:
    """Handle these things together: `origin` and `concerns` tell one from the other."""
    token = _together.set(together)
    try:
        yield
    finally:
        _together.reset(token)


def handled(name: str, told: Told, *, seconds: float, **fields: object) -> None:
    """One of them is finished: its line, and its span."""
    if told.runs:
        fields["run_ids"] = list(told.runs)
    tracing.record(
        name, parent=told.traceparent, kind=Kind.CONSUMER, links=told.runs.values(), seconds=seconds, **fields
    )
    trace = None if told.traceparent is None else tracing.trace_of(told.traceparent)
    log.info(name, **fields, **({} if trace is None else {"trace_id": trace}), seconds=round(seconds, 3))


def concerns(account: str, about: str, run_id: object, traceparent: str | None) -> None:
    """What was told about this (a Stripe run, by its id) is about this run of ours."""
    if (told := _told(account, about)) is not None:
        told.runs[str(run_id)] = traceparent


def origin(account: str, about: str | None = None) -> dict[str, str | None]:
    """What a new run goes back to, to be kept with it: the event that told, the request, or whatever else is bound."""
    if (told := _told(account, about)) is not None:
        return {"caused_by": told.id, "traceparent": told.traceparent}
    return {"caused_by": _bound_cause(), "traceparent": tracing.traceparent()}


def _told(account: str, about: str | None) -> Told | None:
    together = _together.get()
    return None if together is None else together.get((account, about))


def _bound_cause() -> str | None:
    bound = structlog.contextvars.get_contextvars()
    found = next((bound[name] for name in ("caused_by", "event_id", "request_id") if name in bound), None)
    return None if found is None else str(found)
