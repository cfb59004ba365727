"""All settings as one frozen value, and the accounts that follow from them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AliasGenerator, ConfigDict, Field, model_validator

from app.settings.accounts import DEFAULT_ACCOUNT, DOUBLED, AccountEntry, Accounts, Part, account_of, doubled
from app.settings.fields import (
    SMTPURL,
    ApiKey,
    Base,
    BasePath,
    Count,
    DatabaseURL,
    EncryptionKeys,
    FileStoreURL,
    FolderURLs,
    HeaderName,
    JSONObject,
    MailAddress,
    Networks,
    PublicURL,
    SchemaName,
    Seconds,
    SecretURL,
    Sha256,
    SigningSecrets,
    Slug,
    Token,
    Tokens,
    Words,
    of_one_account,
    password_of,
)
from app.vocabulary import Role


def setting_name(field_name: str) -> str:
    """The environment variable of a field of `Settings`."""
    prefix = "" if field_name.startswith(("stripe_", "database_")) else "TALLYHOOK_"
    return prefix + field_name.upper()


class NamedToken(Part):
    """An additional bearer token, known only by the SHA-256 (64 hexadecimal digits) of its text."""

    sha256: Sha256
    role: Role
    accounts: Annotated[tuple[Slug, ...], Field(min_length=1)] | None = None  # None: all


class Settings(Part):
    """All settings, validated. Fields are named like the variables, in lower case and without `TALLYHOOK_`."""

    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=setting_name))

    database_url: DatabaseURL | None = None
    direct_database_url: DatabaseURL | None = Field(default_factory=lambda given: given.get("database_url"))
    data_dir: Path = Path("./.tallyhook")
    stripe_api_key: Annotated[ApiKey | None, AfterValidator(of_one_account)] = None
    stripe_webhook_secret: SigningSecrets = ()
    stripe_accounts: Annotated[Mapping[Slug, AccountEntry], JSONObject] = Field(default_factory=dict)
    key_encryption_key: EncryptionKeys = ()
    stripe_api_base: Base = "https://api.stripe.com"
    stripe_files_base: Base = "https://files.stripe.com"
    admin_token: Token | None = None
    read_token: Token | None = None
    tokens: Annotated[Mapping[str, NamedToken], JSONObject] = Field(default_factory=dict)
    web: Literal["on", "off"] = "on"
    base_path: BasePath = ""
    proxy_user_header: HeaderName | None = None
    trusted_proxies: Networks = ()
    proxy_admins: Words = ()
    reconcile_seconds: Seconds = 1800.0
    pending_poll_seconds: Seconds = 900.0
    run_timeout_seconds: Seconds = 86_400.0
    max_run_attempts: Count = 3
    max_pending_runs: Count = 20
    requests_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = 20.0
    retry_base_seconds: Seconds = 2.0
    retry_max_seconds: Seconds = 900.0
    stalled_after_seconds: Seconds = 60.0
    max_body_bytes: Annotated[int, Field(ge=1, le=2**30)] = 1_048_576
    max_header_bytes: Annotated[int, Field(ge=1024, le=2**20)] = 32_768
    max_unverified_bytes: Annotated[int, Field(ge=65_536, le=2**34)] = 8_388_608
    max_connections: Count = 2000
    header_seconds: Seconds = 10.0
    body_seconds: Seconds = 30.0
    idle_seconds: Seconds = 65.0
    file_store: FileStoreURL | None = None
    retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    parquet_store: FileStoreURL | None = None
    tables: Literal["on", "off"] = "on"
    tables_personal: Literal["none", "all"] = "none"
    reports_schema: SchemaName = "reports"
    event_days: Annotated[int, Field(ge=31, le=36_500)] = 90
    signing_key: Tokens = ()
    public_url: PublicURL | None = None
    smtp_url: SMTPURL | None = None
    mail_from: MailAddress | None = None
    slack_urls: Annotated[Mapping[str, SecretURL], JSONObject] = Field(default_factory=dict)
    target_networks: Networks = ()
    target_folders: FolderURLs = ()
    target_proxy: SecretURL | None = None
    target_disable_days: Annotated[float, Field(ge=0, le=365)] = 5.0
    # Not a setting: what `load_settings` found odd but not wrong.
    warnings: Annotated[tuple[str, ...], Field(validation_alias="warnings")] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if DEFAULT_ACCOUNT in self.stripe_accounts and (self.stripe_api_key or self.stripe_webhook_secret):
            raise ValueError(
                "STRIPE_ACCOUNTS: names `default`, the account of STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET: rename it"
            )
        self._check_that_tokens_differ()
        self._check_that_accounts_differ()
        if self.retry_base_seconds > self.retry_max_seconds:
            raise ValueError("TALLYHOOK_RETRY_MAX_SECONDS: must be at least TALLYHOOK_RETRY_BASE_SECONDS")
        if (self.proxy_user_header is None) != (self.trusted_proxies == ()):
            raise ValueError(
                "TALLYHOOK_PROXY_USER_HEADER: needs TALLYHOOK_TRUSTED_PROXIES, the networks from "
                "which it is trusted: set both or neither"
            )
        return self

    def _check_that_accounts_differ(self) -> None:
        """One connected account under two names: its events could belong to either."""
        if doubled(self.accounts.values()):
            raise ValueError(f"STRIPE_ACCOUNTS: {DOUBLED}")

    def _check_that_tokens_differ(self) -> None:
        """The same token under two names would have two roles."""
        names: dict[str, str] = {token.sha256: "TALLYHOOK_TOKENS" for token in self.tokens.values()}
        if len(names) < len(self.tokens):
            raise ValueError("TALLYHOOK_TOKENS: has the same token under two names: create one for each")
        for name, token in (("TALLYHOOK_ADMIN_TOKEN", self.admin_token), ("TALLYHOOK_READ_TOKEN", self.read_token)):
            if token is None:
                continue
            digest = hashlib.sha256(token.get_secret_value().encode()).hexdigest()
            if digest in names:
                raise ValueError(f"{name}: is the same token as in {names[digest]}: create one for each")
            names[digest] = name

    def missing(self) -> Iterator[str]:
        """What is not configured and what that means; logged at start, not an error."""
        if not self.accounts:
            yield (
                "no Stripe account is configured, so nothing is received or fetched: set STRIPE_API_KEY and "
                "STRIPE_WEBHOOK_SECRET, or see `tallyhook demo`, which needs none"
            )
        if self.admin_token is None:
            yield "no admin token is set, so the admin API refuses everyone: set TALLYHOOK_ADMIN_TOKEN"

    @cached_property
    def accounts(self) -> Accounts:
        """Every account by its slug, including those kept in rows; `default` is the one with settings of its own."""
        accounts = {slug: account_of(slug, entry) for slug, entry in self.stripe_accounts.items()}
        if self.stripe_api_key or self.stripe_webhook_secret:
            own = AccountEntry(api_key=self.stripe_api_key, webhook_secrets=self.stripe_webhook_secret)
            accounts[DEFAULT_ACCOUNT] = account_of(DEFAULT_ACCOUNT, own)
        return Accounts(accounts)

    def limited_to(self, accounts: Iterable[str]) -> Self:
        """The same settings with only these accounts."""
        limited = self.model_copy()
        limited.__dict__["accounts"] = self.accounts.only(accounts)
        return limited

    def direct_url(self, url: str) -> str:
        """Where LISTEN and migrations connect: never through a pooler; `url` is the database that was opened."""
        return url if self.direct_database_url is None else self.direct_database_url.get_secret_value()

    @property
    def schema_of_tables(self) -> str | None:
        """The schema of the tables of reports; None: there are none."""
        return self.reports_schema if self.tables == "on" else None

    def secret_values(self) -> frozenset[str]:
        """Everything that no log, error, answer or row may contain: for `configure_logs`."""
        urls = [self.database_url, self.direct_database_url]
        keys = [account.api_key for account in self.accounts.values()]
        signing = [secret for account in self.accounts.values() for secret in account.webhook_secrets]
        sending = [*self.signing_key, self.smtp_url, self.target_proxy, *self.slack_urls.values()]
        every = [*urls, self.admin_token, self.read_token, *self.key_encryption_key, *keys, *signing, *sending]
        passwords = [password_of(url.get_secret_value()) for url in urls if url is not None]
        return frozenset([*(one.get_secret_value() for one in every if one is not None), *filter(None, passwords)])


SETTING_NAMES = tuple(setting_name(name) for name in Settings.model_fields if name != "warnings")
