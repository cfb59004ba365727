"""When each lane next has something to do: one round trip asks for all idle lanes.

Each lane has its own query for that: one timestamp, the earliest after `{since}`, the time at which the lane last
looked. What became due before was seen and could not be done (the account is on hold, no slot is free): whatever
changes that wakes the lane, or the next full round does.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Never

from sqlalchemy import TextClause, text

from app.background import outlive
from app.db.batch import Batch
from app.db.engine import autocommit_session
from app.queue.wakeups import POLL_SECONDS
from app.resources import Resources
from app.stripe_api.rate_limit import Limiter
from app.vocabulary import CallKind, Lane, RunState

# A busy lane is woken again within this time, lanes that become idle together are asked about together, and asking
# does not compete with the steps that their work led to.
BREATH_SECONDS = 0.05
# A busy process asks no more often than this: its lanes look again whenever one of their steps ends.
LULL_SECONDS = 0.25
# How long to wait after a database error, or a bug of ours, before looking again.
PAUSE_SECONDS = 1.0
# Long before anything could be due.
_AGES = 1e9


class Alarm:
    """Wakes the lanes of a process when work becomes due, and every `poll_seconds` all lanes with due work."""

    def __init__(self, res: Resources, queries: Mapping[Lane, Iterable[str]], *, poll_seconds: float = POLL_SECONDS):
        self._res = res
        self._queries = queries
        self._poll_seconds = poll_seconds
        self._looked = dict.fromkeys(queries, time.monotonic())
        self._due_at: dict[Lane, float] = {}  # of the lanes that were asked about since they last looked
        self._asking: set[Lane] = set()
        self._asked = asyncio.Event()
        self._next_round = time.monotonic()

    def looks(self, lane: Lane) -> None:
        """The lane is about to look for work."""
        self._looked[lane] = time.monotonic()
        self._due_at.pop(lane, None)

    def ask(self, lane: Lane) -> None:
        """The lane has nothing to do: find out when it will have."""
        self._asking.add(lane)
        self._asked.set()

    def ask_again_soon(self) -> None:
        """A lane could not look: start a full round after a pause."""
        self._next_round = min(self._next_round, time.monotonic() + PAUSE_SECONDS)
        self._asked.set()

    async def run(self) -> Never:
        """Wake the lanes, forever."""
        while True:
            self._asked.clear()
            lull = time.monotonic() + LULL_SECONDS
            seconds = await self._wake()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._asked.wait()
                    await asyncio.sleep(max(BREATH_SECONDS, lull - time.monotonic()))

    async def _wake(self) -> float:
        """Wake the lanes that have work now; returns the seconds until the next one will, or until a full round."""
        began = time.monotonic()
        if full_round := began >= self._next_round:
            self._next_round = began + self._poll_seconds
        if await outlive("alarm", self._find_out(full_round=full_round)) is None:
            self.ask_again_soon()
            self._asked.clear()
            return PAUSE_SECONDS
        now = time.monotonic()
        due = [lane for lane, at in self._due_at.items() if at <= now]
        self._res.wakeups.ring(due)
        for lane in due:
            del self._due_at[lane]
        return max(0.0, min([*self._due_at.values(), self._next_round]) - time.monotonic())

    async def _find_out(self, *, full_round: bool) -> bool:
        """When the lanes that have asked, or all of them, next have something to do."""
        now = time.monotonic()
        since = {
            lane: _AGES if full_round else now - looked
            for lane, looked in self._looked.items()
            if full_round or lane in self._asking
        }
        self._asking.clear()
        if since:
            waits = await seconds_until_next(self._res, {lane: self._queries[lane] for lane in since}, since)
            self._due_at.update({lane: time.monotonic() + seconds for lane, seconds in waits.items()})
        return True


async def seconds_until_next(
    res: Resources, queries: Mapping[Lane, Iterable[str]], since: Mapping[Lane, float]
) -> dict[Lane, float]:
    """Seconds until something becomes due, by lane, in one round trip; `since` is in seconds before now."""
    async with autocommit_session(res.sessions) as session:
        batch = Batch(session)
        answers = {lane: batch.add(_one_lane(tuple(queries[lane])), {"since": since[lane]}) for lane in since}
        await batch.send()
    return {lane: seconds for lane, answer in answers.items() if (seconds := answer.scalars()[0]) is not None}


@cache
def _one_lane(queries: tuple[str, ...]) -> TextClause:
    """One statement per lane, not one for all: planning costs far more than executing, and is kept per statement."""
    since = "clock_timestamp() - make_interval(secs => :since)"
    return text(_ONE_LANE.format(due=" union all ".join(query.format(since=since) for query in queries)))


def runs_due(state: RunState) -> str:
    """When runs in this state become due, or their leases expire: by index, however many there are."""
    # A planned run has a lease only once it is being requested.
    leased = "and asked_at is not null" if state is RunState.PLANNED else ""
    return f"""
        select min(due.at) from (
            with recursive found as (
                (select account from runs where state = '{state.value}' order by account limit 1)
                union all
                select next.account from found cross join lateral (
                    select account from runs where state = '{state.value}' and account > found.account
                    order by account limit 1
                ) as next
            ) select account as slug from found
        ) as busy cross join lateral (
            (select due_at from runs where account = slug and state = '{state.value}' and due_at > {{since}}
             order by due_at limit 1)
            union all
            (select min(lease_until) from runs where account = slug and state = '{state.value}' {leased}
                and lease_until > {{since}})
        ) as due(at)
    """  # noqa: S608 - words of ours


def probe_due(kind: CallKind) -> str:
    """When held accounts are due for a probe with this kind of call."""
    return f"""
        select min(next_probe_at) from account_holds
        where call_kind = '{kind.value}' and next_probe_at > {{since}} and next_probe_at < 'infinity'
    """  # noqa: S608


def rate_due(limiter: Limiter, kind: CallKind) -> list[str]:
    """When the rate limit allows calls of this kind again; without a limit, no query."""
    if limiter.per_second <= 0:
        return []
    granted = f"arrival - make_interval(secs => {limiter.ahead(kind)})"
    return [f"select min({granted}) from rate_limits where call_kind = '{kind.value}' and {granted} > {{since}}"]  # noqa: S608


EVENTS_DUE = "select min(due_at) from events where status = 'pending' and due_at > {since}"
MISSING_TYPES_DUE = """
    select min(next_probe_at) from report_types where missing_since is not null and next_probe_at > {since}
"""
_ONE_LANE = "select cast(extract(epoch from min(at) - clock_timestamp()) as float8) from ({due}) as due(at)"
