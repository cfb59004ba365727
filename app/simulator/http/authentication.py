"""Who may call: the key in the Authorization header, what it is allowed to do, and how often."""

import base64
import binascii
from collections.abc import Mapping

from app.simulator import errors
from app.simulator.state.model import ApiKey, Permission
from app.simulator.state.world import World

PERMISSION_NAMES: dict[Permission, str] = {
    "reporting": "report_runs_and_report_types_read",
    "files": "file_read",
    "events": "event_read",
    "webhook_endpoints": "webhook_endpoint_read",
    "accounts": "accounts_read",
    "payouts": "payout_read",
}


def secret_of(headers: Mapping[str, str]) -> str:
    """The key of a call, as Bearer token or as Basic user name; empty without one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def authenticate(world: World, secret: str, context: str, *, permission: Permission | None, route: str) -> ApiKey:
    """The key, if it is valid, has the permission and is within its rate limit; otherwise raises an API error.
    `context` is the `Stripe-Context` header: an organization's key becomes one of the first account in it."""
    if not secret:
        raise errors.no_key()
    key = _of_organization(world, secret, context) if secret in world.organizations else world.keys.get(secret)
    if key is None:
        raise errors.unknown_key(secret)
    if key.revoked:
        raise errors.expired_key(secret)
    if permission is not None and permission not in key.permissions:
        raise errors.not_permitted(secret, key.account.id, PERMISSION_NAMES[permission])
    limited = world.rate_limits.check(key.account, route=route) if world.settings.rate_limits else None
    if limited is not None:
        raise limited
    return key


def _of_organization(world: World, secret: str, context: str) -> ApiKey:
    if not context:
        raise errors.no_context()
    wanted = context.partition("/")[0]
    account = next(
        (world.accounts[name] for name in world.organizations[secret] if world.accounts[name].id == wanted), None
    )
    if account is None:
        raise errors.no_access(secret, wanted)
    return ApiKey(secret, account)
