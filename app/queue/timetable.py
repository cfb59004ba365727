"""Recurring work: each entry's due time is a row, so one process does it, or another after a crash.

`app/worker/steps.py` says what the entries do; this file knows only names and times, so that any package can make an
entry due (`make_due`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.queue.wakeups import wake
from app.vocabulary import Lane

# Interrupted work (Stripe down, process killed) is due again after this long, without waiting for its full period.
RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class EntryClaim:
    """An entry that this process does; `started_at` tells it from another's claim, which `make_due` may let begin."""

    name: str
    started_at: datetime


async def make_due(session: AsyncSession, *names: str) -> None:
    """Make these entries due when the session's transaction commits, even those under way right now."""
    await session.execute(_MAKE_DUE, {"names": sorted(names)})
    await wake(session, Lane.TIMETABLE)


async def hasten(session: AsyncSession, name: str) -> None:
    """Make an entry due, but no earlier than `RETRY_SECONDS` after it was last done, however often this is called.

    One that is under way is due again that long afterwards: it may have looked before the hint.
    """
    await session.execute(_HASTEN, {"name": name, "seconds": RETRY_SECONDS})
    await wake(session, Lane.TIMETABLE)


async def claim(session: AsyncSession, every: Mapping[str, float], limit: int) -> list[EntryClaim]:
    """Take up to `limit` due entries of these names, whose periods in seconds are `every`, for `RETRY_SECONDS`.

    An entry that is due later than its period allows was written with a wrong clock: it is due now.
    """
    values = {"names": list(every), "every": list(every.values()), "retry": RETRY_SECONDS, "limit": limit}
    return await fetch(session, EntryClaim, _CLAIM, values)


async def renew(session: AsyncSession, claims: Sequence[EntryClaim], *, seconds: float) -> None:
    """Extend these claims by `seconds`; overtaken ones are left alone."""
    names, started = [claim.name for claim in claims], [claim.started_at for claim in claims]
    await session.execute(_RENEW, {"names": names, "started": started, "seconds": seconds})


async def release(session: AsyncSession, claim: EntryClaim) -> None:
    """Release an interrupted entry: it is due again at once."""
    await session.execute(_RELEASE, {"name": claim.name, "started_at": claim.started_at})


async def finish(session: AsyncSession, claim: EntryClaim, *, again_after: float) -> None:
    """Finish an entry: due again this many seconds after it began, or at once if `make_due` was called meanwhile."""
    values = {"name": claim.name, "started_at": claim.started_at, "seconds": again_after, "retry": RETRY_SECONDS}
    await session.execute(_FINISH, values)


def next_due(every: Mapping[str, float]) -> str:
    """The query for when the next of these entries is due (see `worker/due`)."""
    known = ", ".join(f"('{name}', cast({max(seconds, RETRY_SECONDS)} as float8))" for name, seconds in every.items())
    return f"""
        select min(case when due_at > clock_timestamp() + make_interval(secs => longest)
            then clock_timestamp() else due_at end)
        from timetable join (values {known}) as known(name, longest) using (name)
        where due_at > {{since}}
    """  # noqa: S608 - the names are ours


# `started_at` is set while an entry is under way: only then is it renewed. `make_due` clears it; `hasten` sets it to
# infinity: the claim stays, and the entry is due again afterwards. Times are the clock's, not a transaction's start: a
# transaction that began before another claim would take that claim's times for those of a wrong clock.
_MAKE_DUE = text("""
insert into timetable (name, due_at) select name, clock_timestamp() from unnest(cast(:names as text[])) as due(name)
on conflict (name) do update set due_at = clock_timestamp(), started_at = null
""")
# What an entry under way has already looked at may have changed since. (The version before leaves `started_at` set when
# an entry is finished.)
_HASTEN = text("""
insert into timetable (name, due_at) values (:name, clock_timestamp())
on conflict (name) do update set
    started_at = case when timetable.started_at > coalesce(timetable.finished_at, '-infinity')
        then cast('infinity' as timestamptz) end,
    due_at = case when timetable.started_at > coalesce(timetable.finished_at, '-infinity') then timetable.due_at
        else least(timetable.due_at,
            greatest(clock_timestamp(), timetable.finished_at + make_interval(secs => :seconds))) end
""")
# (A second hint that a process of the version before takes leaves infinity in `finished_at`.)
_CLAIM = text("""
update timetable set due_at = clock_timestamp() + make_interval(secs => least(:retry, taken.every)),
    started_at = clock_timestamp(), finished_at = nullif(finished_at, 'infinity')
from (
    select timetable.name, known.every
    from timetable join unnest(cast(:names as text[]), cast(:every as float8[])) as known(name, every) using (name)
    where due_at <= clock_timestamp()
        or due_at > clock_timestamp() + make_interval(secs => greatest(:retry, every))
    order by due_at limit :limit for update of timetable skip locked
) as taken
where timetable.name = taken.name
returning timetable.name, timetable.started_at
""")
_RENEW = text("""
update timetable set due_at = greatest(due_at, clock_timestamp() + make_interval(secs => :seconds))
where name in (
    select timetable.name
    from unnest(cast(:names as text[]), cast(:started as timestamptz[])) as held(name, started_at)
    join timetable on timetable.name = held.name and timetable.started_at in (held.started_at, 'infinity')
    order by timetable.name for update of timetable skip locked)
""")
_RELEASE = text("""
update timetable set started_at = null, due_at = clock_timestamp()
where name = :name and started_at in (:started_at, 'infinity')
""")
_FINISH = text("""
update timetable set started_at = null, finished_at = clock_timestamp(),
    due_at = case when started_at = 'infinity' then clock_timestamp() + make_interval(secs => least(:seconds, :retry))
        else started_at + make_interval(secs => :seconds) end
where name = :name and started_at in (:started_at, 'infinity')
""")
