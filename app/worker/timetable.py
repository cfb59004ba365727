"""Recurring work: due times kept in rows, claimed once over all processes; all of it is also done at start."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotNow
from app.health import outside
from app.observability import log_lines
from app.queue.wakeups import wake
from app.resources import Resources
from app.upkeep.reconcile import reconcile
from app.upkeep.retention import remove_old_files
from app.vocabulary import Lane

# Work that broke off (Stripe away, process killed) is due again after this long, not only at the next full turn.
RETRY_SECONDS = 60.0
# Days are what retention counts in.
RETENTION_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One recurring piece of work and how often it is due, in seconds; it answers True when it is not done yet."""

    work: Callable[[Resources], Awaitable[bool | None]]
    every: float


def entries(res: Resources) -> Mapping[str, Entry]:
    """The whole timetable."""
    return {
        "reconcile": Entry(reconcile, res.settings.reconcile_seconds),
        "file_store": Entry(outside.look_at_store, outside.STORE_EVERY_SECONDS),
        "stripe_setup": Entry(outside.look_at_stripe, outside.STRIPE_EVERY_SECONDS),
        "retention": Entry(remove_old_files, RETENTION_SECONDS),
    }


async def make_all_due(res: Resources) -> None:
    """At start: everything is done once, whatever the rows say."""
    async with res.sessions.begin() as session:
        for name in entries(res):
            await session.execute(_MAKE_DUE, {"name": name})


async def make_due(session: AsyncSession, name: str) -> None:
    """Have this piece of work done as soon as the session's transaction commits, even if it is under way just now."""
    await session.execute(_MAKE_DUE, {"name": name})
    await wake(session, Lane.TIMETABLE)


async def do_what_is_due(res: Resources) -> int:
    """Claim and do what is due; returns how many pieces were done."""
    done = 0
    for name, entry in entries(res).items():
        retry = min(RETRY_SECONDS, entry.every)
        async with res.sessions.begin() as session:
            if (await session.execute(_CLAIM, {"name": name, "seconds": retry})).first() is None:
                continue
        again_after = await _do(res, name, entry)
        if again_after is None:
            continue
        async with res.sessions.begin() as session:
            await session.execute(_DONE, {"name": name, "seconds": again_after})
        done += 1
    return done


async def _do(res: Resources, name: str, entry: Entry) -> float | None:
    """Do it; after how many seconds it is due again, or None when it broke off."""
    with log_lines.operation(f"timetable.{name}", caused_by=f"timetable/{name}"):
        try:
            more = await entry.work(res)
        except NotNow as trouble:
            log_lines.annotate(outcome="NotNow", about=str(trouble))
            return None
        log_lines.annotate(outcome="done")
        return 0.0 if more else entry.every


_MAKE_DUE = text("""
insert into timetable (name, due_at) values (:name, now())
on conflict (name) do update set due_at = now(), started_at = null
""")
_CLAIM = text("""
update timetable set due_at = now() + :seconds * interval '1 s', started_at = now()
where name = :name and due_at <= now() returning 1
""")
_DONE = text("""
update timetable set due_at = coalesce(started_at + :seconds * interval '1 s', due_at), finished_at = now()
where name = :name
""")
