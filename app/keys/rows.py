"""The rows of accounts kept in the database: written by the API, read by every process."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.errors import CannotOpen
from app.keys.sealing import name_of, seal, unseal
from app.queue.wakeups import CHANNEL, KEYS_WORD
from app.settings import AccountEntry


@dataclass(frozen=True, slots=True)
class Version:
    """Which version of an account's keys a row holds."""

    account: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a row keeps about an account: `sealed` is ciphertext, `sealed_with` the name of the key."""

    account: str
    sealed: bytes
    sealed_with: str

    def open(self, keys: Sequence[SecretStr]) -> AccountEntry:
        """The account as it was written. Raises CannotOpen."""
        return AccountEntry.model_validate(json.loads(unseal(self.sealed, self.sealed_with, self.account, keys)))


async def versions(session: AsyncSession) -> dict[str, datetime]:
    """When each stored account was last changed."""
    return {row.account: row.changed_at for row in await fetch(session, Version, _VERSIONS)}


async def read(session: AsyncSession, accounts: Sequence[str]) -> list[Sealed]:
    """What is kept about these accounts."""
    return await fetch(session, Sealed, _READ, {"accounts": list(accounts)})


async def lock(session: AsyncSession, account: str) -> Sealed | None:
    """What is kept about this account, locked until the transaction ends."""
    return next(iter(await fetch(session, Sealed, _LOCK, {"account": account})), None)


async def add(session: AsyncSession, account: str, entry: AccountEntry, keys: Sequence[SecretStr]) -> bool:
    """Keep a new account; False if the name exists."""
    await session.execute(_NOTE_ACCOUNT, {"account": account})
    added = (await session.execute(_ADD, _values(account, entry, keys))).first() is not None
    await _say_so(session)
    return added


async def change(session: AsyncSession, account: str, entry: AccountEntry, keys: Sequence[SecretStr]) -> None:
    """Replace what is kept of the account."""
    await session.execute(_CHANGE, _values(account, entry, keys))
    await _say_so(session)


async def remove(session: AsyncSession, account: str) -> None:
    """Forget the account's keys; its reports and its name stay."""
    await session.execute(_REMOVE, {"account": account})
    await _say_so(session)


async def seal_again(session: AsyncSession, keys: Sequence[SecretStr], name: str, *, limit: int) -> int:
    """Seal up to `limit` accounts with the first key, whose name is `name`; returns how many were.

    `changed_at` stays the same: a process that knows only the older key keeps what it has read.
    """
    found = await fetch(session, Sealed, _OF_OTHER_KEYS, {"name": name, "limit": limit, "known": names_of(keys)})
    done = 0
    for row in found:
        with suppress(CannotOpen):  # health says which
            sealed, sealed_with = seal(unseal(row.sealed, row.sealed_with, row.account, keys), row.account, keys)
            await session.execute(_SEAL_AGAIN, {"account": row.account, "sealed": sealed, "sealed_with": sealed_with})
            done += 1
    return done


async def count_by_key(session: AsyncSession) -> dict[str, int]:
    """How many accounts are sealed with each key, by its name."""
    return {row.sealed_with: row.accounts for row in await fetch(session, _Count, _COUNT)}


@dataclass(frozen=True, slots=True)
class _Count:
    sealed_with: str
    accounts: int


def names_of(keys: Sequence[SecretStr]) -> list[str]:
    """The names of these keys."""
    return [name_of(key) for key in keys]


def _values(account: str, entry: AccountEntry, keys: Sequence[SecretStr]) -> dict[str, object]:
    sealed, sealed_with = seal(json.dumps(_plain(entry)), account, keys)
    return {"account": account, "sealed": sealed, "sealed_with": sealed_with}


def _plain(entry: AccountEntry) -> dict[str, object]:
    return {
        "api_key": entry.api_key and entry.api_key.get_secret_value(),
        "webhook_secrets": [secret.get_secret_value() for secret in entry.webhook_secrets],
        "stripe_account": entry.stripe_account,
        "stripe_context": entry.stripe_context,
    }


async def _say_so(session: AsyncSession) -> None:
    await session.execute(_NOTIFY, {"channel": CHANNEL, "word": KEYS_WORD})


_VERSIONS = text("select account, changed_at from account_keys")
_READ = text("select account, sealed, sealed_with from account_keys where account = any(cast(:accounts as text[]))")
_LOCK = text("select account, sealed, sealed_with from account_keys where account = :account for update")
_NOTE_ACCOUNT = text("insert into accounts (slug) values (:account) on conflict (slug) do nothing")
_ADD = text("""
insert into account_keys (account, sealed, sealed_with) values (:account, :sealed, :sealed_with)
on conflict (account) do nothing returning 1
""")
_CHANGE = text("""
update account_keys set sealed = :sealed, sealed_with = :sealed_with, changed_at = clock_timestamp()
where account = :account
""")
_REMOVE = text("delete from account_keys where account = :account")
_OF_OTHER_KEYS = text("""
select account, sealed, sealed_with from account_keys
where sealed_with <> :name and sealed_with = any(cast(:known as text[]))
order by account limit :limit for update skip locked
""")
_SEAL_AGAIN = text("update account_keys set sealed = :sealed, sealed_with = :sealed_with where account = :account")
_COUNT = text("select sealed_with, count(*) as accounts from account_keys group by sealed_with")
_NOTIFY = text("select pg_notify(:channel, :word)")
