"""Webhook endpoints and their signing secrets, which can be rolled: for a while the old one signs too."""

from collections.abc import Iterable

from app.simulator.ids import new_id
from app.simulator.state.model import Account, Endpoint, SigningSecret
from app.simulator.state.world import World

REPORTING_EVENTS = (
    "reporting.report_run.failed",
    "reporting.report_run.succeeded",
    "reporting.report_type.updated",
)


def add_endpoint(
    world: World,
    account: Account,
    *,
    url: str,
    events: Iterable[str] = REPORTING_EVENTS,
    secrets: Iterable[str] = (),
    connect: bool = False,
) -> Endpoint:
    """A new endpoint; without a given secret it gets a random one."""
    values = list(secrets) or [new_id("whsec")]
    endpoint = Endpoint(
        id=new_id("we"),
        url=url,
        enabled_events=list(events),
        secrets=[SigningSecret(value) for value in values],
        created=world.clock.unix(),
        livemode=account.livemode,
        connect=connect,
    )
    account.endpoints[endpoint.id] = endpoint
    return endpoint


def change_endpoint(endpoint: Endpoint, *, enabled: bool | None, url: str | None, events: list[str] | None) -> Endpoint:
    endpoint.enabled = endpoint.enabled if enabled is None else enabled
    endpoint.url = url or endpoint.url
    endpoint.enabled_events = endpoint.enabled_events if events is None else events
    return endpoint


def roll_secret(world: World, endpoint: Endpoint, *, new: str | None = None, keep_seconds: float = 0.0) -> str:
    """Gives the endpoint a new secret and returns it; the old ones also sign for `keep_seconds`."""
    now = world.clock.now()
    kept = [secret for secret in endpoint.secrets if secret.expires_at is None or now < secret.expires_at]
    for secret in kept:
        until = now + keep_seconds
        secret.expires_at = until if secret.expires_at is None else min(secret.expires_at, until)
    value = new or new_id("whsec")
    endpoint.secrets = [SigningSecret(value), *kept]
    return value
