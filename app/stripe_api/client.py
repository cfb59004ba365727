"""The client for Stripe's API: list report types and connected accounts, create, read and list runs, open files.

Answers become small frozen values of our own, failures one of the `StripeCallError` classes: decided here, once.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import stripe
import structlog

from app.errors import KeyRefused, Malformed, NotNow, Refused
from app.observability.logs import redact
from app.observability.metrics import Metrics
from app.settings import Account, Settings
from app.stripe_api.answers import items_of, read_as, translate_errors
from app.stripe_api.file_answers import OpenFile, check_file_answer, open_file, origin
from app.stripe_api.http import FILE_CONTENTS, CountingClient, call_to, describe_failure, open_calls
from app.stripe_api.objects import (
    ConnectedAccount,
    Payout,
    ReportTypeInfo,
    StripeFile,
    StripeRun,
    connected_account_from,
    payout_from,
    report_type_from,
    stripe_run_from,
)
from app.stripe_api.transport import open_http
from app.trust import trust

T = TypeVar("T")
log = structlog.get_logger()

# A create answers in seconds; Stripe publishes no figure, and its own SDK waits 80 s. After 30 s we ask again with
# the same idempotency key, which costs nothing.
CALL_TIMEOUT = httpx.Timeout(30, connect=5)
# Between two pieces of a file: Stripe streams steadily, so half a minute of silence is a broken connection.
FILE_TIMEOUT = httpx.Timeout(30, connect=5)
LIST_PAGE = 100
REPORT_TYPES = "/v1/reporting/report_types"


@dataclass(frozen=True, slots=True)
class ConnectedPage:
    """A page of connected accounts, newest first; `shown` are the ids of all its items, the `odd` ones included.

    An odd item cannot be read; without an id (`nameless`) not even its account is known.
    """

    accounts: list[ConnectedAccount]
    shown: list[str]
    odd: int
    nameless: bool
    more: bool


@dataclass(frozen=True, slots=True)
class _Opened:
    """What was opened for an account with its key at that time."""

    account: Account
    sdk: stripe.StripeClient


class StripeClient:
    """Calls Stripe for every account, with the account's current key. Close it when done."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        stripe.enable_telemetry = False  # it would write a file into the home directory
        self._files_base = str(settings.stripe_files_base).rstrip("/")
        self._accounts = settings.accounts
        self._with_key: tuple[int, frozenset[str]] = (-1, frozenset())
        self._metrics = metrics or Metrics()
        self._addresses: Any = {"api": str(settings.stripe_api_base).rstrip("/"), "files": self._files_base}
        self._opened: dict[str, _Opened] = {}
        self._calls = open_calls(CALL_TIMEOUT)
        self._files = open_http(FILE_TIMEOUT, trust())

    @property
    def accounts(self) -> frozenset[str]:
        """The slugs of the accounts with an API key."""
        version, found = self._with_key
        if version != self._accounts.version:
            version = self._accounts.version
            found = frozenset(slug for slug, account in self._accounts.items() if account.api_key)
            self._with_key = version, found
        return found

    def sdk(self, slug: str) -> stripe.StripeClient:
        """The SDK's client with the account's current key. Raises NotNow if it no longer has one."""
        account = self._account(slug)
        opened = self._opened.get(slug)
        if opened is None or opened.account != account:
            opened = self._opened[slug] = self._open(account)
        return opened.sdk

    def _account(self, slug: str) -> Account:
        account = self._accounts.get(slug)
        if account is None or account.api_key is None:
            raise NotNow(f"the account {slug} no longer has an API key")
        return account

    def _open(self, account: Account) -> _Opened:
        sdk = stripe.StripeClient(
            _key(account),
            stripe_account=account.stripe_account,
            stripe_context=account.stripe_context,
            base_addresses=self._addresses,
            http_client=CountingClient(partial(self._count, account.slug), self._calls),
            max_network_retries=0,
        )
        return _Opened(account, sdk)

    async def close(self) -> None:
        """Close every connection."""
        await self._files.aclose()
        await self._calls.aclose()

    async def read_account_id(self, account: str) -> str:
        """The `acct_…` id that calls are made for: the key's own, or the one that is configured beside it."""
        return str((await translate_errors(self.sdk(account).v1.accounts.retrieve_current_async())).id)

    async def list_report_types(self, account: str, skipped: list[str] | None = None) -> list[ReportTypeInfo]:
        """Every report type of the account, in one call: Stripe does not page this list. `skipped`: see `read_each`."""
        # The raw answer: making SDK objects of 73 types and their columns, and our values of those, took 5 of the 8 ms.
        answer = await translate_errors(self.sdk(account).raw_request_async("get", REPORT_TYPES))
        return self.read_each(account, "report_type", report_type_from, items_of(answer), skipped)

    async def list_connected(
        self, account: str, *, created_since: datetime | None = None, after: str | None = None
    ) -> ConnectedPage:
        """A page of the accounts that are connected to this one, after the one with the id `after`."""
        query: Any = {"limit": LIST_PAGE}
        if created_since is not None:
            query["created"] = {"gte": int(created_since.timestamp())}
        if after is not None:
            query["starting_after"] = after
        page = await translate_errors(self.sdk(account).v1.accounts.list_async(query))
        items = items_of(page)
        found = self.read_each(account, "account", connected_account_from, items, at_least_one=False)
        shown = [item["id"] for item in items if isinstance(item.get("id"), str)]
        more = bool(getattr(page, "has_more", False)) and bool(items)
        return ConnectedPage(found, shown, len(items) - len(found), len(shown) < len(items), more)

    async def read_connected(self, account: str, connected_account: str) -> ConnectedAccount | None:
        """A connected account; None if it is not, or no longer, connected."""
        try:
            answer = await translate_errors(self.sdk(account).v1.accounts.retrieve_async(connected_account))
        except Refused as error:
            if error.status != 404:
                raise
            return None
        except KeyRefused as error:
            # About the key itself Stripe says the same in other words, or names another account.
            if f"access to account '{connected_account}'" not in error.message:
                raise
            return None
        return read_as(connected_account_from, answer)

    async def list_payouts(
        self,
        account: str,
        connected_account: str | None,
        *,
        created_since: datetime,
        skipped: list[str] | None = None,
    ) -> AsyncIterator[list[Payout]]:
        """Pages of payouts made since then, newest first: those of the account, or of an account connected to it.

        `skipped`: see `read_each`.
        """
        query: Any = {"created": {"gte": int(created_since.timestamp())}, "limit": LIST_PAGE}
        while True:
            call = self.sdk(account).v1.payouts.list_async(query, _as(connected_account))
            page = await translate_errors(call)
            items = items_of(page)
            yield self.read_each(account, "payout", payout_from, items, skipped, at_least_one=False)
            ids = [item["id"] for item in items if isinstance(item.get("id"), str)]
            if not getattr(page, "has_more", False) or not ids:
                return
            query = {**query, "starting_after": ids[-1]}

    async def read_payout(self, account: str, connected_account: str | None, payout: str) -> Payout:
        """A payout of the account, or of an account connected to it."""
        call = self.sdk(account).v1.payouts.retrieve_async(payout, None, _as(connected_account))
        return read_as(payout_from, await translate_errors(call))

    async def create_run(
        self, account: str, report_type: str, *, parameters: Mapping[str, Any], idempotency_key: str
    ) -> StripeRun:
        """Create a run. The answer may already be `succeeded`, with its file."""
        body: Any = {"report_type": report_type, "parameters": dict(parameters)}
        call = self.sdk(account).v1.reporting.report_runs.create_async(body, {"idempotency_key": idempotency_key})
        return read_as(stripe_run_from, await translate_errors(call))

    async def read_run(self, account: str, stripe_run_id: str) -> StripeRun:
        """The current state of a run."""
        call = self.sdk(account).v1.reporting.report_runs.retrieve_async(stripe_run_id)
        return read_as(stripe_run_from, await translate_errors(call))

    async def list_runs(
        self, account: str, *, created_since: datetime, slack: int = 0, skipped: list[str] | None = None
    ) -> AsyncIterator[StripeRun]:
        """Runs created since then (less `slack` seconds), newest first: Stripe has no other filter.

        `skipped`: see `read_each`.
        """
        query: Any = {"created": {"gte": int(created_since.timestamp()) - slack}, "limit": LIST_PAGE}
        while True:
            page = await translate_errors(self.sdk(account).v1.reporting.report_runs.list_async(query))
            items = items_of(page)
            for run in self.read_each(account, "report_run", stripe_run_from, items, skipped):
                yield run
            ids = [item["id"] for item in items if isinstance(item.get("id"), str)]
            if not getattr(page, "has_more", False) or not ids:
                return
            query = {**query, "starting_after": ids[-1]}

    @asynccontextmanager
    async def open_file(self, account: str, file: StripeFile, *, start: int = 0) -> AsyncIterator[OpenFile]:
        """Stream a file's bytes from `start`, without compression on the wire.

        The key is sent only to the configured files host: a URL that points elsewhere is not used, and redirects
        are not followed. Raises NotNow, KeyRefused, or Refused (404 and 410: the file is gone); WrongPart if the file
        cannot be resumed at `start`.
        """
        of = self._account(account)
        headers = {"Authorization": f"Bearer {_key(of)}", "Accept-Encoding": "identity", **of.headers}
        if start:
            headers["Range"] = f"bytes={start}-"
        with call_to(FILE_CONTENTS, partial(self._count, account)) as call:
            try:
                async with self._files.stream("GET", self._file_url(file), headers=headers) as response:
                    call.answered(response.status_code, response.headers)
                    check_file_answer(response, start)
                    yield open_file(response, file, start)
            except httpx.HTTPError as error:
                raise NotNow(redact(f"the download was cut off. {describe_failure(error)}")) from error

    def read_each(
        self,
        account: str,
        kind: str,
        reader: Callable[[dict[str, Any]], T],
        items: list[dict[str, Any]],
        skipped: list[str] | None = None,
        *,
        at_least_one: bool = True,
    ) -> list[T]:
        """The items of a list, read one by one: an unreadable one is counted and logged, and does not hide the others.

        What is wrong with each is added to `skipped`. Raises NotNow if none can be read, and `at_least_one` must be.
        """
        found = []
        for item in items:
            try:
                found.append(reader(item))
            except Malformed as error:
                self._metrics.unreadable_items.labels(account, kind).inc()
                said = redact(f"{item.get('id') or 'one without an id'}: {error}"[:300])
                log.warning("stripe.unreadable_item", account=account, kind=kind, error=said)
                if skipped is not None:
                    skipped.append(said)
        if at_least_one and items and not found:
            raise NotNow("Stripe's answer cannot be read: none of its items is what was requested")
        return found

    def _count(self, account: str, endpoint: str, status: str) -> None:
        self._metrics.stripe_requests.labels(account, endpoint, status).inc()

    def _file_url(self, file: StripeFile) -> str:
        if file.url is not None and origin(file.url) == origin(self._files_base):
            return file.url
        return f"{self._files_base}/v1/files/{quote(file.id, safe='')}/contents"


def _as(connected_account: str | None) -> Any:
    return None if connected_account is None else {"stripe_account": connected_account}


def _key(account: Account) -> str:
    assert account.api_key is not None
    return account.api_key.get_secret_value()
