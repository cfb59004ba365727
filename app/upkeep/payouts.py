"""Read from Stripe which payouts exist, for the rules that request a report of every one.

An account's own list is read as often as it is reconciled, those of connected accounts once a day: their payouts
normally become known by events, and Stripe limits reads.
"""

from functools import partial

from app.accounts import payouts
from app.accounts.payouts import DueList, NamedPayout
from app.errors import KeyRefused, NotNow, Refused
from app.resources import Resources
from app.upkeep.calls import read_one

CONNECTED_EVERY_SECONDS = 86_400.0
# A list that is nearly due counts as due: the timetable is not exact.
_NEARLY = 0.95
# How many are read per round; the next round follows at once.
LISTS_AT_ONCE = 50


async def read_lists(res: Resources) -> bool:
    """Read the payouts that events have named and the lists that are due; True if there are more.

    Raises NotNow when something could not be read.
    """
    accounts = sorted(res.callable_accounts)
    async with res.sessions.begin() as session:
        named = await payouts.to_look_at(session, accounts, limit=LISTS_AT_ONCE)
        due = await payouts.lists_due(
            session,
            accounts,
            own_seconds=res.settings.reconcile_seconds * _NEARLY,
            connected_seconds=CONNECTED_EVERY_SECONDS * _NEARLY,
            limit=LISTS_AT_ONCE,
        )
    problems = []
    work = [*(partial(_look_at, res, one) for one in named), *(partial(_read, res, one) for one in due)]
    for step in work:
        try:
            await step()
        except NotNow as error:  # an account that does not answer does not hold up the others
            problems.append(str(error))
    if problems:
        raise NotNow("; ".join(problems))
    return LISTS_AT_ONCE in (len(named), len(due))


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
    pages = res.stripe.list_payouts(due.account, due.connected_account or None, created_since=due.since)
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
        await payouts.note_read(session, due)
