"""Stripe accounts: how they are written, and one mapping of those in the settings and those kept in rows."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from app.settings.fields import (
    ApiKey,
    SigningSecrets,
    StripeAccountId,
    StripeContext,
    of_an_organization,
    of_one_account,
)

# The account of STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET.
DEFAULT_ACCOUNT = "default"
DOUBLED = "two accounts have the same stripe_account or stripe_context: its events could belong to either"


class Part(BaseModel):
    """A part of the settings, checked as a whole; errors never repeat a value."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AccountEntry(Part):
    """How an account is written: in STRIPE_ACCOUNTS, and to `POST /v1/accounts`."""

    api_key: ApiKey | None = None
    webhook_secrets: SigningSecrets = ()
    stripe_account: StripeAccountId | None = None
    stripe_context: StripeContext | None = None

    @model_validator(mode="after")
    def _is_of_use(self) -> Self:
        if self.api_key is None and not self.webhook_secrets:
            raise ValueError("every account needs an api_key, webhook_secrets or both")
        if self.stripe_account and self.stripe_context:
            raise ValueError(
                "stripe_account (a platform's key) and stripe_context (an organization's) cannot be used together"
            )
        if self.api_key is not None and of_an_organization(self.api_key) and self.stripe_account:
            raise ValueError("an organization's key needs a stripe_context, not a stripe_account")
        if self.stripe_context is None:
            of_one_account(self.api_key)
        return self


@dataclass(frozen=True, slots=True)
class Account:
    """A Stripe account with a key or signing secrets; `livemode` is None if the key does not show it.

    `stripe_account` is a connected account that a platform's key is used for (the header `Stripe-Account`),
    `stripe_context` the account that an organization's key is used for (`Stripe-Context`). Without them the key
    decides.
    """

    slug: str
    api_key: SecretStr | None
    webhook_secrets: tuple[SecretStr, ...]
    livemode: bool | None
    stripe_account: str | None = None
    stripe_context: str | None = None

    @property
    def named_id(self) -> str | None:
        """The `acct_…` that calls are made for, if it is given beside the key."""
        return self.stripe_account or (self.stripe_context and self.stripe_context.rpartition("/")[2])

    @property
    def heard_by_others(self) -> bool:
        """Whether its events arrive only at the endpoint of its platform or organization."""
        return self.named_id is not None and not self.webhook_secrets

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that every call carries besides the key."""
        given = {"Stripe-Account": self.stripe_account, "Stripe-Context": self.stripe_context}
        return {name: value for name, value in given.items() if value is not None}


def account_of(slug: str, entry: AccountEntry) -> Account:
    """The account that is written this way."""
    mode = re.match(r"[sr]k_(?:org_)?(live|test)_", entry.api_key.get_secret_value() if entry.api_key else "")
    livemode = None if mode is None else mode[1] == "live"
    return Account(slug, entry.api_key, entry.webhook_secrets, livemode, entry.stripe_account, entry.stripe_context)


def doubled(accounts: Iterable[Account]) -> bool:
    """Whether one connected account has two names: its events could belong to either."""
    named = [(one.named_id, one.livemode) for one in accounts if one.named_id is not None]
    return len(set(named)) < len(named)


class Accounts(Mapping[str, Account]):
    """Every account by its slug: those of the settings, and those kept in rows as they were last read.

    `version` counts the changes. `problems` says by slug why a row's account is not used.
    """

    def __init__(self, configured: Mapping[str, Account]) -> None:
        self.configured = dict(configured)
        self.problems: Mapping[str, str] = {}
        self.version = 0
        self._all = self.configured

    def take_up(self, kept: Mapping[str, Account], problems: Mapping[str, str]) -> None:
        """Use the stored accounts as they are now. A name that the settings also have means theirs."""
        self._all = {**kept, **self.configured}
        self.problems = dict(problems)
        self.version += 1

    def place_of(self, slug: str, part: Literal["api_key", "webhook_secrets"]) -> str:
        """Where a part of an account is set: in the settings, or by the API for an account that is kept in rows."""
        if slug in self and slug not in self.configured:
            return f"`{part}` with PATCH /v1/accounts/{slug}"
        if slug == DEFAULT_ACCOUNT:
            return {"api_key": "STRIPE_API_KEY", "webhook_secrets": "STRIPE_WEBHOOK_SECRET"}[part]
        return f"`{part}` of `{slug}` in STRIPE_ACCOUNTS"

    def only(self, slugs: Iterable[str]) -> "Accounts":
        """Those with these names, as they are now."""
        wanted = frozenset(slugs)
        limited = Accounts({slug: account for slug, account in self.configured.items() if slug in wanted})
        limited.take_up(
            {slug: account for slug, account in self.items() if slug in wanted},
            {slug: problem for slug, problem in self.problems.items() if slug in wanted},
        )
        return limited

    def __getitem__(self, slug: str) -> Account:
        return self._all[slug]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
