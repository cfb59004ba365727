"""One timer for all deliveries that wait for a commit: one timer and one task cancellation each would cost more."""

import asyncio
from collections import deque

from app.errors import Unavailable


class Deadlines:
    """Futures that fail with `Unavailable` unless they are done after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()  # the earliest deadline first
        self._timer: asyncio.TimerHandle | None = None

    def future(self) -> asyncio.Future[None]:
        """A new future for a caller to await."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        self._waiting.append((loop.time() + self._seconds, future))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._give_up, loop)
        return future

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= loop.time()):
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Unavailable("the database is not answering"))
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._give_up, loop)
