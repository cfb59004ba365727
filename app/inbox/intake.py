"""Stores each Stripe event exactly once: read it (`delivery`), insert or do nothing, and answer after the commit.

Deliveries that arrive while a commit is under way are committed together, in one statement (measured: two to six
times as many per second as one by one). Why not by `queue/group_commit`: docs/decisions/0005.

The events table is the inbox: there are no jobs, and the NOTIFY that wakes the workers follows the commit
(docs/decisions/0002): inside, it would hold a server-wide lock until the commit is on disk, so commits would take
turns.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import repeat
from types import TracebackType
from typing import Never, Self

import structlog

from app.background import outlive
from app.db.cutting import LATER_SECONDS, end_soon
from app.db.engine import make_engine
from app.db.errors import is_transient
from app.db.own_connection import OwnConnection
from app.errors import RejectedDelivery, Unavailable
from app.inbox.deadlines import Deadlines
from app.inbox.delivery import IncomingEvent, Members, check_header, read_event
from app.inbox.keeping import handle_again, keep, packed
from app.inbox.refused import RefusedDeliveries
from app.observability.metrics import Metrics
from app.queue.wakeups import CHANNEL, RECONNECT_SECONDS, Wakeups
from app.settings import Account, Settings
from app.vocabulary import Lane

log = structlog.get_logger()

# One commit in flight while the next group fills.
WRITERS = 2
GROUP_LIMIT = 200
# The shortest time between two wake-ups: all commits in between share one.
WAKE_SECONDS = 0.005
# More than this waiting means that the database cannot keep up: 503, and Stripe delivers again.
QUEUE_LIMIT = 2000
# A process that stored this many events in this many seconds leaves room for more.
BUSY_EVENTS = 20
BUSY_SECONDS = 10.0
# We promise Stripe an answer within 5 s, also when the database is down.
ANSWER_SECONDS = 4.5
# By then no request waits for the commit: a connection that has not answered is abandoned.
TRANSACTION_SECONDS = 5.0


# Nobody waits for the disk: there is nothing to put there.
_WAKE = "select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)"


class Intake:
    """Takes deliveries from many concurrent requests and commits them in groups."""

    def __init__(
        self, url: str, settings: Settings, metrics: Metrics | None = None, wakeups: Wakeups | None = None
    ) -> None:
        self._metrics, self._wakeups = metrics or Metrics(), wakeups or Wakeups()
        self._accounts = settings.accounts
        self._members = (self._accounts.version, Members(self._accounts.values()))
        self._engine = make_engine(
            url, pool_size=WRITERS + 2, transaction_seconds=TRANSACTION_SECONDS, autocommit=True, prepare_after=0
        )
        self._waiting: asyncio.Queue[tuple[IncomingEvent, asyncio.Future[None]]] = asyncio.Queue(QUEUE_LIMIT)
        self._deadlines = Deadlines(ANSWER_SECONDS)
        # The pool has one more: for `refused`.
        *self._own, self._waker = [OwnConnection(self._engine, seconds=TRANSACTION_SECONDS) for _ in range(WRITERS + 1)]
        self._writers: list[asyncio.Task[None]] = []
        self._due = asyncio.Event()  # something was committed, and no worker was woken for it yet
        self._waking: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self._waking.set_result(True)
        self._kept_at: deque[float] = deque(maxlen=BUSY_EVENTS)
        self.refused = RefusedDeliveries()

    async def __aenter__(self) -> Self:
        self._writers = [asyncio.create_task(self._write_groups(own)) for own in self._own]
        self._writers.append(asyncio.create_task(self._wake_workers(), name="wake-workers"))
        self._writers.append(asyncio.create_task(self.refused.keep_on(self._engine), name="keep-refused"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        with suppress(TimeoutError):
            async with self._waker, asyncio.timeout(LATER_SECONDS):
                await asyncio.gather(self._waking, return_exceptions=True)
                # Otherwise the database is down, and workers look without being woken.
                if self._due.is_set() and self._waking.result():
                    await outlive("intake.wake_up", self._wake())
        await self.refused.keep(self._engine)
        await self._engine.dispose()

    def end_soon(self) -> None:
        """The process ends."""
        end_soon(self._engine)

    @property
    def is_busy(self) -> bool:
        """Whether this process is taking so many events that other work should leave it a core."""
        return len(self._kept_at) == BUSY_EVENTS and time.monotonic() - self._kept_at[0] < BUSY_SECONDS

    def account(self, slug: str) -> Account | None:
        """The account with this slug, if it has a signing secret."""
        account = self._accounts.get(slug)
        return account if account is not None and account.webhook_secrets else None

    def check_header(self, signature: str, account: Account) -> None:
        """Check the signature header before the body is read. Raises RejectedDelivery."""
        with self._counting(account):
            check_header(signature, now=time.time())

    async def accept(self, body: bytes, signature: str, account: Account) -> None:
        """Store the event of this delivery; returns after the commit. Raises RejectedDelivery, Unavailable."""
        with self._counting(account):
            kept = self.offer(body, signature, account)
        await kept

    def offer(self, body: bytes, signature: str, account: Account) -> asyncio.Future[None]:
        """The same without waiting: the future is done after the commit, or fails with Unavailable.

        A refused delivery is not counted. Raises RejectedDelivery, Unavailable.
        """
        event = read_event(body, signature, account, self._present_members(), now=time.time())
        kept = self._deadlines.future()
        try:
            self._waiting.put_nowait((event, kept))
        except asyncio.QueueFull as error:
            kept.cancel()
            raise Unavailable("the database is not answering") from error
        return kept

    def _present_members(self) -> Members:
        version, members = self._members
        if version != self._accounts.version:
            members = Members(self._accounts.values())
            self._members = self._accounts.version, members
        return members

    @contextmanager
    def _counting(self, account: Account) -> Iterator[None]:
        try:
            yield
        except RejectedDelivery as error:
            self.refused.add(account.slug, error.reason)
            raise

    async def _write_groups(self, own: OwnConnection) -> None:
        writer = asyncio.current_task()
        async with own:
            # A connection that breaks just as its writer is cancelled raises a database error; it means no more.
            while writer is not None and not writer.cancelling():
                group = [await self._waiting.get()]
                while len(group) < GROUP_LIMIT and not self._waiting.empty():
                    group.append(self._waiting.get_nowait())
                outcome = await self._try_to_keep(own, [event for event, _ in group])
                self._tell([(event, kept) for event, kept in group if not kept.done()], outcome)

    def _tell(self, group: list[tuple[IncomingEvent, asyncio.Future[None]]], outcome: Unavailable | None) -> None:
        if outcome is not None:
            for _, kept in group:
                kept.set_exception(outcome)
            return
        taken: Counter[tuple[str, str, str]] = Counter()
        for event, kept in group:
            kept.set_result(None)
            taken[event.account, "other" if event.payload is None else event.type, event.status.value] += 1
        for labels, number in taken.items():
            self._metrics.deliveries.labels(*labels).inc(number)

    async def _try_to_keep(self, own: OwnConnection, events: list[IncomingEvent]) -> Unavailable | None:
        try:
            await self._keep(own, events)
        except Exception as error:
            # The writer serves all later groups too: it must survive any error of this one.
            if is_transient(error):
                log.warning("intake.database_away", error=type(error).__name__, events=len(events))
            else:
                log.exception("intake.crashed", events=len(events))
        else:
            return None
        return Unavailable("the database is not answering")

    async def _keep(self, own: OwnConnection, events: list[IncomingEvent]) -> None:
        # Unique and always in the same order: two groups that share events cannot deadlock.
        unique = {(event.account, event.stripe_event_id): event for event in events}
        rows = [unique[key] for key in sorted(unique)]
        columns = packed(rows)
        # Each statement is its own transaction: what is stored stays stored, and the replay can be requested again.
        new, due = await keep(own, columns)
        if due:
            self._is_due()
        if new < len(rows) and await handle_again(own, columns):
            self._is_due()
        self._kept_at.extend(repeat(time.monotonic(), min(len(events), BUSY_EVENTS)))
        # One log line per commit: one per event would cost as much as storing it. Senders and the worker come first.
        line = partial(log.info, "events.kept", event_ids=[event.stripe_event_id for event in rows], new=new)
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, line)

    def _is_due(self) -> None:
        self._due.set()
        # Wake this process's own worker at once: the detour through the server takes a millisecond or two.
        self._wakeups.ring([Lane.INBOX])

    async def _wake_workers(self) -> Never:
        while True:
            await self._due.wait()
            # Wait until it is open: a connection whose task is cancelled while opening stays open for a while.
            self._waking = asyncio.ensure_future(outlive("intake.wake_up", self._wake()))
            woken = await asyncio.shield(self._waking)
            await asyncio.sleep(WAKE_SECONDS if woken else RECONNECT_SECONDS)

    async def _wake(self) -> bool:
        self._due.clear()
        words = f"{Lane.INBOX.value} {self._wakeups.own_word}"
        try:
            await self._waker.execute(_WAKE, (CHANNEL.encode(), words.encode()))
        except Exception:
            self._due.set()
            raise
        return True
