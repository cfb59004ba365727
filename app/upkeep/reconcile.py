"""Catch what no webhook reported: regularly ask Stripe how far its report types' data reaches.

Together with the lookups of requested runs, this brings in every file without a single webhook.
"""

from collections.abc import Iterable

import structlog

from app.accounts import reconciliations, unreadable
from app.accounts.identity import check_identity
from app.accounts.reconciliations import AccountClaim
from app.errors import KeyRefused, NotNow, Refused
from app.observability import log_lines
from app.resources import Resources
from app.rules import schedule
from app.stripe_api.objects import ReportTypeInfo
from app.upkeep.calls import Troubles, read_of_reports
from app.upkeep.cancelled import look_up_cancelled
from app.upkeep.clock import pull_back

log = structlog.get_logger()

# How many accounts one process asks about at once: fewer than it has connections, which other lanes need too.
ACCOUNTS_AT_ONCE = 8


async def begin_round(res: Resources) -> None:
    """Make every account due for polling, spread over time."""
    await pull_back(res)
    async with res.sessions.begin() as session:
        await reconciliations.begin_round(session, res.stripe.accounts)


async def ask(res: Resources, claim: AccountClaim) -> None:
    """Ask about a claimed account; it is due again within a minute if Stripe cannot be asked now."""
    try:
        await reconcile(res, [claim.account])
    except NotNow as error:
        log_lines.annotate(outcome="NotNow", about=str(error))
        async with res.sessions.begin() as session:
            await reconciliations.put_off(session, claim)
        return
    log_lines.annotate(outcome="done")
    async with res.sessions.begin() as session:
        await reconciliations.finish(session, claim)


async def crashed(res: Resources, claim: AccountClaim, _error: Exception) -> None:
    """A bug of ours, which is in the log: try again within a minute."""
    async with res.sessions.begin() as session:
        await reconciliations.put_off(session, claim)


async def reconcile(res: Resources, accounts: Iterable[str] | None = None) -> None:
    """Ask about these accounts, by default all; raises NotNow when one of them must be asked again soon."""
    troubles = Troubles()
    for account in sorted(res.stripe.accounts if accounts is None else accounts):
        with troubles.of(account):
            await check_identity(res, account)
            await refresh_report_types(res, account)
            await look_up_cancelled(res, account)
    troubles.raise_any()


async def refresh_report_types(res: Resources, account: str) -> int:
    """List every report type of the account in one call; returns the number of planned runs. Raises NotNow."""
    skipped: list[str] = []

    async def list_types() -> list[ReportTypeInfo]:
        try:
            return await res.stripe.list_report_types(account, skipped)
        except (KeyRefused, Refused) as error:
            log.error("report_types.refused", account=account, error=str(error), stripe_request_id=error.request_id)
            # The call has no parameters of ours: whatever Stripe refuses is the key, or the account.
            raise KeyRefused(error.message, error.request_id, status=error.status) from error

    try:
        types = await read_of_reports(res, account, list_types)
    except NotNow:
        if skipped:
            async with res.sessions.begin() as session:
                await unreadable.note(session, account, "report_type", skipped)
        raise
    async with res.sessions.begin() as session:
        await unreadable.note(session, account, "report_type", skipped)
        planned = await schedule.record_availability(session, account, types, attempts=res.settings.max_run_attempts)
    log.info("report_types.refreshed", account=account, report_types=len(types), runs_planned=planned)
    return planned
