"""Finds the service's effects by instrumentation, and can kill it right before or right after any of them.

An effect is what the outside can see of a process: a commit that changed something, a call to Stripe or to a target, a
piece of a file that arrives. All of them pass through the database driver's dialect or the HTTP client's transport, and
are caught there. Nothing here knows the flow; everything that it does is counted.
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal
from unittest.mock import patch

import greenlet  # type: ignore[import-untyped]  # it brings no types, and we use three names of it
import httpx
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg

import app.db.engine
from app.stripe_api.transport import AiohttpTransport
from app.targets.guard import GuardedTransport

APP = f"{Path(__file__).parents[2] / 'app'}{os.sep}"
ENGINE = app.db.engine.__file__

_ID = re.compile(r"(frr|file)_\w+")

Kind = Literal["commit", "call", "piece"]
Side = Literal["before", "after"]


class Crashed(BaseException):
    """The process is dead: nothing that it still tries takes effect."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect: the first is number 1. `place` is the call, or the function of the service that caused it."""

    number: int
    kind: Kind
    place: str


class Effects:
    """What one process after the other does; `crash` ends the life of the one that comes to that point."""

    def __init__(self) -> None:
        self.seen: list[Effect] = []
        self.died = asyncio.Event()
        self._crash: tuple[int, Side] | None = None
        self._crashed_at: Effect | None = None

    @property
    def crashed_at(self) -> Effect | None:
        """The effect at which the planned crash came about, if it did."""
        return self._crashed_at

    def crash(self, number: int, side: Side) -> None:
        """Die at the effect that is `number` effects from now on."""
        self._crash = (len(self.seen) + number, side)

    def revive(self) -> None:
        """A new process takes the dead one's place; it does not die at the same point."""
        self.died.clear()
        self._crash = None

    def begin(self, kind: Kind, place: str) -> Effect:
        """An effect is about to happen."""
        if self.died.is_set():
            raise Crashed
        effect = Effect(len(self.seen) + 1, kind, place)
        self.seen.append(effect)
        self._die_if_due(effect, "before")
        return effect

    def end(self, effect: Effect) -> None:
        """It happened."""
        if self.died.is_set():
            raise Crashed
        self._die_if_due(effect, "after")

    def _die_if_due(self, effect: Effect, side: Side) -> None:
        if self._crash == (effect.number, side):
            self._crashed_at = effect
            self.died.set()
            raise Crashed


@contextmanager
def watched() -> Iterator[Effects]:
    """The effects of whatever runs inside; one process of the service at a time."""
    effects = Effects()
    send, send_message = AiohttpTransport.handle_async_request, GuardedTransport.handle_async_request
    places: dict[int, str] = {}

    async def call(transport: AiohttpTransport, request: httpx.Request) -> httpx.Response:
        effect = effects.begin("call", f"{request.method} {_ID.sub('*', request.url.path)}")
        try:
            response = await send(transport, request)
        finally:
            effects.end(effect)
        if request.url.path.endswith("/contents"):
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _Pieces(response.stream, effects)
        return response

    async def call_target(transport: GuardedTransport, request: httpx.Request) -> httpx.Response:
        effect = effects.begin("call", f"{request.method} to a target")
        try:
            return await send_message(transport, request)
        finally:
            effects.end(effect)

    def commit(_: PGDialectAsync_psycopg, connection: Any) -> None:
        if not _changed_something(connection):
            connection.commit()
            return
        effect = effects.begin("commit", places.pop(id(connection.dbapi_connection), "") or _place())
        connection.commit()
        effects.end(effect)

    def statement(connection: Connection, *_: object) -> None:
        # A session commits in a task of its own, from where its user cannot be seen any more.
        places[id(connection.connection.dbapi_connection)] = _place()

    with (
        _listening("before_cursor_execute", statement),
        patch.object(PGDialectAsync_psycopg, "do_commit", commit),
        patch.object(AiohttpTransport, "handle_async_request", call),
        patch.object(GuardedTransport, "handle_async_request", call_target),
    ):
        yield effects


@contextmanager
def _listening(name: str, listener: Callable[..., None]) -> Iterator[None]:
    event.listen(Engine, name, listener)
    try:
        yield
    finally:
        event.remove(Engine, name, listener)


class _Pieces(httpx.AsyncByteStream):
    """A body whose pieces are effects."""

    def __init__(self, pieces: httpx.AsyncByteStream, effects: Effects) -> None:
        self._pieces = pieces
        self._effects = effects

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            effect = self._effects.begin("piece", _place())
            yield piece
            self._effects.end(effect)

    async def aclose(self) -> None:
        await self._pieces.aclose()


def _changed_something(connection: Any) -> bool:
    # PostgreSQL gives a transaction its id with the first thing that it writes (a row's lock counts). Asked through
    # libpq: through SQLAlchemy and the event loop it takes a sixth of the story's time.
    found = connection.driver_connection.pgconn.exec_(b"select pg_current_xact_id_if_assigned() is not null")
    return bool(found.get_value(0, 0) == b"t")


def _place() -> str:
    """The service's innermost function on the stack, as `runs.request.claim_requests`."""
    for frame in _stack():
        file = frame.f_code.co_filename
        if file.startswith(APP) and file != ENGINE:
            module = file.removeprefix(APP).removesuffix(".py").replace(os.sep, ".")
            return f"{module}.{frame.f_code.co_name}"
    return "?"


def _stack() -> Iterator[FrameType]:
    """All frames, innermost first; SQLAlchemy's synchronous half runs in a greenlet, whose parent has the callers."""
    current: Any = greenlet.getcurrent()
    frame: FrameType | None = sys._getframe()
    while current is not None:
        while frame is not None:
            yield frame
            frame = frame.f_back
        current = current.parent
        frame = None if current is None else current.gr_frame
