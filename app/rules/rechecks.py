"""Re-checks: request a report again, the rule's `recheck_days` after its window was first stored.

A re-check is a run of the next revision with the parameters and the type of the one that it checks. If the same rows
come back (without a table, the same bytes), no file is stored (see runs/download); otherwise it is a new revision,
and is announced.
"""

import json
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from app.db.rows import fetch
from app.ids import uuid7
from app.queue.wakeups import wake
from app.resources import Resources
from app.vocabulary import Lane

# They are due after days.
EVERY_SECONDS = 3600.0
MOST_AT_ONCE = 200


def counts(runs: str) -> str:
    """SQL that is true if a run counts for its window, its rule and what failed; `runs` is its name in the statement.

    The window that a re-check repeats is stored, however the re-check ends: it counts only as a new revision.
    """
    return f"(not {runs}.recheck or {runs}.state = 'stored')"


# SQL that orders the runs of a window: that which covers it comes first. A stored revision covers its window even while
# a newer one is under way; otherwise the newest one counts.
COUNTED_FIRST = "state = 'stored' desc, revision desc"


async def plan_rechecks(res: Resources) -> bool:
    """Plan the re-checks that are due; True if more are left than fit into one turn."""
    async with res.sessions.begin() as session:
        due = await fetch(session, _Recheck, _DUE, {"limit": MOST_AT_ONCE})
        for one in due:
            values = {
                **asdict(one),
                "parameters": json.dumps(one.parameters),
                "attempts": res.settings.max_run_attempts,
            }
            await session.execute(_WRITE, {"id": uuid7(), **values})
        if due:
            await wake(session, Lane.REQUESTS)
    return len(due) == MOST_AT_ONCE


@dataclass(frozen=True, slots=True)
class _Recheck:
    """A run that repeats the request of the newest stored revision of its window."""

    account: str
    rule_id: uuid.UUID
    report_type: str
    connected_account: str | None
    window_key: str
    revision: int
    partial: bool
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    parameters: dict[str, Any]


# How many of the rule's days have passed since the window was first stored, against how many re-checks it has had:
# one at a time, and both only since the rule's last change. A day that passed shortly before it was not planned yet.
_DUE = text(f"""
with due as (
    select runs.rule_id, runs.connected_account, runs.window_key, count(distinct day) as days,
        min(runs.stored_at + make_interval(days => day)) as first
    from rules cross join unnest(rules.recheck_days) as day
    join runs on runs.rule_id = rules.id and runs.state = 'stored' and runs.window_key is not null and not runs.recheck
    where rules.enabled and rules.deleted_at is null
        and runs.stored_at + make_interval(days => day) <= clock_timestamp()
        and runs.stored_at + make_interval(days => day) > rules.updated_at - make_interval(secs => {EVERY_SECONDS})
        and not exists (select 1 from runs as first where first.rule_id = runs.rule_id and first.state = 'stored'
            and first.connected_account is not distinct from runs.connected_account
            and first.window_key = runs.window_key and first.stored_at < runs.stored_at)
    group by 1, 2, 3
), wanted as (
    select due.* from due
    where due.days > (select count(*) from runs where runs.rule_id = due.rule_id and runs.recheck
            and runs.connected_account is not distinct from due.connected_account and runs.window_key = due.window_key
            and runs.planned_at >= due.first)
        and not exists (select 1 from runs where runs.rule_id = due.rule_id
            and runs.connected_account is not distinct from due.connected_account and runs.window_key = due.window_key
            and runs.state in ('planned', 'requested', 'ready'))
    limit :limit
), newest as (
    select distinct on (runs.rule_id, runs.connected_account, runs.window_key) runs.*,
        max(runs.revision) over (partition by runs.rule_id, runs.connected_account, runs.window_key) as last_revision
    from wanted join runs on runs.rule_id = wanted.rule_id and runs.window_key = wanted.window_key
        and runs.connected_account is not distinct from wanted.connected_account
    order by runs.rule_id, runs.connected_account, runs.window_key, {COUNTED_FIRST}
)
select account, rule_id, report_type, connected_account, window_key, last_revision + 1 as revision, partial,
    interval_start, interval_end, timezone, parameters
from newest
""")  # noqa: S608 - of constants only
_WRITE = text("""
with made as (
    insert into runs (id, account, rule_id, report_type, connected_account, window_key, revision, partial, recheck,
        interval_start, interval_end, timezone, parameters, state, attempts_granted, caused_by)
    values (:id, :account, :rule_id, :report_type, :connected_account, :window_key, :revision, :partial, true,
        :interval_start, :interval_end, :timezone, cast(:parameters as jsonb), 'planned', :attempts,
        'timetable/rechecks')
    on conflict do nothing returning id, account
)
insert into run_moves (run_id, account, to_state, attempt, reason)
select id, account, 'planned', 1, 're-check: the same question again' from made
""")
