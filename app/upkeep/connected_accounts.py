"""Read from Stripe which accounts are connected to ours: the newest ones often, all of them once a day.

Only a complete reading says who has left. It resumes where it broke off, a page at a time, so a list of any length
is read in constant memory.
"""

from datetime import timedelta
from functools import partial

import structlog

from app.accounts import connected
from app.accounts.connected import Reading
from app.errors import KeyRefused, NotNow, Refused
from app.resources import Resources
from app.rules import members
from app.upkeep.calls import Troubles, read_one

log = structlog.get_logger()

EVERY_SECONDS = 1800.0
COMPLETE_EVERY_SECONDS = 86_400.0
# A look that is nearly due counts as due: the timetable is not exact.
_NEARLY = 0.95
# The newest are read again this far back: Stripe's clock is not ours, and an item may appear late.
_OVERLAP = timedelta(days=1)
# How many of the accounts that events named are looked up, one by one, per round; the next round follows at once.
LOOKS_AT_ONCE = 50
# A page after an account that has left is refused.
_FROM_THE_BEGINNING = "the list of connected accounts is read from its beginning again"


async def read_lists(res: Resources) -> bool:
    """Read what is due of every list; True if there is more to look at. Raises NotNow when one could not be read."""
    async with res.sessions.begin() as session:
        due = await connected.readings(
            session,
            sorted(res.callable_accounts),
            recent=EVERY_SECONDS * _NEARLY,
            complete=COMPLETE_EVERY_SECONDS * _NEARLY,
        )
    more, troubles = False, Troubles()
    for reading in due:
        with troubles.of(reading.account):
            more |= await _read(res, reading)
    troubles.raise_any()
    return more


async def _read(res: Resources, reading: Reading) -> bool:
    try:
        more = await _look_at_named(res, reading)
        if reading.complete:
            await _read_all(res, reading)
        elif reading.recent:
            await _read_recent(res, reading)
        async with res.sessions.begin() as session:
            await members.follow(session, reading.account)
    except (KeyRefused, Refused) as error:
        # Other reads work: it is this list that Stripe refuses.
        async with res.sessions.begin() as session:
            await connected.note_refused(session, reading.account, error.message)
        log.error("connected_accounts.refused", account=reading.account, error=error.message)
        return False
    return more


async def _look_at_named(res: Resources, reading: Reading) -> bool:
    """Ask about the accounts that events named; True if there are more."""
    account, asked_at = reading.account, reading.asked_at
    async with res.sessions.begin() as session:
        ids = await connected.to_look_at(session, account, limit=LOOKS_AT_ONCE)
    for id_ in ids:
        try:
            shown = await read_one(res, account, partial(res.stripe.read_connected, account, id_))
        except Refused:
            # Not that it has left: the list will say.
            async with res.sessions.begin() as session:
                await connected.forget_hint(session, account, id_, asked_at=asked_at)
            continue
        async with res.sessions.begin() as session:
            if shown is None:
                await connected.note_left(session, account, [id_], asked_at=asked_at)
            else:
                await connected.note_shown(session, account, [shown], source="event", asked_at=asked_at)
    return len(ids) == LOOKS_AT_ONCE


async def _read_recent(res: Resources, reading: Reading) -> None:
    since = None if reading.newest is None else reading.newest - _OVERLAP
    after = None
    while True:
        list_page = partial(res.stripe.list_connected, reading.account, created_since=since, after=after)
        try:
            page = await read_one(res, reading.account, list_page)
        except Refused:
            if after is None:
                raise
            raise NotNow(_FROM_THE_BEGINNING) from None
        async with res.sessions.begin() as session:
            await connected.note_shown(
                session, reading.account, page.accounts, source="list", asked_at=reading.asked_at
            )
            if not (page.more and page.shown):
                await connected.note_recent(session, reading.account)
                return
        after = page.shown[-1]


async def _read_all(res: Resources, reading: Reading) -> None:
    """Read the whole list, from where the last reading was broken off."""
    account, began_at, after = reading.account, reading.began_at, reading.page_after
    if began_at is None:
        async with res.sessions.begin() as session:
            began_at = await connected.begin_reading(session, account)
    while True:
        try:
            page = await read_one(res, account, partial(res.stripe.list_connected, account, after=after))
        except Refused:
            if after is None:
                raise
            # The account at the cursor has left, so the reading cannot be resumed.
            async with res.sessions.begin() as session:
                await connected.forget_reading(session, account)
            raise NotNow(_FROM_THE_BEGINNING) from None
        async with res.sessions.begin() as session:
            await connected.note_shown(session, account, page.accounts, source="list", asked_at=reading.asked_at)
            if not await connected.note_page(session, account, page, began_at=began_at, after=after):
                return  # another process was faster, and continues
            if not (page.more and page.shown):
                left = await connected.end_reading(session, account, began_at=began_at)
                break
        after = page.shown[-1]
    log.info("connected_accounts.read", account=account, left=left)
