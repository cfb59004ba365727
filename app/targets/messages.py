"""Messages are created in the transaction of the fact they announce, with a delivery for each target that wants it.

Without targets nothing is written, and a run costs only one more cheap query.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Answer, Batch
from app.db.rows import fetch
from app.ids import uuid7
from app.planning.dates import local_dates
from app.queue.wakeups import wake
from app.vocabulary import Lane, MessageType, RunState

# E-mail and Slack collect messages for this long: 10,000 refused accounts are one mail.
COLLECT_SECONDS = 45

_TYPES = {
    RunState.STORED: MessageType.RUN_STORED,
    RunState.FAILED: MessageType.RUN_FAILED,
    RunState.CANCELLED: MessageType.RUN_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class NewMessage:
    """What happened. Of two messages with one `dedupe_key` only the first is kept."""

    type: MessageType
    data: Mapping[str, Any]
    dedupe_key: str
    account: str | None = None
    rule_id: uuid.UUID | None = None
    subject: str | None = None

    def as_row(self) -> dict[str, Any]:
        """The stored form, with a new id."""
        return {
            "id": uuid7(),
            "type": self.type.value,
            "account": self.account,
            "rule_id": self.rule_id,
            "subject": self.subject,
            "data": self.data,
            "dedupe_key": self.dedupe_key,
        }


async def has_targets(session: AsyncSession) -> bool:
    """Whether there is any target."""
    return bool((await session.execute(_HAS_TARGETS)).scalar_one())


async def announce(session: AsyncSession, new: Sequence[NewMessage]) -> int:
    """Record these messages and their deliveries; they go out once the session's transaction commits.

    Returns how many deliveries were made. A disabled target's are kept as skipped. Without targets nothing is written.
    """
    if not new:
        return 0
    rows = orjson.dumps([message.as_row() for message in new]).decode()
    values = {"rows": rows, "collect": COLLECT_SECONDS}
    pending = int((await session.execute(_ANNOUNCE, values)).scalar_one())
    if pending:
        await wake(session, Lane.DELIVERIES)
    return pending


async def announce_missed(session: AsyncSession, *, seconds: float) -> int:
    """Announce runs that an older version without targets moved within the last `seconds`; returns how many."""
    found = await fetch(session, _Missed, _MISSED, {"seconds": seconds, "states": [state.value for state in _TYPES]})
    for state in _TYPES:
        await announce_runs(session, [one.run_id for one in found if one.state == state], state)
    return len(found)


@dataclass(frozen=True, slots=True)
class _Missed:
    run_id: uuid.UUID
    state: str


async def announce_runs(session: AsyncSession, run_ids: Collection[uuid.UUID], state: RunState) -> None:
    """Announce that these runs have just moved to `state`, if it is an end state and there are targets."""
    batch = Batch(session)
    if (news := look_at_runs(batch, run_ids, state)) is not None:
        await batch.send()
        await announce_found(session, news, state, run_ids)


def look_at_runs(batch: Batch, run_ids: Collection[uuid.UUID], state: RunState) -> Answer | None:
    """Have the batch look for what `announce_found` announces about these runs; None if there is nothing to say."""
    return batch.add(_RUNS, {"run_ids": list(run_ids)}) if state in _TYPES and run_ids else None


async def announce_found(session: AsyncSession, found: Answer, state: RunState, moved: Collection[uuid.UUID]) -> None:
    """Announce those of the runs found that have moved to `state`."""
    runs = [run for run in found.rows(_Run) if run.id in moved]
    # A re-check is announced only if it found a difference.
    new = [_run_message(run, _TYPES[state]) for run in runs if not run.recheck]
    if state is RunState.STORED:
        new += [_restated(run) for run in runs if run.earlier_sha256 is not None and run.earlier_sha256 != run.sha256]
    await announce(session, new)


@dataclass(frozen=True, slots=True)
class _Run:
    id: uuid.UUID
    rule_id: uuid.UUID | None
    rule_name: str | None
    account: str
    report_type: str
    connected_account: str | None
    state: str
    attempt: int
    revision: int
    recheck: bool
    partial: bool
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    stripe_run_id: str | None
    error: dict[str, Any] | None
    planned_at: datetime
    requested_at: datetime | None
    ready_at: datetime | None
    stored_at: datetime | None
    moves: int
    filename: str | None
    media_type: str | None
    size: int | None
    sha256: str | None
    line_count: int | None
    earlier_sha256: str | None
    earlier_line_count: int | None


def _run_message(run: _Run, type_: MessageType) -> NewMessage:
    data = {"run": _run_data(run), "file": _file_data(run)}
    # A run can fail, be retried and fail again: each failure is a fact of its own.
    return NewMessage(type_, data, f"{type_}/{run.id}/{run.moves}", run.account, run.rule_id, str(run.id))


def _restated(run: _Run) -> NewMessage:
    data = {
        "run": _run_data(run),
        "file": _file_data(run),
        "before": {"sha256": run.earlier_sha256, "line_count": run.earlier_line_count},
    }
    type_ = MessageType.RUN_RESTATED
    return NewMessage(type_, data, f"{type_}/{run.id}", run.account, run.rule_id, str(run.id))


def _run_data(run: _Run) -> dict[str, Any]:
    return {
        "id": str(run.id),
        "rule_id": None if run.rule_id is None else str(run.rule_id),
        "rule_name": run.rule_name,
        "account": run.account,
        "report_type": run.report_type,
        "connected_account": run.connected_account,
        "state": run.state,
        "attempt": run.attempt,
        "revision": run.revision,
        "partial": run.partial,
        "window": window_data(run.interval_start, run.interval_end, run.timezone),
        "interval_start": as_time(run.interval_start),
        "interval_end": as_time(run.interval_end),
        "stripe_run_id": run.stripe_run_id,
        "error": run.error,
        "planned_at": as_time(run.planned_at),
        "requested_at": as_time(run.requested_at),
        "ready_at": as_time(run.ready_at),
        "stored_at": as_time(run.stored_at),
    }


def window_data(start: datetime | None, end: datetime | None, timezone: str | None) -> dict[str, Any] | None:
    """An interval in local dates; None if there is none."""
    if start is None or end is None:
        return None
    dates = local_dates(start, end, timezone or "UTC")
    return {"first": _as_day(dates.first), "last": _as_day(dates.last), "timezone": dates.timezone}


def _file_data(run: _Run) -> dict[str, Any] | None:
    if run.state != RunState.STORED or run.filename is None:
        return None
    return {
        "filename": run.filename,
        "media_type": run.media_type,
        "size": run.size,
        "sha256": run.sha256,
        "line_count": run.line_count,
        "path": f"/v1/runs/{run.id}/file",
    }


def as_time(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, as the admin API writes it."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _as_day(day: date) -> str:
    return day.isoformat()


_HAS_TARGETS = text("select exists(select from every_target where deleted_at is null)")
# The previous revision: the newest stored one of the same window.
_RUNS = text("""
select runs.id, runs.rule_id, rules.name as rule_name, runs.account, runs.report_type, runs.connected_account,
    runs.state, runs.attempt, runs.revision, runs.recheck, runs.partial, runs.interval_start, runs.interval_end,
    runs.timezone, attempts.stripe_run_id, runs.error, runs.planned_at, runs.requested_at, runs.ready_at,
    runs.stored_at,
    (select count(*) from run_moves where run_moves.run_id = runs.id) as moves,
    files.filename, files.media_type, files.size, files.sha256, files.line_count,
    earlier.sha256 as earlier_sha256, earlier.line_count as earlier_line_count
from runs left join rules on rules.id = runs.rule_id
left join attempts on attempts.run_id = runs.id and attempts.number = runs.attempt
left join files on files.run_id = runs.id and files.stored_at is not null
left join lateral (
    select older_file.sha256, older_file.line_count from runs as older
    join files as older_file on older_file.run_id = older.id and older_file.stored_at is not null
    where runs.revision > 1 and older.rule_id = runs.rule_id and older.window_key = runs.window_key
      and older.connected_account is not distinct from runs.connected_account and older.revision < runs.revision
    order by older.revision desc limit 1
) as earlier on true
where runs.id = any(:run_ids) and exists (select from every_target where deleted_at is null)
order by runs.id
""")
# Only if there are targets, only since the first one, and only the current state of a run: of re-checks only those that
# found a difference, as the others are never announced and would be found again and again.
_MISSED = text("""
select runs.id as run_id, runs.state from runs
where runs.id in (
    select run_id from run_moves where id > (select coalesce(max(id), 0) - 100000 from run_moves)
        and to_state = any(:states) and at > clock_timestamp() - make_interval(secs => :seconds)
        and at > (select min(created_at) from every_target where deleted_at is null)
) and runs.state = any(:states) and (not runs.recheck or runs.state = 'stored') and not exists (
    select from messages where dedupe_key = case when runs.recheck then 'run.restated/' || runs.id
        else 'run.' || runs.state || '/' || runs.id || '/'
            || (select count(*) from run_moves where run_moves.run_id = runs.id) end
)
limit 1000
""")
# Messages for people are collected: due a little later.
_ANNOUNCE = text("""
with written as (
    insert into messages (id, type, account, rule_id, subject, data, dedupe_key)
    select * from jsonb_to_recordset(cast(:rows as jsonb)) as new(
        id uuid, type text, account text, rule_id uuid, subject text, data jsonb, dedupe_key text)
    where exists (select from every_target where deleted_at is null)
    on conflict (dedupe_key) do nothing returning id, type, account, rule_id
), made as (
    insert into deliveries (message_id, target_id, state, due_at)
    select written.id, targets.id, case when targets.enabled then 'pending' else 'skipped' end,
        clock_timestamp() + make_interval(secs => case when targets.kind in ('email', 'slack') then :collect else 0 end)
    from written join every_target as targets on targets.deleted_at is null
        and (targets.message_types && array['*', written.type])
        and (targets.rule_ids is null or written.rule_id = any(targets.rule_ids))
        and (targets.accounts is null or written.account = any(targets.accounts))
    returning state
)
select count(*) from made where state = 'pending'
""")
