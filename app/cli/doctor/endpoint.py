"""Repairs a webhook endpoint: registers it, enables it, selects the right events."""

from collections.abc import Collection
from dataclasses import dataclass, field

from app.stripe_api.client import StripeClient
from app.stripe_api.webhook_endpoints import (
    create_endpoint,
    list_endpoints,
    missing_events,
    repair_endpoint,
)


@dataclass(frozen=True, slots=True)
class Fixed:
    """What was done about an account's endpoint; `secret` only if it was just registered, and `advice` what to do with
    it."""

    account: str
    url: str
    endpoint_id: str
    action: str  # registered, repaired, unchanged
    secret: str | None = field(default=None, repr=False)
    advice: str | None = None


async def fix_endpoint(
    client: StripeClient, account: str, events: Collection[str], *, url: str, advice: str, connect: bool = False
) -> Fixed:
    """Register the endpoint, or enable it and select what is missing; with `connect` the one for connected accounts.
    `advice` is what to do with the secret of a new one.

    Raises StripeCallError.
    """
    listed = await list_endpoints(client, account)
    there = [endpoint for endpoint in listed if endpoint.url == url and endpoint.connect is connect]
    if not there:
        new = await create_endpoint(client, account, url, events=events, connect=connect)
        return Fixed(account, url, new.endpoint.id, "registered", new.secret, advice)
    endpoint = there[0]
    if endpoint.enabled and not missing_events(endpoint, events):
        return Fixed(account, url, endpoint.id, "unchanged")
    await repair_endpoint(client, account, endpoint, events=events)
    return Fixed(account, url, endpoint.id, "repaired")
