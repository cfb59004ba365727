"""The engine of the worker: loops, pools, leases and the grace period at the end. `steps` says which lane does what.

Each lane looks for due rows, works on them, and sleeps until it is woken or something becomes due (`due`). Any number
of workers may run side by side: a claim is one statement, with a lease and a fence.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import kept
from app.background import beside, cancellation_first, outlive, repeat
from app.db.errors import is_transient
from app.errors import Overtaken
from app.observability import log_lines
from app.queue import processes
from app.resources import Resources
from app.vocabulary import Lane
from app.worker.due import Alarm

log = structlog.get_logger()
C = TypeVar("C")
T = TypeVar("T")
C_contra = TypeVar("C_contra", contravariant=True)
# Work in a transaction that the engine opens for it.
Work = Callable[[AsyncSession], Awaitable[None]]

# A call in flight may still bring its outcome: at the end it gets this long (we promise 8 s).
GRACE_SECONDS = 8.0


class Renew(Protocol[C_contra]):
    """Extend these claims by `seconds`."""

    async def __call__(self, session: AsyncSession, claims: Sequence[C_contra], *, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Line:
    """The name and ids of a step in the log; `parent` is the stored span that it continues."""

    name: str
    ids: Mapping[str, Any]
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed(Generic[C_contra]):
    """How the engine treats claims of one kind, in any lane.

    `renew(session, claims, seconds=…)` extends them, `release(session, claim)` releases one untouched, and
    `crashed(res, claim, error)` counts a bug of ours against it.
    """

    renew: Renew[C_contra]
    release: Callable[[AsyncSession, C_contra], Awaitable[None]]
    crashed: Callable[[Resources, C_contra, Exception], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Loop:
    """A lane whose step does a bounded batch and returns how much; the step can be repeated, so it is stopped at once.

    A step that did less than `batch` left nothing: later work wakes the lane.
    """

    lane: Lane
    step: Callable[[Resources], Awaitable[int]]
    next_due: Sequence[str]
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Pool(Generic[C]):
    """A lane with up to `slots` claims under way; `grace` is how many seconds each gets when the process ends.

    `patience` is how many seconds after a step the lane looks again, if it had slots left: 0 if a step's end can itself
    make something due.
    """

    lane: Lane
    slots: int
    claim: Callable[[Resources, int], Awaitable[Sequence[C]]]
    step: Callable[[Resources, C], Awaitable[object]]
    kind: Claimed[C]
    line: Callable[[C], Line]
    next_due: Sequence[str]
    grace: float = 0.0
    patience: float = 0.0


@dataclass(slots=True)
class _Engine:
    """The running lanes of one process, and what they have under way."""

    res: Resources
    alarm: Alarm
    in_flight: dict[asyncio.Task[None], tuple[Claimed[Any], Any]] = field(default_factory=dict)
    _stopped_at: float | None = None

    def grace(self, seconds: float) -> float:
        """What is left of a grace of this many seconds; it begins with the stop, even if a claim was hanging then."""
        if not self.res.stopping.is_set():
            return 0.0
        now = asyncio.get_running_loop().time()
        if self._stopped_at is None:
            self._stopped_at = now
        return max(0.0, self._stopped_at + seconds - now)


async def run(
    res: Resources,
    lanes: Sequence[Loop | Pool[Any]],
    *,
    poll_seconds: float,
    beat: Work,
) -> None:
    """Work these lanes until `res.stopping` is set; calls in flight then get their grace period.

    Every `poll_seconds`, each lane with due work looks again. `beat` is called with each heartbeat.
    """
    alarm = Alarm(res, {lane.lane: lane.next_due for lane in lanes}, poll_seconds=poll_seconds)
    engine = _Engine(res, alarm)
    every = processes.report_every(res.settings.stalled_after_seconds)
    heartbeat = repeat("heartbeat", lambda: _beat(engine, beat), every=every)
    async with beside(listen=res.wakeups.listen(res.direct_url), alarm=alarm.run(), heartbeat=heartbeat):
        working = {asyncio.create_task(_work(engine, lane), name=lane.lane.value): lane for lane in lanes}
        loops = [task for task, lane in working.items() if isinstance(lane, Loop)]
        stopping = asyncio.create_task(_stop(engine, loops))
        try:
            await asyncio.gather(*working)
        finally:
            stopping.cancel()
            for task in working:
                task.cancel()
            await asyncio.gather(*working, stopping, return_exceptions=True)


async def _stop(engine: _Engine, loops: Sequence[asyncio.Task[None]]) -> None:
    await engine.res.stopping.wait()
    engine.grace(GRACE_SECONDS)  # begins
    engine.res.wakeups.ring()
    for loop in loops:
        loop.cancel()


async def _work(engine: _Engine, lane: Loop | Pool[Any]) -> None:
    try:
        await (_work_pool(engine, lane) if isinstance(lane, Pool) else _work_loop(engine, lane))
    except asyncio.CancelledError:
        if not engine.res.stopping.is_set():
            raise


async def _work_loop(engine: _Engine, loop: Loop) -> None:
    while not engine.res.stopping.is_set():
        done = await _look(engine, loop.lane, loop.step(engine.res))
        if done is not None:
            if done >= loop.batch:
                continue
            engine.alarm.ask(loop.lane)
        await engine.res.wakeups.wait(loop.lane)


async def _work_pool(engine: _Engine, pool: Pool[C]) -> None:
    running: set[asyncio.Task[None]] = set()
    had_room = False

    def look_again(_ended: asyncio.Task[None]) -> None:
        if had_room and pool.patience:
            engine.res.wakeups.ring_soon(pool.lane, seconds=pool.patience)
        else:
            engine.res.wakeups.ring([pool.lane])

    try:
        while not engine.res.stopping.is_set():
            # When all slots are taken, a step that ends wakes the lane.
            if free := pool.slots - len(running):
                claims = await _look(engine, pool.lane, pool.claim(engine.res, free))
                for claim in claims or ():
                    _begin(engine, pool, claim, running).add_done_callback(look_again)
                had_room = claims is not None and len(claims) < free
                if had_room:
                    engine.alarm.ask(pool.lane)
            await engine.res.wakeups.wait(pool.lane)
    finally:
        await _end(running, grace=engine.grace(pool.grace))


async def _look(engine: _Engine, lane: Lane, looking: Awaitable[T]) -> T | None:
    """What the lane found; None after an error, and then it is woken again soon."""
    engine.alarm.looks(lane)
    found = await outlive("lane", looking, lane=lane.value)
    if found is None:
        engine.alarm.ask_again_soon()
    return found


def _begin(engine: _Engine, pool: Pool[C], claim: C, running: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    line = pool.line(claim)
    task = asyncio.create_task(_step(engine.res, pool, claim, line), name=f"{pool.lane}:{line.name}")
    running.add(task)
    engine.in_flight[task] = pool.kind, claim
    task.add_done_callback(running.discard)
    task.add_done_callback(lambda done: engine.in_flight.pop(done, None))
    return task


async def _end(running: set[asyncio.Task[None]], *, grace: float) -> None:
    if running and grace:
        await asyncio.wait(running, timeout=grace)
    # A task that is cancelled before it starts never runs, and would not release its claim.
    await asyncio.sleep(0)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _step(res: Resources, pool: Pool[C], claim: C, line: Line) -> None:
    with log_lines.operation(line.name, parent=line.parent, lane=pool.lane.value, **line.ids):
        try:
            with cancellation_first():
                await pool.step(res, claim)
        except Overtaken:
            log_lines.annotate(outcome="overtaken")
        except asyncio.CancelledError:
            await outlive("lane", _in_transaction(res, lambda session: pool.kind.release(session, claim)))
            raise
        except Exception as error:
            if is_transient(error):
                # A database error never counts against the row: the lease expires, and it is claimed again.
                log_lines.annotate(outcome="database_trouble")
                log.warning("lane.database_trouble", error=type(error).__name__)
                return
            log_lines.annotate(outcome="crashed")
            log.exception("lane.step_crashed")
            await outlive("lane", pool.kind.crashed(res, claim, error))


async def _beat(engine: _Engine, beat: Work) -> None:
    """Renew the leases of what is under way, and report as alive; if one fails, the others are still done."""
    res = engine.res
    under_way: dict[Claimed[Any], list[Any]] = {}
    for kind, claim in engine.in_flight.values():
        under_way.setdefault(kind, []).append(claim)
    for kind, claims in under_way.items():
        renew = partial(kind.renew, claims=claims, seconds=res.settings.stalled_after_seconds)
        await outlive("heartbeat", _in_transaction(res, renew))
    alive = partial(processes.say_alive, process_id=res.worker_id, works_queue=True)
    await outlive("heartbeat", _in_transaction(res, alive))
    await outlive("heartbeat", _in_transaction(res, beat))


async def be_seen(res: Resources) -> None:
    """For a process without lanes: report as alive, and take up changed accounts, until `res.stopping` is set."""
    alive = partial(processes.say_alive, process_id=res.worker_id, works_queue=False)
    async with beside(listen=res.wakeups.listen(res.direct_url), accounts=kept.follow(res)):
        while not res.stopping.is_set():
            await outlive("heartbeat", _in_transaction(res, alive))
            with suppress(TimeoutError):
                async with asyncio.timeout(processes.report_every(res.settings.stalled_after_seconds)):
                    await res.stopping.wait()
    await outlive("heartbeat", processes.say_gone(res.sessions, res.worker_id))


async def _in_transaction(res: Resources, work: Work) -> None:
    async with res.sessions.begin() as session:
        await work(session)
