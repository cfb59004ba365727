"""How a process loads the accounts stored in rows: at its start, when it is woken, and every half minute.

What is in use is `settings.accounts`: Stripe client, intake, lanes and checks look there each time they need it.
"""

from collections.abc import Mapping
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import CannotOpen
from app.keys import rows
from app.observability.logs import know_too
from app.settings import Account, Settings
from app.settings.accounts import account_of

log = structlog.get_logger()

# How long a lost wake-up leaves a process with old keys.
LOOK_SECONDS = 30.0
IN_BOTH = (
    "the settings and the API both have an account {}: the settings win. Remove it from STRIPE_ACCOUNTS, or with "
    "DELETE /v1/accounts/{}"
)


class Keeper:
    """What one process has read of the stored accounts."""

    def __init__(self, settings: Settings) -> None:
        self._accounts, self._keys = settings.accounts, settings.key_encryption_key
        self._read: dict[str, datetime] = {}
        self._kept: dict[str, Account] = {}
        self._problems: dict[str, str] = {}

    async def take_up(self, sessions: async_sessionmaker[AsyncSession]) -> set[str]:
        """Read what changed since the last time, and use it; returns the accounts whose keys are new or gone."""
        async with sessions.begin() as session:
            found = await rows.versions(session)
            changed = [slug for slug, at in found.items() if self._read.get(slug) != at]
            gone = self._read.keys() - found.keys()
            if not changed and not gone:
                return set()
            opened = {row.account: self._open(row) for row in await rows.read(session, changed)}
        before = dict(self._accounts)
        self._note(opened, gone, found)
        self._accounts.take_up(self._kept, self._problems)
        differing = {slug for slug in {*changed, *gone} if before.get(slug) != self._accounts.get(slug)}
        log.info("accounts.taken_up", accounts=len(self._kept), changed=sorted(differing)[:20])
        return differing

    def _open(self, row: rows.Sealed) -> Account | str:
        """The account, or why it cannot be used."""
        if row.account in self._accounts.configured:
            return IN_BOTH.format(row.account, row.account)
        try:
            return account_of(row.account, row.open(self._keys))
        except (CannotOpen, ValueError) as error:
            # What was read before stays in use: a process that is about to get its new key works with the old one.
            return str(error) if isinstance(error, CannotOpen) else "its row cannot be read"

    def _note(self, opened: Mapping[str, Account | str], gone: set[str], found: Mapping[str, datetime]) -> None:
        for slug in gone:
            self._kept.pop(slug, None)
            self._problems.pop(slug, None)
        for slug, account in opened.items():
            if isinstance(account, str):
                if self._problems.get(slug) != account:
                    log.error("account.cannot_be_used", account=slug, error=account)
                self._problems[slug] = account
                continue
            self._problems.pop(slug, None)
            self._kept[slug] = account
            secrets = [*(account.webhook_secrets), *([account.api_key] if account.api_key else [])]
            know_too(secret.get_secret_value() for secret in secrets)
        # One that could not be opened is tried again: its key may arrive.
        self._read = {slug: at for slug, at in found.items() if slug not in self._problems}
