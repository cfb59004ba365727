"""Retention: remove the bytes of files that were kept long enough; their rows stay, with the reason.

Objects of abandoned downloads are removed at the same time.

A file is first marked, after which the API answers 410, then its bytes are deleted, a limited number per transaction.
After a crash in between, the mark tells the next process what is left to delete.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.rows import fetch
from app.errors import Conflict, Gone, NotNow
from app.files import removal
from app.queue import timetable
from app.resources import Resources
from app.runs import listing
from app.tables import removal as rows_removal

log = structlog.get_logger()

ACTOR = "retention"
TIMETABLE_ENTRY = "retention"
FILES_AT_ONCE = 100
# A limit, because the timetable has other work too.
SECONDS_AT_ONCE = 20.0


@dataclass(frozen=True, slots=True)
class _Due:
    """A file that was kept for long enough, and who set the limit."""

    id: uuid.UUID
    reason: str


@dataclass(frozen=True, slots=True)
class _Marked:
    """A file that was marked as removed just now."""

    id: uuid.UUID
    run_id: uuid.UUID
    account: str
    filename: str
    size: int
    sha256: str
    stored_at: datetime
    removed_reason: str


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A removed file whose bytes are still here; `location` is None for those in the database."""

    id: uuid.UUID
    location: str | None


async def remove_old_files(res: Resources) -> bool:
    """Remove what is due; True if there is more than fits into one round.

    Raises NotNow, after everything else was removed, if a store did not delete an object.
    """
    give_up_at = time.monotonic() + SECONDS_AT_ONCE
    deleter, more = removal.Deleter(), False
    while not more and await _remove_some(res, deleter):
        more = time.monotonic() - deleter.seconds > give_up_at
    if deleter.error is not None:
        raise NotNow(str(deleter.error)) from deleter.error
    return more


async def _remove_some(res: Resources, deleter: removal.Deleter) -> bool:
    return bool(
        await removal.sweep_dropped(res.sessions, deleter)
        or await rows_removal.purge(res)
        or await _purge(res, deleter)
        or await _mark(res)
    )


async def remove_manually(session: AsyncSession, run_id: uuid.UUID, *, reason: str, by: str) -> None:
    """Remove the file of a run, its rows and its objects: invisible from the commit on, and erased right after it.

    Raises NotFound, Conflict if there is no file yet, and Gone if it has already been removed.
    """
    run = await listing.get_run(session, run_id)
    if run.file is None:
        raise Conflict(f"run {run_id} has no file (it is {run.state}): to prevent one, POST /v1/runs/{run_id}/cancel")
    marked = await _mark_removed(session, {run.file.id: reason}, by=by)
    if not marked:
        raise Gone(f"the file of run {run_id} has already been removed")
    await timetable.make_due(session, TIMETABLE_ENTRY)


async def _mark_removed(session: AsyncSession, reasons: Mapping[uuid.UUID, str], *, by: str) -> Sequence[_Marked]:
    """Mark those of these files that are not removed yet as removed, for these reasons, with their rows. Audited."""
    named = {"ids": list(reasons), "reasons": list(reasons.values())}
    marked = await fetch(session, _Marked, _MARK, named)
    await rows_removal.remove_of_files(session, [file.id for file in marked])
    for file in marked:
        facts = {name: getattr(file, name) for name in ("filename", "size", "sha256", "stored_at")}
        after = {"reason": file.removed_reason}
        await audit.note(session, actor=by, action="file.removed", subject=file.run_id, before=facts, after=after)
    return marked


async def _mark(res: Resources) -> int:
    """Mark files as removed; returns how many."""
    async with res.sessions.begin() as session:
        values = {"days": res.settings.retention_days, "limit": FILES_AT_ONCE}
        due = await fetch(session, _Due, _DUE, values)
        if not due:
            return 0
        marked = await _mark_removed(session, {file.id: file.reason for file in due}, by=ACTOR)
    for file in marked:
        res.metrics.removed_files.labels(file.account).inc()
        res.metrics.removed_bytes.labels(file.account).inc(file.size)
        log.info("file.removed", run_id=str(file.run_id), account=file.account, reason=file.removed_reason)
    return len(due)


async def _purge(res: Resources, deleter: removal.Deleter) -> int:
    """Delete the bytes of some marked files; returns how many were tried."""
    async with res.sessions.begin() as session:
        leaving = await fetch(session, _Leaving, _LEAVING, {"limit": FILES_AT_ONCE, "skipped": deleter.skipped})
    if leaving:
        await removal.delete_chunks(res.sessions, [file.id for file in leaving])
        gone = [file.id for file in leaving if file.location is None or await deleter.delete(file.location)]
        async with res.sessions.begin() as session:
            await session.execute(_PURGED, {"ids": gone})
    return len(leaving)


# One short range of ix_files_kept per rule, and one for ad-hoc runs; files that are kept are not looked at.
_DUE = text("""
with kept_for as (
    select id as rule_id, coalesce(retention_days, cast(:days as int)) as days,
        'kept for ' || coalesce(retention_days || ' days, as its rule says',
            cast(:days as int) || ' days, as TALLYHOOK_RETENTION_DAYS says') as reason
    from rules where coalesce(retention_days, cast(:days as int)) is not null
)
(select file.id, kept_for.reason from kept_for cross join lateral (
    select id from files
    where rule_id = kept_for.rule_id and stored_at is not null and removed_at is null
      and stored_at < now() - make_interval(days => kept_for.days)
    order by stored_at limit :limit
) as file limit :limit)
union all
(select id, 'kept for ' || cast(:days as int) || ' days, as TALLYHOOK_RETENTION_DAYS says' from files
where rule_id is null and stored_at is not null and removed_at is null
  and stored_at < now() - make_interval(days => cast(:days as int))
order by stored_at limit :limit)
""")
_MARK = text("""
update files set removed_at = now(), removed_reason = due.reason
from unnest(cast(:ids as uuid[]), cast(:reasons as text[])) as due(id, reason)
where files.id = any(:ids) and files.id = due.id and files.removed_at is null
returning files.id, files.run_id, files.account, files.filename, files.size, files.sha256, files.stored_at,
    files.removed_reason
""")
_LEAVING = text(f"""
select id, location from files where removed_at is not null and purged_at is null and {removal.NOT_SKIPPED}
{removal.UNORDERED} limit :limit
""")  # noqa: S608 - of constants only
_PURGED = text("update files set purged_at = now() where id = any(:ids)")
