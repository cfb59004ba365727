"""Database work in a thread, for code without an event loop: the migrations.

A thread cannot be cancelled, and a statement that a silent network has swallowed never ends. So the connection is cut
when the work is given up, or when a statement gets no answer for `ANSWER_SECONDS`: that wakes the thread.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event

from app.db.cutting import cut

ANSWER_SECONDS = 60.0

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """The result of this work, which uses one engine (`limited`). If this is cancelled, the work ends with an error."""
    line = _Line()
    token = _line.set(line)
    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        line.give_up()
        raise
    finally:
        _line.reset(token)


@contextmanager
def limited(engine: Engine) -> Iterator[None]:
    """Within the block, no statement on the engine's one connection waits forever for an answer."""
    line = _line.get(None) or _Line()
    # Before all other listeners: they ask a new connection a few things.
    event.listen(engine, "connect", line.opened, insert=True)
    for asked in ("before_cursor_execute", "commit", "rollback"):
        event.listen(engine, asked, line.expect_answer)
    try:
        yield
    finally:
        line.expect_nothing()


@contextmanager
def taking_its_time(connection: Connection) -> Iterator[None]:
    """Statements within the block may take as long as they need, until the work is given up."""
    line: _Line = connection.info[_Line]
    line.is_patient = True
    line.expect_nothing()
    try:
        yield
    finally:
        line.is_patient = False


class _Line:
    """The connection of one piece of work."""

    def __init__(self) -> None:
        self.is_patient = False
        self._raw: Any = None
        self._given_up = False
        self._timer: threading.Timer | None = None

    def opened(self, raw: Any, record: Any) -> None:
        self._raw = raw
        record.info[_Line] = self
        # Read after `_raw` was set; `give_up` does it in the other order, so that one of the two notices.
        if self._given_up:
            cut(raw)
        self.expect_answer()

    def expect_answer(self, *_: Any) -> None:
        self.expect_nothing()
        if not self.is_patient:
            self._timer = threading.Timer(ANSWER_SECONDS, cut, [self._raw])
            self._timer.daemon = True
            self._timer.start()

    def expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def give_up(self) -> None:
        self._given_up = True
        if self._raw is not None:
            cut(self._raw)


_line: ContextVar[_Line] = ContextVar("_line")
