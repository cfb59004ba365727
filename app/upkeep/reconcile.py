"""Catch what no webhook reported: regularly ask Stripe how far its report types' data reaches, and tidy up.

Together with the lookups of requested runs, this brings in every file without a single webhook.
"""

import structlog
from sqlalchemy import text

from app.accounts import holds
from app.accounts.identity import check_identity
from app.errors import KeyRefused, NotNow, Refused
from app.inbox import events
from app.queue.wakeups import wake
from app.resources import Resources
from app.rules import schedule
from app.runs.slots import look_up_cancelled
from app.stripe_api.client import LONGEST_RETRY_AFTER
from app.targets import recovery
from app.vocabulary import CallKind, Lane, RunState

log = structlog.get_logger()

# A worker that has not reported for this long is gone; its work was taken over long before.
WORKER_DAYS = 1
PRUNE_BATCH = 1000
# Runs per account and state that are made due again at once.
PULL_BACK_BATCH = 10_000
CLOCK_SLACK_SECONDS = 300


async def reconcile(res: Resources) -> None:
    """Ask about every account; raises NotNow when one of them must be asked again soon."""
    await pull_back(res)
    troubles = []
    for account in sorted(res.stripe.accounts):
        try:
            await check_identity(res, account)
            await refresh_report_types(res, account)
            await look_up_cancelled(res, account)
        except NotNow as error:  # an account that does not answer does not hold up the others
            troubles.append(f"{account}: {error}")
    await prune(res)
    if troubles:
        raise NotNow("; ".join(troubles))


async def refresh_report_types(res: Resources, account: str) -> int:
    """List every report type of the account in one call; returns the number of planned runs. Raises NotNow."""
    async with res.sessions.begin() as session:
        permit = await holds.permit(
            session, account, CallKind.READ, 1, limiter=res.limiter, probe_seconds=res.settings.retry_max_seconds
        )
        if not permit.calls:
            raise NotNow("the account's read calls are on hold, or its rate limit is used up")
    try:
        types = await res.stripe.list_report_types(account)
    except (KeyRefused, Refused) as error:
        # The call has no parameters of ours: whatever Stripe refuses is the key, or the account.
        refused = KeyRefused(error.message, error.request_id, status=error.status)
        async with res.sessions.begin() as session:
            await holds.hold(session, account, CallKind.READ, refused, probing=permit.probing, backoff=res.backoff)
        log.error("report_types.refused", account=account, error=str(error), stripe_request_id=error.request_id)
        raise NotNow(str(error)) from error
    async with res.sessions.begin() as session:
        await holds.accepted(session, account, CallKind.READ)
        planned = await schedule.record_availability(session, account, types, attempts=res.settings.max_run_attempts)
    log.info("report_types.refreshed", account=account, report_types=len(types), runs_planned=planned)
    return planned


async def pull_back(res: Resources) -> None:
    """Make due now what is due later than any step could have set it: the database's clock was ahead when it did."""
    settings = res.settings
    most = max(
        settings.retry_max_seconds, settings.pending_poll_seconds, settings.stalled_after_seconds, LONGEST_RETRY_AFTER
    )
    values = {"most": most + CLOCK_SLACK_SECONDS, "limit": PULL_BACK_BATCH}
    async with res.sessions.begin() as session:
        runs = (await session.execute(_PULL_BACK_RUNS, values)).scalars().all()
        await session.execute(_PULL_BACK_HOLDS, values)
        await session.execute(_PULL_BACK_TYPES, values)
        if runs:
            log.warning("clock.was_ahead", runs=len(runs))
            await wake(session, Lane.REQUESTS, Lane.LOOKUPS, Lane.DOWNLOADS, Lane.BIG_DOWNLOADS)


async def prune(res: Resources) -> None:
    """Delete old events and Stripe runs, and workers that are long gone."""
    async with res.sessions.begin() as session:
        await session.execute(_PRUNE_WORKERS, {"days": WORKER_DAYS})
        await session.execute(_PRUNE_UNCLAIMED, {"days": res.settings.event_days})
    pruned = PRUNE_BATCH
    while pruned == PRUNE_BATCH:
        async with res.sessions.begin() as session:
            pruned = await events.prune(session, days=res.settings.event_days, limit=PRUNE_BATCH)
    pruned = PRUNE_BATCH
    while pruned == PRUNE_BATCH:
        async with res.sessions.begin() as session:
            pruned = await recovery.prune(session, days=res.settings.event_days, limit=PRUNE_BATCH)


_PRUNE_UNCLAIMED = text("delete from unclaimed_runs where created_at < now() - :days * interval '1 day'")
_PRUNE_WORKERS = text("delete from workers where seen_at < now() - :days * interval '1 day'")
_TOO_FAR = " union all ".join(
    f"""(select id from runs where account = slug and state = '{state.value}'
        and due_at > clock_timestamp() + make_interval(secs => :most) limit :limit)"""  # noqa: S608
    for state in (RunState.PLANNED, RunState.REQUESTED, RunState.READY)
)
# Leases are few: only work under way has one.
_PULL_BACK_RUNS = text(f"""
update runs set due_at = least(due_at, clock_timestamp()),
    lease_until = case when lease_until < clock_timestamp() + make_interval(secs => :most) then lease_until end
where id in (
    select too_far.id from accounts cross join lateral ({_TOO_FAR}
        union all (select id from runs where account = slug and (state in ('requested', 'ready')
            or state = 'planned' and asked_at is not null)
            and lease_until > clock_timestamp() + make_interval(secs => :most) limit :limit)) as too_far
    order by too_far.id)
returning id
""")  # noqa: S608
_PULL_BACK_HOLDS = text("""
update account_holds set next_probe_at = clock_timestamp()
where next_probe_at > clock_timestamp() + make_interval(secs => :most) and next_probe_at < 'infinity'
""")
_PULL_BACK_TYPES = text("""
update report_types set next_probe_at = clock_timestamp()
where next_probe_at > clock_timestamp() + make_interval(secs => :most)
""")
