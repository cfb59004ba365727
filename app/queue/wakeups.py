"""Wake-ups: NOTIFY inside the transaction that makes something due (the intake: after it), LISTEN in the workers.

The rows are the queue (docs/decisions/0002): a claiming statement finds what is due. A wake-up only says that
it is worth looking; losing one costs at most `POLL_SECONDS`.
"""

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Never

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Batch
from app.db.cutting import cut_after
from app.db.engine import CONNECT_TIMEOUT_SECONDS, CONNECTING, libpq_conninfo
from app.vocabulary import Lane

log = structlog.get_logger()

CHANNEL = "tallyhook"
# Not a lane: accounts kept in rows were changed (app/keys/taking_up.py).
KEYS_WORD = "keys"
# The longest that a lane with something due sleeps: the cost of a lost wake-up.
POLL_SECONDS = 10.0
RECONNECT_SECONDS = 1.0
# These lanes look a little later, because work that somebody waits for comes first: a file before its rows, which take
# a core to load; a new window's run before the look for further windows.
PATIENT = frozenset({Lane.LOADS, Lane.RULES})
PATIENCE_SECONDS = 0.05
# Not a lane: runs became ready, so Stripe can make others. Their files come first.
SLOTS_WORD = "slots"

# A newer version may wake lanes that this one does not know.
_KNOWN = frozenset(lane.value for lane in Lane)

_NOTIFY = text("select pg_notify(:channel, :lanes)")


async def wake(session: AsyncSession, *lanes: Lane) -> None:
    """Wake these lanes in every process when the session's transaction commits."""
    batch = Batch(session)
    add_wake(batch, *lanes)
    await batch.send()


def add_wake(batch: Batch, *lanes: Lane) -> None:
    """Have the batch wake these lanes: see `wake`."""
    batch.add(_NOTIFY, {"channel": CHANNEL, "lanes": " ".join(lanes)})


class Wakeups:
    """The wake-ups of one process: an event per lane, set by NOTIFY. Unknown words are ignored."""

    def __init__(self) -> None:
        self._events = {lane: asyncio.Event() for lane in Lane}
        self._ringing_soon: dict[Lane, asyncio.TimerHandle] = {}
        self.keys_changed = asyncio.Event()
        self.listening = False
        # A NOTIFY with this word is this process's own: its lanes were already woken.
        self.own_word = f"from-{uuid.uuid4().hex}"

    def ring(self, lanes: Iterable[Lane] = tuple(Lane)) -> None:
        """Wake these lanes of this process."""
        for lane in lanes:
            self._events[lane].set()

    def ring_soon(self, lane: Lane, *, seconds: float) -> None:
        """Wake this lane of this process after `seconds`, or sooner if that was already going to happen."""

        def ring() -> None:
            del self._ringing_soon[lane]
            self.ring([lane])

        if lane not in self._ringing_soon:
            self._ringing_soon[lane] = asyncio.get_running_loop().call_later(seconds, ring)

    async def wait(self, lane: Lane, *, seconds: float | None = None) -> bool:
        """Return when the lane is woken (True), or after `seconds`."""
        event = self._events[lane]
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds is None else max(seconds, 0.0)):
                await event.wait()
        woken = event.is_set()
        event.clear()
        return woken

    async def listen(self, url: str) -> Never:
        """Listen forever; a lost connection only slows things down, and is opened again."""
        while True:
            try:
                await self._listen_once(url)
            except psycopg.Error as error:
                log.info("wakeups.connection_lost", error=type(error).__name__)
            except Exception:
                log.exception("wakeups.crashed")
            self.listening = False
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_once(self, url: str) -> None:
        connection = await psycopg.AsyncConnection.connect(
            libpq_conninfo(url),
            autocommit=True,
            application_name="tallyhook-listen",
            **CONNECTING,
        )
        async with connection:
            with cut_after(CONNECT_TIMEOUT_SECONDS, connection):
                await connection.execute(f"listen {CHANNEL}")
            self.listening = True
            self.ring()  # whatever became due while the connection was lost
            self.keys_changed.set()
            async for notification in connection.notifies():
                self._hear(notification.payload.split())

    def _hear(self, words: Sequence[str]) -> None:
        if KEYS_WORD in words:
            self.keys_changed.set()
        if self.own_word in words:
            return
        lanes = {Lane(word) for word in words if word in _KNOWN}
        self.ring(lanes - PATIENT)
        for lane in (lanes & PATIENT) | ({Lane.REQUESTS} if SLOTS_WORD in words else set()):
            self.ring_soon(lane, seconds=PATIENCE_SECONDS)
