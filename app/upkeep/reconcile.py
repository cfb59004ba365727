"""What no webhook told: on a timetable, ask Stripe what its report types' data reaches by now, and tidy up.

Together with the lookups of requested runs this alone brings every file in, without a single webhook.
"""

import structlog
from sqlalchemy import text

from app.accounts import holds
from app.accounts.identity import check_identity
from app.errors import KeyRefused, NotNow, Refused
from app.inbox import events
from app.resources import Resources
from app.rules import schedule
from app.runs.slots import look_up_cancelled
from app.targets import deliveries
from app.vocabulary import CallKind

log = structlog.get_logger()

# A worker that was not heard of for this long is no worker any more; its work was taken over long before.
WORKER_DAYS = 1
PRUNE_BATCH = 1000


async def reconcile(res: Resources) -> None:
    """Ask about every account; raises NotNow when one of them has to be asked again soon."""
    troubles = []
    for account in sorted(res.stripe.accounts):
        try:
            await check_identity(res, account)
            await refresh_report_types(res, account)
            await look_up_cancelled(res, account)
        except NotNow as trouble:  # one account that does not answer keeps no other from being asked
            troubles.append(f"{account}: {trouble}")
    await prune(res)
    if troubles:
        raise NotNow("; ".join(troubles))


async def refresh_report_types(res: Resources, account: str) -> int:
    """One call lists every report type of the account; returns the number of runs that were planned. Raises NotNow."""
    async with res.sessions.begin() as session:
        permit = await holds.permit(
            session, account, CallKind.READ, 1, limiter=res.limiter, probe_seconds=res.settings.retry_max_seconds
        )
        if not permit.calls:
            raise NotNow("the account's reads are held, or its rate limit is used up")
    try:
        types = await res.stripe.list_report_types(account)
    except (KeyRefused, Refused) as error:
        # Nothing in this call is a matter of ours: whatever Stripe does not like is the key, or the account.
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


async def prune(res: Resources) -> None:
    """Forget events and Stripe runs that are older than they are worth, and workers that are long gone."""
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
            pruned = await deliveries.prune(session, days=res.settings.event_days, limit=PRUNE_BATCH)


_PRUNE_UNCLAIMED = text("delete from unclaimed_runs where created_at < now() - :days * interval '1 day'")
_PRUNE_WORKERS = text("delete from workers where seen_at < now() - :days * interval '1 day'")
