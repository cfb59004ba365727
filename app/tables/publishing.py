"""The Parquet store: one object per window that the plain views show, replaced in place, gone with its rows.

An object's name has no revision: a reader sees the old one or the new one, never both. Two writers of one window may
overtake each other. So a writer checks afterwards which load is shown; if it is another, that one is written again.
"""

import asyncio
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.background import outlive
from app.db.rows import fetch_first
from app.errors import ChildEnded, StoreAway
from app.files import objects, spool
from app.observability import log_lines
from app.queue.claims import FREE
from app.resources import Resources
from app.tables.child_process import Child
from app.tables.load_file import object_due

# As long as a gigabyte may take; a crashed writer's window waits this long.
LEASE_SECONDS = 600.0
# After a stop: what was sent to the store may still take effect, and must not replace what the next writer puts.
STOPPED_SECONDS = 30.0
MEDIA_TYPE = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class Due:
    """A load whose window's object must be written or removed; `shown_*` is the load that the views show."""

    id: int
    fence: int
    table_name: str
    account: str
    connected_account: str | None
    window_key: str
    shown_id: int | None
    shown_run_id: uuid.UUID | None


async def publish_due(res: Resources) -> int:
    """Bring one window's object up to date; returns the number of windows, 0 or 1."""
    base = res.settings.parquet_store
    if base is None:
        return 0
    async with res.sessions.begin() as session:
        due = await fetch_first(session, Due, _CLAIM, {"worker": res.worker_id, "seconds": LEASE_SECONDS})
    if due is None:
        return 0
    where = location_of(base, due.table_name, due.account, due.connected_account, due.window_key)
    with log_lines.operation("window.published", lane="objects", table=due.table_name, account=due.account):
        try:
            written = await _bring_up_to_date(res, due, where)
        except (StoreAway, ChildEnded) as error:
            log_lines.annotate(outcome="not_yet", about=str(error))
            await _put_off(res, due, res.backoff.seconds(3))
            return 0
        except asyncio.CancelledError:
            await outlive("lane", _put_off(res, due, STOPPED_SECONDS))
            raise
        async with res.sessions.begin() as session:
            await _record(session, due, where if written else None)
        log_lines.annotate(outcome="written" if written else "removed")
    return 1


def next_due(parquet_store: str | None) -> str:
    """For `worker/due`: when a window's object must be written or removed."""
    return _NEVER if parquet_store is None else _DUE


def location_of(base: str, table: str, account: str, connected_account: str | None, window_key: str) -> str:
    """Where a window's object lies: the same for all its revisions and rules."""
    folders = {
        "report": table,
        "tallyhook_account": account,
        "tallyhook_connected": connected_account or "none",
        "tallyhook_window": window_key.replace(":", "-"),
    }
    return "/".join([base.rstrip("/"), *(f"{name}={value}" for name, value in folders.items()), "part.parquet"])


async def _bring_up_to_date(res: Resources, due: Due, where: str) -> bool:
    """Write the object of the load that is shown, or remove the object; returns whether it was written."""
    if due.shown_run_id is None:
        await objects.delete(where)
        return False
    if due.shown_id != due.id:
        return True  # the other one has its own turn
    folder = await asyncio.to_thread(spool.new_folder, Path(tempfile.gettempdir()), "tallyhook-parquet-object-")
    child = Child(res)
    try:
        path = folder / "part.parquet"
        answer = await child.write_parquet(due.shown_run_id, path, whole=False)
        if answer["outcome"] != "written":
            raise StoreAway(f"the file cannot be written as Parquet: {answer['outcome']}")
        await objects.put_file(where, path, media_type=MEDIA_TYPE)
    finally:
        await child.end()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return True


async def _put_off(res: Resources, due: Due, seconds: float) -> None:
    async with res.sessions.begin() as session:
        await session.execute(_LATER, {"id": due.id, "fence": due.fence, "seconds": seconds})


async def _record(session: AsyncSession, due: Due, where: str | None) -> None:
    await session.execute(_DONE, {"id": due.id, "fence": due.fence, "location": where})
    # If another load is shown by now, this write may have replaced its object.
    await session.execute(_WRITE_SHOWN, {"id": due.id})


_SAME_WINDOW = """
shown.table_name = loads.table_name and shown.account = loads.account and shown.scope = loads.scope
    and shown.window_key = loads.window_key
"""
_SHOWN = "shown.is_current and shown.leads and shown.loaded_at is not null and shown.state <> 'removed'"
_CLAIM = text(f"""
with due as (
    select id from loads where object_due and state <> 'due' and window_key is not null
        and {FREE}
    order by id limit 1 for update skip locked
)
update loads set lease_until = clock_timestamp() + make_interval(secs => :seconds), leased_by = :worker,
    fence = fence + 1
from due where loads.id = due.id
returning loads.id, loads.fence, loads.table_name, loads.account, loads.connected_account, loads.window_key,
    (select shown.id from loads as shown where {_SAME_WINDOW} and {_SHOWN} limit 1) as shown_id,
    (select shown.run_id from loads as shown where {_SAME_WINDOW} and {_SHOWN} limit 1) as shown_run_id
""")  # noqa: S608 - of constants only
# Whatever made it due again meanwhile took the writer's name off the lease (see load_file.object_due). A writer whose
# fence is gone may have replaced what a later one wrote: it is due again, also if that one is still writing.
_DONE = text("""
with done as (
    update loads set object_due = leased_by is null, object_location = :location, lease_until = null, leased_by = null
    where id = :id and fence = :fence returning id
)
update loads set object_due = true, leased_by = case when state = 'due' then leased_by end
where id = :id and not exists (select from done)
""")
_LATER = text("""
update loads set lease_until = clock_timestamp() + make_interval(secs => :seconds), leased_by = null
where id = :id and fence = :fence
""")
_WRITE_SHOWN = text(f"""
update loads as shown set {object_due("shown")} from loads
where loads.id = :id and shown.id <> loads.id and {_SAME_WINDOW} and {_SHOWN}
    and loads.object_location is not null and not (loads.is_current and loads.leads)
""")  # noqa: S608
_DUE = """
    select min(coalesce(lease_until, clock_timestamp())) from loads
    where object_due and state <> 'due' and window_key is not null
        and coalesce(lease_until, clock_timestamp()) > {since}
"""
_NEVER = "select cast(null as timestamptz) where clock_timestamp() > {since}"
