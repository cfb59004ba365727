"""A slug is bound to the Stripe account and mode of the first key that was seen for it.

A key of another account would store another company's reports under this name: it puts the slug on hold until the right
key is back. A worker calls Stripe for a bound account only after confirming, once since its start, that the key
belongs to it; an inconclusive answer (refused, failed, too late) ends no hold and confirms nothing.
"""

import asyncio
import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Never

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.background import outlive
from app.db.rows import fetch_first, fetch_one
from app.errors import KeyRefused, NotNow, Refused, StripeCallError
from app.queue.wakeups import wake
from app.resources import Resources
from app.settings import Account
from app.vocabulary import RUN_STEPS

log = structlog.get_logger()

# Stripe names the key's account when it refuses a restricted key: "… on account 'acct_…'. Having the …".
_OWN_ACCOUNT = re.compile(r"\bon account '(acct_[A-Za-z0-9]+)'")
# How long Stripe has to identify the keys before a worker starts without an answer.
START_SECONDS = 5.0
# How many keys are checked at once, and how soon one that could not be is checked again.
CHECKS_AT_ONCE = 8
AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Bound:
    """What a slug is bound to; `same_mode` if the key has the bound mode, or nothing is bound yet."""

    stripe_account_id: str | None
    same_mode: bool


@dataclass(frozen=True, slots=True)
class _StoredRun:
    stripe_account_id: str
    stripe_run_id: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """The account that the key belongs to, or why that is unknown."""

    account_id: str | None
    why_unknown: str = ""


async def check_at_start(res: Resources) -> None:
    """Identify the keys before any other call, for as long as a start may take; `keep_confirming` does the rest."""
    res.unconfirmed.update(res.stripe.accounts)
    await _confirm(res, seconds=START_SECONDS)


async def keep_confirming(res: Resources) -> Never:
    """Check the unconfirmed accounts: those never checked at once, the others every minute."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_SECONDS):
                await res.confirm_soon.wait()
        res.confirm_soon.clear()
        await outlive("identity", _confirm(res))


async def _confirm(res: Resources, *, seconds: float = math.inf) -> None:
    """Check what is unconfirmed, a few at a time; what has not begun after `seconds` is left for later."""
    places, deadline = asyncio.Semaphore(CHECKS_AT_ONCE), time.monotonic() + seconds

    async def confirm(account: str) -> None:
        async with places:
            if (left := deadline - time.monotonic()) <= 0:
                res.confirm_soon.set()
                return
            # An account that cannot be identified now does not hold up the others.
            await outlive("identity", _checked(res, account, left if left < math.inf else None), account=account)

    async with asyncio.TaskGroup() as checks:
        for account in sorted(res.unconfirmed & res.stripe.accounts):
            checks.create_task(confirm(account))


async def _checked(res: Resources, account: str, seconds: float | None) -> None:
    with suppress(NotNow):
        await check_identity(res, account, seconds=seconds)


async def check_identity(res: Resources, account: str, *, seconds: float | None = None) -> None:
    """Compare the key's account with the slug's, and bind the first one; Stripe has `seconds` to answer.

    Raises NotNow while the account must not be used: its key belongs to another one, or is not confirmed yet.
    """
    configured = res.settings.accounts.get(account)
    if configured is None:
        raise NotNow(f"the account {account} was removed")
    seen = await _look(res, configured, seconds)
    # A proxy that drops the header, or a context that leads elsewhere: nothing is bound to what answers then.
    elsewhere = configured.named_id is not None and seen.account_id not in (None, configured.named_id)
    async with res.sessions.begin() as session:
        values = {"account": account, "seen": None if elsewhere else seen.account_id, "livemode": configured.livemode}
        bound = await fetch_one(session, _Bound, _BIND, values)
        problem = _problem(bound, seen, unconfirmed=account in res.unconfirmed)
        if elsewhere:
            problem = f"Stripe answers for {seen.account_id}; the key is configured for {configured.named_id}"
        if problem is not None:
            await session.execute(_HOLD, {"account": account, "reason": problem})
        elif seen.account_id is not None:
            await _release(session, account)
    if problem is None:
        if account in res.unconfirmed:
            res.unconfirmed.discard(account)
            res.wakeups.ring()
        return
    res.unconfirmed.add(account)
    log.error("account.not_confirmed", account=account, bound_to=bound.stripe_account_id, key_of=seen.account_id)
    raise NotNow(problem)


def _problem(bound: _Bound, seen: _Seen, *, unconfirmed: bool) -> str | None:
    """Why the account must not be used."""
    wrong = seen.account_id is not None and seen.account_id != bound.stripe_account_id
    if wrong or not bound.same_mode:
        mode = "" if bound.same_mode else ", in the other mode"
        key_of = seen.account_id or "another account"
        return f"the key belongs to {key_of}{mode}; this account is bound to {bound.stripe_account_id}"
    if seen.account_id is None and bound.stripe_account_id is not None and unconfirmed:
        return f"it is not yet confirmed that the key belongs to {bound.stripe_account_id}: {seen.why_unknown}"
    return None


async def _look(res: Resources, configured: Account, seconds: float | None) -> _Seen:
    try:
        async with asyncio.timeout(seconds):
            return await _ask(res, configured)
    except TimeoutError:
        return _Seen(None, f"GET /v1/account got no answer within {seconds:.3g} s")


async def _ask(res: Resources, configured: Account) -> _Seen:
    """The account of the key, from Stripe itself or, failing that, from a run of ours that the key can read."""
    try:
        return _Seen(await res.stripe.read_account_id(configured.slug))
    except (KeyRefused, Refused, NotNow) as error:
        # A platform's or an organization's key belongs to another account than the one that it is used for.
        its_own = configured.named_id is None
        if its_own and isinstance(error, KeyRefused) and (named := _OWN_ACCOUNT.search(error.message)):
            return _Seen(named[1])
        return await _by_a_stored_run(res, configured.slug) or _Seen(None, f"GET /v1/account: {error}")


async def _by_a_stored_run(res: Resources, account: str) -> _Seen | None:
    """Stripe shows a run only to keys of its own account. A run that is not shown proves nothing."""
    async with res.sessions.begin() as session:
        known = await fetch_first(session, _StoredRun, _A_STORED_RUN, {"account": account})
    if known is None:
        return None
    try:
        await res.stripe.read_run(account, known.stripe_run_id)
    except StripeCallError:
        return None
    return _Seen(known.stripe_account_id)


async def _release(session: AsyncSession, account: str) -> None:
    if (await session.execute(_RELEASE, {"account": account})).first() is not None:
        await wake(session, *(lane for step in RUN_STEPS for lane in step.lanes))


# The first key binds the slug; it is never bound again.
_BIND = text("""
update accounts set stripe_account_id = coalesce(stripe_account_id, cast(:seen as text)),
    livemode = coalesce(livemode, cast(:livemode as boolean))
where slug = :account
returning stripe_account_id, coalesce(livemode = cast(:livemode as boolean), true) as same_mode
""")
_A_STORED_RUN = text("""
select accounts.stripe_account_id, attempts.stripe_run_id
from runs join attempts on attempts.run_id = runs.id and attempts.number = runs.attempt
join accounts on accounts.slug = runs.account
where runs.account = :account and runs.state = 'stored' and accounts.stripe_account_id is not null
  and attempts.stripe_run_id is not null
order by runs.id desc limit 1
""")
# No probe is ever due for these holds: only the confirmed key ends them.
_HOLD = text("""
insert into account_holds (account, call_kind, reason, next_probe_at)
select :account, kind, cast(:reason as text), 'infinity' from unnest(array['create', 'read', 'files']) as held(kind)
on conflict (account, call_kind) do update set reason = excluded.reason, next_probe_at = 'infinity'
""")
_RELEASE = text("""
delete from account_holds where account = :account and next_probe_at = 'infinity' returning 1
""")
