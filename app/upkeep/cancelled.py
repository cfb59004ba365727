"""Look up cancelled runs that are pending at Stripe, as no event may report their end: until then they hold slots."""

from functools import partial

import structlog
from sqlalchemy import text

from app.accounts import holds
from app.errors import KeyRefused, Refused
from app.resources import Resources
from app.runs import settle
from app.runs.slots import CANCELLED_AT_STRIPE
from app.upkeep.calls import read_one
from app.vocabulary import CallKind

log = structlog.get_logger()


async def look_up_cancelled(res: Resources, account: str) -> None:
    """Settle those that have ended. Raises NotNow."""
    async with res.sessions.begin() as session:
        values = {"account": account, "timeout": res.settings.run_timeout_seconds}
        left = (await session.execute(_CANCELLED, values)).scalars().all()
    for stripe_run_id in left:
        try:
            stripe_run = await read_one(res, account, partial(res.stripe.read_run, account, stripe_run_id))
        except (Refused, KeyRefused) as error:  # the others are still looked up
            log.info("run.cancelled_cannot_be_read", stripe_run_id=stripe_run_id, error=str(error))
            continue
        async with res.sessions.begin() as session:
            await settle.settle(session, account, [stripe_run], poll_seconds=res.settings.pending_poll_seconds)
            await holds.accepted(session, account, CallKind.READ)


_CANCELLED = text(f"""
select stripe_run_id from attempts where account = :account and {CANCELLED_AT_STRIPE} order by requested_at
""")  # noqa: S608 - of constants only
