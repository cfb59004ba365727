"""The simulator's own time: real time unless it is set, advanced or stopped, and an agenda that follows it."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Instant: TypeAlias = int | float | datetime
"""Unix seconds, or an aware datetime."""


def unix(instant: Instant) -> int:
    """Whole Unix seconds; a naive datetime is refused, because it names no instant."""
    if not isinstance(instant, datetime):
        return int(instant)
    if instant.tzinfo is None:
        raise ValueError("a time needs a zone: give Unix seconds or an aware datetime")
    return int(instant.timestamp())


def utc_text(moment: int) -> str:
    """`2026-03-01 00:00:00 UTC`, as Stripe writes instants into its messages."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class Clock:
    """Unix time that runs with the machine's, shifted, or stands still."""

    def __init__(self) -> None:
        self._shift = 0.0
        self._stopped_at: float | None = None

    @property
    def stopped(self) -> bool:
        return self._stopped_at is not None

    def now(self) -> float:
        return time.time() + self._shift if self._stopped_at is None else self._stopped_at

    def unix(self) -> int:
        return int(self.now())

    def set(self, to: float) -> None:
        if self._stopped_at is not None:
            self._stopped_at = to
        self._shift = to - time.time()

    def turn(self, *, to: Instant | None, advance: float, stopped: bool | None) -> None:
        """Sets it, moves it by seconds, stops it or lets it run."""
        if stopped:
            self.stop()
        if to is not None or advance:
            self.set((self.now() if to is None else unix(to)) + advance)
        if stopped is False:
            self.run()

    def stop(self) -> None:
        self._stopped_at = self.now()

    def run(self) -> None:
        if self._stopped_at is not None:
            self.set(self._stopped_at)
        self._stopped_at = None


class Agenda:
    """Things to do at given times of the clock, which `follow` keeps pace with once a server runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def at(self, due: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._entries, (due, next(self._numbers), action))
        self._set_alarm()

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.catch_up()

    def rest(self) -> None:
        """The loop ends: entries stay, and are caught up on when the agenda follows a clock again."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._loop = self._alarm = None

    def catch_up(self) -> None:
        """Does everything that is due, in order, then sets the alarm for the next entry."""
        while self._entries and self._entries[0][0] <= self._clock.now():
            heapq.heappop(self._entries)[2]()
        self._set_alarm()

    def clear(self) -> None:
        self._entries.clear()
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._loop is None or not self._entries or self._clock.stopped:
            return
        seconds = max(0.0, self._entries[0][0] - self._clock.now())
        self._alarm = self._loop.call_later(seconds, self.catch_up)
