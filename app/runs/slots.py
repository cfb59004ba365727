"""Which runs are pending at Stripe, and so hold a slot, across all processes."""

import structlog
from sqlalchemy import text

from app.accounts import holds
from app.errors import KeyRefused, NotNow, Refused
from app.resources import Resources
from app.runs import settle
from app.vocabulary import CallKind

log = structlog.get_logger()

# Takes `:timeout`, the seconds after which a Stripe run is given up. A create that was sent but not answered may have
# taken effect. A cancelled run is pending until Stripe has ended it; one that timed out holds no slot,
# because it may never end and must not block its own replacement.
PENDING_AT_STRIPE = """
select account, rule_id from runs where state = 'requested' or state = 'planned' and asked_at is not null
union all
select attempts.account, runs.rule_id from attempts join runs on runs.id = attempts.run_id
where attempts.outcome = 'cancelled' and stripe_run_id is not null and stripe_file_id is null
  and stripe_ended_at is null and attempts.requested_at > clock_timestamp() - make_interval(secs => :timeout)
"""


async def look_up_cancelled(res: Resources, account: str) -> None:
    """Look up cancelled runs that are pending at Stripe, as no event may report their end. Raises NotNow."""
    async with res.sessions.begin() as session:
        values = {"account": account, "timeout": res.settings.run_timeout_seconds}
        left = (await session.execute(_CANCELLED, values)).scalars().all()
        permit = await holds.permit(
            session,
            account,
            CallKind.READ,
            len(left),
            limiter=res.limiter,
            probe_seconds=res.settings.retry_max_seconds,
        )
    for stripe_run_id in left[: permit.calls]:
        try:
            stripe_run = await res.stripe.read_run(account, stripe_run_id)
        except (KeyRefused, Refused) as error:  # the others are still looked up
            log.info("run.cancelled_cannot_be_read", stripe_run_id=stripe_run_id, error=str(error))
            continue
        async with res.sessions.begin() as session:
            await holds.accepted(session, account, CallKind.READ)
            await settle.settle(session, account, [stripe_run], poll_seconds=res.settings.pending_poll_seconds)
    if permit.calls < len(left):
        raise NotNow("the account's read calls are on hold, or its rate limit is used up")


_CANCELLED = text("""
select stripe_run_id from attempts where account = :account and outcome = 'cancelled' and stripe_run_id is not null
    and stripe_file_id is null and stripe_ended_at is null
    and requested_at > clock_timestamp() - make_interval(secs => :timeout)
order by requested_at
""")
