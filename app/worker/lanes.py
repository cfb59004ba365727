"""Which lane of work runs which step. Start reading here.

Each lane asks the rows what is due, does it, and sleeps until it is woken or something becomes due. Any number of
workers may run beside each other: a claim is one statement, a lease and a fence.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from sqlalchemy import text

from app import handlers
from app.accounts import catch_up, holds
from app.accounts.identity import check_identity
from app.db.engine import DATABASE_ERRORS, is_transient
from app.errors import NotNow
from app.observability import log_lines
from app.queue import claims
from app.queue.claims import Claim, Overtaken
from app.queue.wakeups import POLL_SECONDS
from app.resources import Resources
from app.runs.download import claim_downloads, download
from app.runs.lookup import claim_lookups, look_up
from app.runs.put_off import crashed
from app.runs.request import request_run
from app.runs.request_claim import claim_requests
from app.vocabulary import Lane
from app.worker import due, timetable

log = structlog.get_logger()
C = TypeVar("C", bound=Claim)
T = TypeVar("T")

# How many calls to Stripe one process has under way in a lane; Stripe's own limits are counted over all processes.
LOOKUPS_AT_ONCE = 4
DOWNLOADS_AT_ONCE = 8
BIG_DOWNLOADS_AT_ONCE = 2
# A call in flight may tell us the outcome of what we asked: it gets this long at the end (contract §2).
GRACE_SECONDS = 8.0
# At start, for Stripe to say whose the keys are.
IDENTITY_SECONDS = 5.0
# A busy lane is woken again within this time, and then nobody needs to be asked what is due next.
BREATH_SECONDS = 0.02
# After an error of the database, or of our own, before a lane goes on.
PAUSE_SECONDS = 1.0


async def work(res: Resources) -> None:
    """Work every lane until `res.stopping` is set; calls in flight are then given their grace."""
    await _start(res)
    held: dict[asyncio.Task[None], Claim] = {}
    background = [
        asyncio.create_task(res.wakeups.listen(res.direct_url), name="listen"),
        asyncio.create_task(_stay_alive(res, held), name="stay-alive"),
    ]
    loops = [
        asyncio.create_task(_loop(res, Lane.INBOX, lambda: handlers.drain(res))),
        asyncio.create_task(_loop(res, Lane.TIMETABLE, lambda: timetable.do_what_is_due(res))),
    ]
    pools = [
        _pool(res, Lane.REQUESTS, held, slots=res.requests_at_once, claim=claim_requests, step=request_run),
        _pool(res, Lane.LOOKUPS, held, slots=LOOKUPS_AT_ONCE, claim=claim_lookups, step=look_up),
        _pool(
            res, Lane.DOWNLOADS, held, slots=DOWNLOADS_AT_ONCE,
            claim=lambda res, limit: claim_downloads(res, limit, big=False), step=download,
        ),
        _pool(
            res, Lane.BIG_DOWNLOADS, held, slots=BIG_DOWNLOADS_AT_ONCE,
            claim=lambda res, limit: claim_downloads(res, limit, big=True), step=download,
        ),
    ]  # fmt: skip
    ringing = asyncio.create_task(_ring_at_the_end(res, loops))
    try:
        await asyncio.gather(*loops, *pools)
    finally:
        for task in (*background, ringing):
            task.cancel()
        await asyncio.gather(*background, ringing, return_exceptions=True)
        with suppress(*DATABASE_ERRORS):
            async with res.sessions.begin() as session:
                await session.execute(text("delete from workers where id = :id"), {"id": res.worker_id})


async def _start(res: Resources) -> None:
    await timetable.make_all_due(res)
    await _check_identities(res)
    async with res.sessions.begin() as session:
        await holds.probe_all_now(session)
        values = {"id": res.worker_id, "host": socket.gethostname(), "pid": os.getpid()}
        await session.execute(_SEEN, values)
        await catch_up.move_marks(res, session)


async def _check_identities(res: Resources) -> None:
    """Before anything is asked for: a key of another account must not make a single run there."""
    with suppress(TimeoutError):
        async with asyncio.timeout(IDENTITY_SECONDS):
            await asyncio.gather(*(_check_identity(res, account) for account in sorted(res.stripe.accounts)))


async def _check_identity(res: Resources, account: str) -> None:
    # An account that does not answer now is asked again by the timetable, and keeps the others from nothing.
    with suppress(NotNow):
        await check_identity(res, account)


async def _ring_at_the_end(res: Resources, loops: list[asyncio.Task[None]]) -> None:
    await res.stopping.wait()
    res.wakeups.ring()
    for loop in loops:
        loop.cancel()


async def _loop(res: Resources, lane: Lane, step: Callable[[], Awaitable[int]]) -> None:
    """A lane whose step does a bounded batch and says how much it did; it can be done again, and so stops at once."""
    try:
        while not res.stopping.is_set():
            done = await _guarded(lane, step())
            if not done:
                await _sleep(res, lane)
    except asyncio.CancelledError:
        if not res.stopping.is_set():
            raise


async def _pool(
    res: Resources,
    lane: Lane,
    held: dict[asyncio.Task[None], Claim],
    *,
    slots: int,
    claim: Callable[[Resources, int], Awaitable[list[C]]],
    step: Callable[[Resources, C], Awaitable[None]],
) -> None:
    """A lane that has up to `slots` claims under way at once."""
    running: set[asyncio.Task[None]] = set()
    while not res.stopping.is_set():
        free = slots - len(running)
        claimed = await _guarded(lane, claim(res, free)) or []
        for one in claimed:
            task = asyncio.create_task(_step(res, lane, one, step), name=f"{lane}:{one.run_id}")
            running.add(task)
            held[task] = one
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda done: held.pop(done, None))
            task.add_done_callback(lambda _: res.wakeups.ring([lane]))
        # There was no more to be had, or no more fits: whatever changes that wakes the lane.
        await _sleep(res, lane, full=len(claimed) == free)
    await _end(res, lane, running)


async def _end(res: Resources, lane: Lane, running: set[asyncio.Task[None]]) -> None:
    """A download can be taken up by anybody, and stops at once; a call to the API is given its grace."""
    grace = 0.0 if lane in (Lane.DOWNLOADS, Lane.BIG_DOWNLOADS) else GRACE_SECONDS
    if running and grace:
        await asyncio.wait(running, timeout=grace)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _step(res: Resources, lane: Lane, claim: C, step: Callable[[Resources, C], Awaitable[None]]) -> None:
    ids: dict[str, Any] = {"run_id": str(claim.run_id), "account": claim.account, "attempt": claim.attempt}
    with log_lines.operation(
        _FINISHED[lane], parent=claim.traceparent, lane=lane.value, caused_by=claim.caused_by, **ids
    ):
        await _try_step(res, claim, step)


async def _try_step(res: Resources, claim: C, step: Callable[[Resources, C], Awaitable[None]]) -> None:
    try:
        await step(res, claim)
    except Overtaken:
        log_lines.annotate(outcome="overtaken")
    except asyncio.CancelledError:
        with suppress(*DATABASE_ERRORS):
            async with res.sessions.begin() as session:
                await claims.release(session, claim)
        raise
    except Exception as error:
        if is_transient(error):
            # The database's trouble is never the run's: the lease runs out, and the run is taken again.
            log_lines.annotate(outcome="database_trouble")
            log.warning("lane.database_trouble", error=type(error).__name__)
            return
        log_lines.annotate(outcome="crashed")
        log.exception("run.step_crashed")
        with suppress(*DATABASE_ERRORS):
            await crashed(res, claim, error)


async def _guarded(lane: Lane, asked: Awaitable[T]) -> T | None:
    """A lane outlives every error: the database's, which pass, and our own, which show."""
    try:
        return await asked
    except DATABASE_ERRORS as error:
        log.warning("lane.database_trouble", lane=lane.value, error=type(error).__name__)
    except Exception:
        log.exception("lane.crashed", lane=lane.value)
    await asyncio.sleep(PAUSE_SECONDS)
    return None


async def _sleep(res: Resources, lane: Lane, *, full: bool = False) -> None:
    if res.stopping.is_set() or await res.wakeups.wait(lane, seconds=BREATH_SECONDS):
        return
    seconds = POLL_SECONDS if full else await _guarded(lane, due.seconds_until_next(res, lane))
    # A run that was requested elsewhere wakes nobody: look as often as lookups are wanted.
    longest = min(POLL_SECONDS, res.settings.pending_poll_seconds) if lane is Lane.LOOKUPS else POLL_SECONDS
    await res.wakeups.wait(lane, seconds=longest if seconds is None else min(seconds, longest))


async def _stay_alive(res: Resources, held: dict[asyncio.Task[None], Claim]) -> None:
    """Renew the leases of what is under way, and be seen."""
    stalled_after = res.settings.stalled_after_seconds
    while True:
        await asyncio.sleep(stalled_after / 4)
        with suppress(*DATABASE_ERRORS):
            async with res.sessions.begin() as session:
                values = {"id": res.worker_id, "host": socket.gethostname(), "pid": os.getpid()}
                await session.execute(_SEEN, values)
                await claims.renew(session, list(held.values()), seconds=stalled_after)
            async with res.sessions.begin() as session:
                await catch_up.move_marks(res, session)


# What a line of the log calls the step of a lane.
_FINISHED = {
    Lane.REQUESTS: "run.asked",
    Lane.LOOKUPS: "run.looked_up",
    Lane.DOWNLOADS: "run.fetched",
    Lane.BIG_DOWNLOADS: "run.fetched",
}
_SEEN = text("""
insert into workers (id, host, pid) values (:id, :host, :pid) on conflict (id) do update set seen_at = now()
""")
