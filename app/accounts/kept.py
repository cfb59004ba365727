"""Accounts stored in rows, in a running process: loaded without a restart, and sealed with the newest key."""

import asyncio
from contextlib import suppress
from typing import Never

from app.background import outlive
from app.keys import rows
from app.keys.taking_up import LOOK_SECONDS
from app.resources import Resources

# How many accounts one transaction seals again.
SEALED_AT_ONCE = 100


async def take_up(res: Resources) -> None:
    """Use the accounts as they are kept now; the keys of those that changed are confirmed before any other call."""
    changed = await res.keeper.take_up(res.sessions)
    if not changed:
        return
    res.unconfirmed.difference_update(changed)
    res.unconfirmed.update(changed & res.stripe.accounts)
    res.confirm_soon.set()
    res.wakeups.ring()


async def follow(res: Resources) -> Never:
    """Take up what changes: when a wake-up says so, and every half minute in case it was lost."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await res.wakeups.keys_changed.wait()
        res.wakeups.keys_changed.clear()
        await outlive("accounts", take_up(res))


async def seal_again(res: Resources) -> bool:
    """Seal with the first key what is still sealed with an older one; True when there may be more."""
    keys = res.settings.key_encryption_key
    if not keys:
        return False
    async with res.sessions.begin() as session:
        done = await rows.seal_again(session, keys, rows.names_of(keys)[0], limit=SEALED_AT_ONCE)
    return done == SEALED_AT_ONCE
