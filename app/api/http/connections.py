"""All connections of one server within their limits: when room is short, the oldest incomplete request is dropped.

So signed deliveries are served, however many idle clients hold connections open.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import structlog

from app.settings import Settings

log = structlog.get_logger()

# One summary line for everything refused in between: a flood is logged without flooding the log.
REPORT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in bytes, in seconds, and in number of connections."""

    header_bytes: int
    header_seconds: float
    body_seconds: float
    idle_seconds: float
    connections: int
    unverified_bytes: int

    @classmethod
    def of(cls, settings: Settings, *, connections: int) -> "Limits":
        """The configured limits; two bodies of the largest size always fit."""
        return cls(
            header_bytes=settings.max_header_bytes,
            header_seconds=settings.header_seconds,
            body_seconds=settings.body_seconds,
            idle_seconds=settings.idle_seconds,
            connections=connections,
            unverified_bytes=max(settings.max_unverified_bytes, 2 * settings.max_body_bytes),
        )


class Droppable(Protocol):
    """A connection; `held` is how many bytes of its bodies are in memory."""

    held: int
    ended: bool

    def drop(self, reason: str) -> None:
        """Close at once, whatever is under way."""


class Connections:
    """All connections of one server, and which of them is dropped when room is short."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0  # bytes of bodies in memory whose request is not answered yet
        self.refused: Counter[str] = Counter()
        self._all: set[Droppable] = set()
        # In order of arrival: those without an answer yet; those answered before that are idle now.
        self._strangers: dict[Droppable, None] = {}
        self._idle: dict[Droppable, None] = {}
        self._reading: dict[Droppable, None] = {}  # in the middle of a body
        self._reported_at = 0.0

    def join(self, connection: Droppable) -> None:
        """Add a new connection; at the limit an older one is dropped for it, or it is dropped itself."""
        if len(self._all) >= self.limits.connections:
            waiting = self._strangers or self._idle
            next(iter(waiting), connection).drop("too_many_connections")
        if not connection.ended:
            self._all.add(connection)
            self._strangers[connection] = None

    def leave(self, connection: Droppable) -> None:
        """A connection has ended."""
        self._all.discard(connection)
        self.busy(connection)
        self.release(connection)

    def busy(self, connection: Droppable) -> None:
        """Its request has arrived completely and is being answered."""
        for group in (self._strangers, self._idle, self._reading):
            group.pop(connection, None)

    def wait(self, connection: Droppable) -> None:
        """It was answered, or does not read its answer: it is the first to be dropped when room is short."""
        if connection in self._all:
            self._idle[connection] = None

    def hold(self, connection: Droppable, size: int) -> None:
        """Count bytes of a body; the oldest unfinished bodies are dropped when they take too much memory."""
        self._reading[connection] = None
        connection.held += size
        self.held += size
        while self.held > self.limits.unverified_bytes and self._reading:
            next(iter(self._reading)).drop("too_many_bytes")

    def release(self, connection: Droppable) -> None:
        """The request is answered: its body is no longer in memory."""
        self._reading.pop(connection, None)
        self.held -= connection.held
        connection.held = 0

    def note(self, reason: str) -> None:
        """Something was refused."""
        self.refused[reason] += 1
        if time.monotonic() - self._reported_at >= REPORT_SECONDS:
            self._reported_at = time.monotonic()
            log.warning("web.connections_refused", refused=dict(self.refused))
