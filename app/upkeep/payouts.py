"""Read from Stripe which payouts exist, for the rules that request a report of every one.

An account's own list is read as often as it is reconciled, those of connected accounts once a day: their payouts
normally become known by events, and Stripe limits reads.
"""

from functools import partial
from time import monotonic

from app.accounts import payouts
from app.accounts.payouts import DueList, NamedPayout
from app.errors import KeyRefused, Refused
from app.observability import log_lines
from app.resources import Resources
from app.upkeep.calls import Troubles, read_one

CONNECTED_EVERY_SECONDS = 86_400.0
# A list that is nearly due counts as due: the timetable is not exact.
_NEARLY = 0.95
# How many are read per round; the next round follows at once.
LISTS_AT_ONCE = 50
# How long the others are read before an account that could not be is asked again.
LEFT_OUT_SECONDS = 60.0


async def read_lists(res: Resources) -> bool:
    """Read the payouts that events have named and the lists that are due; True if there are more.

    An account of which something could not be read is left out of the rest of the round, so that the others are
    reached however much of it waits. Raises NotNow when something could not be read, but not before the others are
    done: the next round is a minute away then. If they take longer than that, it follows at once.
    """
    accounts, troubles, until = set(res.callable_accounts), Troubles(), 0.0
    while True:
        named, due = await _waiting(res, accounts)
        work = [
            *((one.account, partial(_look_at, res, one)) for one in named),
            *((one.account, partial(_read, res, one)) for one in due),
        ]
        for account, step in work:
            if account not in troubles.without_permit:
                with troubles.of(account):
                    await step()
        more = LISTS_AT_ONCE in (len(named), len(due))
        if left_out := accounts & troubles.accounts:
            accounts -= left_out
            until = monotonic() + LEFT_OUT_SECONDS
        elif not (more and troubles.accounts):
            break
        elif monotonic() >= until:
            log_lines.annotate(about=str(troubles))
            return True
    troubles.raise_any()
    return more


async def _waiting(res: Resources, accounts: set[str]) -> tuple[list[NamedPayout], list[DueList]]:
    """What has waited longest for these accounts."""
    async with res.sessions.begin() as session:
        named = await payouts.to_look_at(session, sorted(accounts), limit=LISTS_AT_ONCE)
        due = await payouts.lists_due(
            session,
            sorted(accounts),
            own_seconds=res.settings.reconcile_seconds * _NEARLY,
            connected_seconds=CONNECTED_EVERY_SECONDS * _NEARLY,
            limit=LISTS_AT_ONCE,
        )
    return named, due


async def _look_at(res: Resources, named: NamedPayout) -> None:
    whose = named.connected_account or None
    try:
        shown = await read_one(res, named.account, lambda: res.stripe.read_payout(named.account, whose, named.id))
    except (Refused, KeyRefused):
        async with res.sessions.begin() as session:
            await payouts.note_gone(session, named)
        return
    async with res.sessions.begin() as session:
        await payouts.note_looked_at(session, named, shown)


async def _read(res: Resources, due: DueList) -> None:
    whose, skipped = due.connected_account or None, list[str]()
    pages = res.stripe.list_payouts(due.account, whose, created_since=due.since, skipped=skipped)
    try:
        while (page := await read_one(res, due.account, lambda: anext(pages, None))) is not None:
            async with res.sessions.begin() as session:
                await payouts.note_seen(session, due.account, due.connected_account, page)
    except (Refused, KeyRefused) as error:
        # Only this list is refused: other reads of the account work.
        async with res.sessions.begin() as session:
            await payouts.note_read(session, due, refusal=error.message)
        return
    async with res.sessions.begin() as session:
        await payouts.note_read(session, due, whole=not skipped)
