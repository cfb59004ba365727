"""Rows due, leased or held for longer than any step can set were written when the database's clock was ahead.

Such rows are due now: a clock that was wrong for a minute delays nothing beyond the next look. The timetable
and the rate limit bound themselves where they are read (`queue/timetable`, `stripe_api/rate_limit`).
"""

import structlog
from sqlalchemy import TextClause, text

from app.accounts import reconciliations
from app.inbox import events
from app.queue.wakeups import wake
from app.resources import Resources
from app.settings import Settings
from app.stripe_api.answers import LONGEST_RETRY_AFTER
from app.targets import schedule
from app.vocabulary import RUN_STEPS, Lane

log = structlog.get_logger()

# How many rows of one kind (of one account and state) are pulled back in one go.
BATCH = 10_000
SLACK_SECONDS = 300


async def pull_back(res: Resources) -> None:
    """Make due what was written while the clock was ahead."""
    bounds = _longest_waits(res.settings)
    async with res.sessions.begin() as session:
        found = {
            what: len((await session.execute(statement, {"most": bounds[what], "limit": BATCH})).all())
            for what, statement in _PULL_BACK.items()
        }
        if any(found.values()):
            log.warning("clock.was_ahead", **found)
            await wake(session, *Lane)


def _longest_waits(settings: Settings) -> dict[str, float]:
    """The longest that one step can set, in seconds, for each kind of row."""
    step = max(
        settings.retry_max_seconds, settings.pending_poll_seconds, settings.stalled_after_seconds, LONGEST_RETRY_AFTER
    )
    longest = {
        **dict.fromkeys(_PULL_BACK, step),
        "events": events.LONGEST_WAIT_SECONDS,
        "accounts": max(step, reconciliations.LONGEST_ROUND_SECONDS),
        "deliveries": max(step, schedule.LONGEST_WAIT_SECONDS),
    }
    return {what: seconds + SLACK_SECONDS for what, seconds in longest.items()}


_TOO_FAR = "> clock_timestamp() + make_interval(secs => :most)"
_RUNS_TOO_FAR = " union all ".join(
    f"(select id from runs where account = slug and state = '{step.state}' and due_at {_TOO_FAR} limit :limit)"  # noqa: S608
    for step in RUN_STEPS
)
_DUE_NOW = f"""due_at = least(due_at, clock_timestamp()),
    lease_until = case when lease_until {_TOO_FAR} then null else lease_until end"""
# Leases are few: only work under way has one.
_PULL_BACK: dict[str, TextClause] = {
    "runs": text(f"""
        update runs set {_DUE_NOW}
        where id in (
            select too_far.id from accounts cross join lateral ({_RUNS_TOO_FAR}
                union all (select id from runs where account = slug and (state in ('requested', 'ready')
                    or state = 'planned' and asked_at is not null) and lease_until {_TOO_FAR} limit :limit)) as too_far
            order by too_far.id)
        returning id
    """),  # noqa: S608 - the parts come from constants
    "events": text(f"""
        update events set due_at = clock_timestamp()
        where id in (select id from events where status = 'pending' and due_at {_TOO_FAR} order by id limit :limit)
        returning id
    """),  # noqa: S608
    "loads": text(f"""
        update loads set {_DUE_NOW}
        where id in (select id from loads where state = 'due' and (due_at {_TOO_FAR} or lease_until {_TOO_FAR})
            or object_due and lease_until {_TOO_FAR} order by id limit :limit)
        returning id
    """),  # noqa: S608
    "deliveries": text(f"""
        update deliveries set {_DUE_NOW}
        where (message_id, target_id) in (
            select message_id, target_id from deliveries
            where state = 'pending' and (due_at {_TOO_FAR} or lease_until {_TOO_FAR})
            order by message_id, target_id limit :limit)
        returning message_id
    """),  # noqa: S608
    # Only the right key ends a hold without a next probe (see accounts/identity).
    "holds": text(f"""
        update account_holds set next_probe_at = clock_timestamp()
        where next_probe_at {_TOO_FAR} and next_probe_at < 'infinity'
        returning account
    """),  # noqa: S608
    "accounts": text(f"""
        update reconciliations set due_at = clock_timestamp(), started_at = null where due_at {_TOO_FAR}
        returning account
    """),  # noqa: S608
    "report_types": text(f"""
        update report_types set next_probe_at = clock_timestamp() where next_probe_at {_TOO_FAR} returning id
    """),  # noqa: S608
}
