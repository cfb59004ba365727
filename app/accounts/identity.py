"""A slug is bound to the Stripe account and mode that its key belonged to when it was seen first.

A key of another account would file another company's reports under this one's name: it holds the slug, until the
right key is back.
"""

from typing import Any

import structlog
from sqlalchemy import Row, text

from app.errors import KeyRefused, NotNow, Refused
from app.resources import Resources

log = structlog.get_logger()


async def check_identity(res: Resources, account: str) -> None:
    """Compare the key's account with the slug's, and bind it if it is the first. Raises NotNow.

    A restricted key may not be allowed to read its own account: then there is nothing to compare.
    """
    try:
        seen = await res.stripe.read_account_id(account)
    except (KeyRefused, Refused):
        seen = None
    values = {"account": account, "seen": seen, "livemode": res.settings.accounts[account].livemode}
    async with res.sessions.begin() as session:
        bound = (await session.execute(_BIND, values)).one()
        right = bound.same_account and bound.same_mode
        if right:
            await session.execute(_RELEASE, {"account": account})
        else:
            await session.execute(_HOLD, {"account": account, "reason": _reason(bound, seen)})
    if not right:
        log.error("account.wrong_key", account=account, bound_to=bound.stripe_account_id, key_of=seen)
        raise NotNow(_reason(bound, seen))


def _reason(bound: Row[Any], seen: str | None) -> str:
    mode = "" if bound.same_mode else ", in the other mode"
    return f"the key is of {seen or 'another account'}{mode}; this account is bound to {bound.stripe_account_id}"


# The first key that says so binds what is not bound yet; nothing ever binds anew.
_BIND = text("""
update accounts set stripe_account_id = coalesce(stripe_account_id, cast(:seen as text)),
    livemode = coalesce(livemode, cast(:livemode as boolean))
where slug = :account
returning stripe_account_id,
    coalesce(stripe_account_id = cast(:seen as text), true) as same_account,
    coalesce(livemode = cast(:livemode as boolean), true) as same_mode
""")
# No probe is ever due for these: only the right key ends them.
_HOLD = text("""
insert into account_holds (account, call_kind, reason, next_probe_at)
select :account, kind, cast(:reason as text), 'infinity' from unnest(array['create', 'read', 'files']) as held(kind)
on conflict (account, call_kind) do update set reason = excluded.reason, next_probe_at = 'infinity'
""")
_RELEASE = text("""
delete from account_holds where account = :account and next_probe_at = 'infinity' returning 1
""")
