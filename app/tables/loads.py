"""The rows of loads: created with the file, claimed by loaders, and their state. Database only."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Answer, Batch
from app.db.rows import fetch
from app.queue.claims import FREE, LEASED, Lease
from app.queue.wakeups import CHANNEL, wake
from app.tables.catalogue import CONNECT_PREFIX, family_of
from app.tables.load_file import LOADER, is_off, object_due
from app.vocabulary import Lane

# After an error of ours, a load is retried this many times before it is `failed` (internal).
MOST_CRASHES = 5
EVERYBODY = "*"
_FILTERS = ("currency", "reporting_category")


@dataclass(frozen=True, slots=True)
class LoadClaim:
    """One load, leased to this process at this fence."""

    id: int
    run_id: uuid.UUID
    rule_id: uuid.UUID | None
    account: str
    report_type: str
    table_name: str
    revision: int
    tries: int
    fence: int
    caused_by: str | None  # the cause of its run, for logs and traces
    traceparent: str | None
    has_leader: bool  # whether it is decided who leads its rows; without a rule there is nothing to decide


@dataclass(frozen=True, slots=True)
class StoredRun:
    """What a load needs to know of a run whose file is stored."""

    run_id: uuid.UUID
    file_id: uuid.UUID
    rule_id: uuid.UUID | None
    account: str
    connected_account: str | None
    report_type: str
    window_key: str | None
    revision: int
    interval_start: Any
    interval_end: Any
    timezone: str | None
    parameters: dict[str, Any]


async def owe(session: AsyncSession, run_ids: Sequence[uuid.UUID]) -> int:
    """Have the files of these runs loaded, unless their rules say no; returns how many. Existing loads stay."""
    stored = await fetch(session, StoredRun, _STORED, {"run_ids": list(run_ids)})
    if not stored:
        return 0
    batch = Batch(session)
    owed = add_owed(batch, stored)
    await batch.send()
    return len(owed)


def add_owed(batch: Batch, stored: Sequence[StoredRun]) -> Answer:
    """Have the batch do what `owe` does for files that are stored in the same transaction; a row for each load."""
    return batch.add(_OWE, {**_columns(stored), "channel": CHANNEL, "lane": Lane.LOADS.value})


def _columns(stored: Sequence[StoredRun]) -> dict[str, Any]:
    families = [family_of(run.report_type) for run in stored]
    plain = ("run_id", "file_id", "rule_id", "account", "connected_account", "report_type", "window_key", "revision",
             "interval_start", "interval_end", "timezone")  # fmt: skip
    return {f"{name}s": [getattr(run, name) for run in stored] for name in plain} | {
        "scopes": [scope_of(run.report_type, run.connected_account) for run in stored],
        "families": [family.id for family in families],
        "tables": [family.table for family in families],
        "filtereds": [is_filtered(run.parameters) for run in stored],
    }


def scope_of(report_type: str, connected_account: str | None) -> str:
    """Whose rows a run's file has: the account's own (''), an `acct_` id's, or those of all connected accounts."""
    if connected_account is not None:
        return connected_account
    return EVERYBODY if report_type.startswith(CONNECT_PREFIX) else ""


def is_filtered(parameters: dict[str, Any]) -> bool:
    """Whether a run requested only part of the rows, which its file does not say."""
    return any(parameters.get(name) for name in _FILTERS)


async def claim(session: AsyncSession, lease: Lease, limit: int) -> list[LoadClaim]:
    """Take up to `limit` loads, longest due first."""
    return await fetch(session, LoadClaim, _CLAIM, {"worker": lease.worker, "seconds": lease.seconds, "limit": limit})


async def renew(session: AsyncSession, claims: Sequence[LoadClaim], *, seconds: float) -> None:
    """Extend these claims by `seconds`."""
    values = {"ids": [claim.id for claim in claims], "fences": [claim.fence for claim in claims], "seconds": seconds}
    await session.execute(_RENEW, values)


async def release(session: AsyncSession, claim: LoadClaim) -> None:
    """Give a claim back untouched."""
    await session.execute(_RELEASE, {"id": claim.id, "fence": claim.fence})


async def back_off(session: AsyncSession, claim: LoadClaim, seconds: float) -> None:
    """Not now: due again after `seconds`."""
    await session.execute(_BACK_OFF, {"id": claim.id, "fence": claim.fence, "seconds": seconds})


async def fail(session: AsyncSession, claim: LoadClaim, error: dict[str, Any]) -> None:
    """This loader cannot load the file; rows loaded before stay visible."""
    values = {"id": claim.id, "fence": claim.fence, "error": error, "loader": LOADER}
    await session.execute(_FAIL, values)


async def crashed(session: AsyncSession, claim: LoadClaim, message: str, seconds: float) -> None:
    """After an error of ours: retry a bounded number of times, then fail."""
    values = {"id": claim.id, "fence": claim.fence, "seconds": seconds}
    crashes = (await session.execute(_CRASHED, values)).scalar_one_or_none()
    if crashes is not None and crashes >= MOST_CRASHES:
        await fail(session, claim, {"kind": "internal", "message": message})


async def again(session: AsyncSession, load_ids: Sequence[int]) -> int:
    """Load these again, unless their rules say no; rows that show stay visible until then. Returns how many become
    due."""
    done = (await session.execute(_AGAIN, {"ids": list(load_ids)})).scalars().all()
    if done:
        await wake(session, Lane.LOADS)
    return len(done)


async def again_of_rule(session: AsyncSession, rule_id: uuid.UUID, columns: Sequence[str]) -> int:
    """Load again those files of a rule that have one of these columns loaded; columns that it no longer names are left
    out.

    A load that is under way may have read the rule as it was: it is overtaken, and begins again.
    """
    await session.execute(_OVERTAKE, {"rule_id": rule_id})
    await wake(session, Lane.LOADS)
    values = {"rule_id": rule_id, "columns": list(columns)}
    return await again(session, (await session.execute(_WITH_COLUMNS, values)).scalars().all())


async def show_again(session: AsyncSession, rule_id: uuid.UUID) -> None:
    """Which rows of a rule's files are shown has changed: the objects of the Parquet store are written again."""
    await session.execute(_SHOW_AGAIN, {"rule_id": rule_id})


async def retry_failed_of_older_loaders(session: AsyncSession) -> int:
    """Make due again what an older loader could not load."""
    done = (await session.execute(_OLDER, {"loader": LOADER})).scalars().all()
    if done:
        await wake(session, Lane.LOADS)
    return len(done)


async def owe_missing(session: AsyncSession, *, limit: int) -> int:
    """Create loads for files that a process of the previous version stored; older files are loaded on request."""
    missing = (await session.execute(_MISSING, {"limit": limit})).scalars().all()
    return await owe(session, missing)


_STORED = text("""
select runs.id as run_id, files.id as file_id, runs.rule_id, runs.account, runs.connected_account, runs.report_type,
    runs.window_key, runs.revision, runs.interval_start, runs.interval_end, runs.timezone, runs.parameters
from runs join files on files.run_id = runs.id
where runs.id = any(:run_ids) and files.stored_at is not null and files.removed_at is null
""")
_OWE = text(f"""
insert into loads (run_id, file_id, rule_id, account, connected_account, report_type, window_key, revision,
    interval_start, interval_end, timezone, scope, family, table_name, filtered, state)
select *, 'due' from unnest(cast(:run_ids as uuid[]), cast(:file_ids as uuid[]), cast(:rule_ids as uuid[]),
    cast(:accounts as text[]), cast(:connected_accounts as text[]), cast(:report_types as text[]),
    cast(:window_keys as text[]), cast(:revisions as int[]), cast(:interval_starts as timestamptz[]),
    cast(:interval_ends as timestamptz[]), cast(:timezones as text[]), cast(:scopes as text[]),
    cast(:families as text[]), cast(:tables as text[]), cast(:filtereds as bool[]))
    as new(run_id, file_id, rule_id, account, connected_account, report_type, window_key, revision, interval_start,
        interval_end, timezone, scope, family, table_name, filtered)
where not {is_off("new")} on conflict (run_id) do nothing returning id, pg_notify(:channel, :lane)
""")  # noqa: S608 - of constants only
_SHOW_AGAIN = text(f"""
update loads set {object_due()}
where rule_id = :rule_id and connected_account is null and loaded_at is not null
""")  # noqa: S608 - of constants only
_CLAIM = text(f"""
with due as (
    select id from loads where state = 'due' and due_at <= clock_timestamp()
        and {FREE}
    order by due_at, id limit :limit for update skip locked
)
update loads set lease_until = clock_timestamp() + make_interval(secs => :seconds), leased_by = :worker,
    fence = loads.fence + 1
from due, runs where loads.id = due.id and runs.id = loads.run_id
returning loads.id, loads.run_id, loads.rule_id, loads.account, loads.report_type, loads.table_name, loads.revision,
    loads.tries, loads.fence, runs.caused_by, runs.traceparent,
    loads.rule_id is null or exists (select from leaderships as period
        where period.account = loads.account and period.family = loads.family
            and (period.rule_id = loads.rule_id or period.scope in (loads.scope, '*')
                or loads.scope = '*' and period.scope <> '')) as has_leader
""")  # noqa: S608 - of constants only
_RENEW = text(f"""
update loads set lease_until = clock_timestamp() + make_interval(secs => :seconds)
from (
    select loads.id from unnest(cast(:ids as bigint[]), cast(:fences as bigint[])) as held(id, fence)
    join loads on loads.id = held.id and loads.fence = held.fence and state = 'due' and {LEASED}
    for no key update of loads skip locked
) as ours where loads.id = ours.id
""")  # noqa: S608 - of constants only
_RELEASE = text("update loads set lease_until = null, leased_by = null where id = :id and fence = :fence")
_BACK_OFF = text("""
update loads set lease_until = null, leased_by = null, tries = tries + 1,
    due_at = clock_timestamp() + make_interval(secs => :seconds)
where id = :id and fence = :fence and state = 'due'
""")
_FAIL = text("""
update loads set state = 'failed', error = :error, loader = :loader, lease_until = null, leased_by = null
where id = :id and fence = :fence and state = 'due'
""").bindparams(bindparam("error", type_=JSONB))
_CRASHED = text("""
update loads set lease_until = null, leased_by = null, crashes = crashes + 1,
    due_at = clock_timestamp() + make_interval(secs => :seconds * (2 ^ crashes))
where id = :id and fence = :fence and state = 'due' returning crashes
""")
# The new fence tells a load under way that it was overtaken. Of removed rows, some may be deleted already: none shows
# until all are there.
_AGAIN = text(f"""
update loads set state = 'due', due_at = clock_timestamp(), tries = 0, crashes = 0, lease_until = null,
    leased_by = null, fence = fence + 1, loaded_at = case when loads.state <> 'removed' then loaded_at end,
    is_current = is_current and loads.state <> 'removed'
from files where loads.id = any(:ids) and files.id = loads.file_id and files.removed_at is null
    and loads.state in ('loaded', 'failed', 'removed') and not {is_off("loads")} returning loads.id
""")  # noqa: S608 - of constants only
_OVERTAKE = text("""
update loads set fence = fence + 1, lease_until = null, leased_by = null where rule_id = :rule_id and state = 'due'
""")
_WITH_COLUMNS = text("""
select id from loads where rule_id = :rule_id and loaded_columns && cast(:columns as text[])
""")
_OLDER = text(f"""
update loads set state = 'due', due_at = clock_timestamp(), tries = 0, crashes = 0
where state = 'failed' and loader < :loader and not {is_off("loads")} returning id
""")  # noqa: S608 - of constants only
_MISSING = text(f"""
select files.run_id from files where stored_at > (select min(at) from tables_since) and removed_at is null
    and not exists (select 1 from loads where loads.run_id = files.run_id) and not {is_off("files")}
order by stored_at limit :limit
""")  # noqa: S608 - of constants only

# For `worker/due`: when the next load becomes due, after `{since}`.
DUE = """
    select min(greatest(due_at, lease_until)) from loads
    where state = 'due' and greatest(due_at, lease_until) > {since}
"""
