"""Calls to Stripe for setting up: webhook endpoints, Stripe's clock, and what a key may do.

Only `tallyhook doctor` and health use these; they raise the same errors as `client`.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from app.errors import NotNow, Refused
from app.settings import Settings
from app.stripe_api.answers import items_of, read_as, translate_errors
from app.stripe_api.client import CALL_TIMEOUT, LIST_PAGE, StripeClient
from app.stripe_api.http import describe_failure
from app.stripe_api.objects import NewEndpoint, StripeFile, WebhookEndpoint, new_endpoint_from, webhook_endpoint_from
from app.trust import trust

# `*` means every event except those that must be selected by name (stripe.md 4.2); this is the one we need.
BY_NAME_ONLY = "reporting.report_type.updated"
# Released versions: a date, since 2024 with a name. Bodies are read tolerantly, but a preview's may change at any time.
_RELEASED = re.compile(r"\d{4}-\d{2}-\d{2}(\.(?!preview)[a-z]+)?")


async def list_endpoints(client: StripeClient, account: str) -> list[WebhookEndpoint]:
    """Every webhook endpoint of the account: Stripe allows 16, so one page holds them. Raises KeyRefused, NotNow."""
    query: Any = {"limit": LIST_PAGE}
    answer = await translate_errors(client.sdk(account).v1.webhook_endpoints.list_async(query))
    return client.read_each(account, "webhook_endpoint", webhook_endpoint_from, items_of(answer))


async def create_endpoint(
    client: StripeClient, account: str, url: str, *, events: Iterable[str], connect: bool = False
) -> NewEndpoint:
    """Register an endpoint for these events, with `connect` those of connected accounts.

    Raises KeyRefused, NotNow, Refused.
    """
    body: Any = {"url": url, "enabled_events": sorted(events), "description": "Tallyhook"}
    if connect:
        body["connect"] = True
    return read_as(
        new_endpoint_from, await translate_errors(client.sdk(account).v1.webhook_endpoints.create_async(body))
    )


async def repair_endpoint(
    client: StripeClient, account: str, endpoint: WebhookEndpoint, *, events: Iterable[str]
) -> WebhookEndpoint:
    """Enable an endpoint and select these events too; its secret stays. Raises KeyRefused, NotNow, Refused."""
    body: Any = {"enabled_events": sorted({*endpoint.events, *events}), "disabled": False}
    call = client.sdk(account).v1.webhook_endpoints.update_async(endpoint.id, body)
    return read_as(webhook_endpoint_from, await translate_errors(call))


def missing_events(endpoint: WebhookEndpoint, wanted: Iterable[str]) -> list[str]:
    """Which of our events this endpoint does not get, even with `*`."""
    covered = {*endpoint.events, *(set(wanted) - {BY_NAME_ONLY} if "*" in endpoint.events else ())}
    return sorted(set(wanted) - covered)


def is_released(api_version: str | None) -> bool:
    """Whether this is a released API version; None is the account's default version."""
    return api_version is None or _RELEASED.fullmatch(api_version) is not None


async def check_files(client: StripeClient, account: str) -> None:
    """Check the permission to read files, by requesting a file that does not exist.

    Raises KeyRefused if the key is not allowed to read files, NotNow if the host cannot be reached.
    """
    nobody_has = StripeFile("file_tallyhook_doctor", None, None, None, None)
    try:
        async with client.open_file(account, nobody_has):
            pass
    except Refused:
        return


async def read_clock(settings: Settings) -> datetime:
    """Stripe's own time, from the `Date` of an answer to a call without a key. Raises NotNow."""
    try:
        async with httpx.AsyncClient(timeout=CALL_TIMEOUT, follow_redirects=False, verify=trust()) as client:
            answer = await client.get(f"{settings.stripe_api_base}/v1/account")
        return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except httpx.HTTPError as error:
        raise NotNow(describe_failure(error)) from error
    except (KeyError, ValueError) as error:
        raise NotNow("Stripe's answer does not say when it was made") from error
