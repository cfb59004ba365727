"""Store planned runs: the windows of a rule, each with the rule's parameters frozen in."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Answer, Batch
from app.ids import uuid7
from app.observability import log_lines
from app.planning.report_types import JSON, interval_need, run_parameters
from app.planning.windows import Window
from app.vocabulary import IntervalNeed, RunState


@dataclass(frozen=True, slots=True)
class RuleScope:
    """A rule for one of its connected accounts, or for the account itself: what its runs have in common."""

    rule_id: uuid.UUID
    account: str
    report_type: str
    connected_account: str | None
    timezone: str
    parameters: dict[str, JSON]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to insert, by column name."""

    id: uuid.UUID
    account: str
    rule_id: uuid.UUID
    report_type: str
    connected_account: str | None
    window_key: str
    revision: int
    partial: bool
    interval_start: datetime
    interval_end: datetime
    timezone: str
    parameters: dict[str, JSON]
    state: str
    attempts_granted: int
    caused_by: str | None
    traceparent: str | None


def planned_run(scope: RuleScope, window: Window, *, start_offset: int, attempts: int, revision: int = 1) -> PlannedRun:
    """A window's run with `attempts` attempts granted; `start_offset` is in seconds (`KnownType.start_offset`)."""
    parameters = run_parameters(
        scope.report_type,
        scope.parameters,
        start=window.start,
        end=window.end,
        connected_account=scope.connected_account,
        start_offset_seconds=start_offset,
        payout=window.key if interval_need(scope.report_type) is IntervalNeed.NONE else None,
    )
    return PlannedRun(
        id=uuid7(),
        account=scope.account,
        rule_id=scope.rule_id,
        report_type=scope.report_type,
        connected_account=scope.connected_account,
        window_key=window.key,
        revision=revision,
        partial=window.partial,
        interval_start=window.start,
        interval_end=window.end,
        timezone=scope.timezone,
        parameters=parameters,
        state=RunState.PLANNED.value,
        attempts_granted=attempts,
        **log_lines.cause_of(scope.account, scope.report_type),
    )


async def write(session: AsyncSession, runs: Sequence[PlannedRun], *, reason: str) -> int:
    """Insert these runs, except those that exist already; returns how many are new."""
    if not runs:
        return 0
    batch = Batch(session)
    made = add(batch, runs, reason=reason)
    await batch.send()
    return count_of(made)


def add(batch: Batch, runs: Sequence[PlannedRun], *, reason: str) -> Answer:
    """The same as part of a batch; `count_of` the answer says how many are new."""
    return batch.add(_WRITE, {"runs": orjson.dumps(runs).decode(), "reason": reason})


def count_of(made: Answer) -> int:
    """How many runs are new, according to the answer to `add`."""
    return int(made.scalars()[0])


# As JSON: a single fixed statement for any number of runs. Within a window runs are requested in the order of `due_at`
# (runs/request_claim): a random one, so that if there are too few slots for all connected accounts, it is not always
# the same ones that get none.
_WRITE = text("""
with made as (
    insert into runs (id, account, rule_id, report_type, connected_account, window_key, revision, partial,
        interval_start, interval_end, timezone, parameters, state, attempts_granted,
        caused_by, traceparent, due_at)
    select run.*, clock_timestamp() - make_interval(secs => random())
    from jsonb_to_recordset(cast(:runs as jsonb)) as run(id uuid, account text, rule_id uuid,
        report_type text, connected_account text, window_key text, revision int, partial bool,
        interval_start timestamptz, interval_end timestamptz, timezone text, parameters jsonb, state text,
        attempts_granted int, caused_by text, traceparent text)
    on conflict do nothing returning id, account, state
), moved as (
    insert into run_moves (run_id, account, to_state, attempt, reason) select id, account, state, 1, :reason from made
)
select count(*) from made
""")
