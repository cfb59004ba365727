"""Accounts with their keys, and the accounts connected to them."""

from app.simulator.availability import add_catalogue
from app.simulator.ids import derived_id, new_id
from app.simulator.state.connected import ConnectedAccount
from app.simulator.state.model import Account, ApiKey, Permission
from app.simulator.state.world import World
from app.simulator.webhooks.events import emit


def add_account(world: World, name: str, *, livemode: bool, account_id: str | None, catalogue: bool) -> Account:
    if name in world.accounts:
        raise ValueError(f"an account {name!r} already exists")
    identifier = account_id or derived_id("acct", world.settings.seed, name)
    account = Account(name=name, id=identifier, livemode=livemode)
    world.accounts[name] = account
    if catalogue:
        add_catalogue(world, account)
    return account


def add_key(world: World, owner: Account, secret: str, permissions: set[Permission] | None) -> ApiKey:
    key = ApiKey(secret, owner) if permissions is None else ApiKey(secret, owner, permissions)
    owner.keys = [other for other in owner.keys if other.secret != secret] + [key]
    world.keys[secret] = key
    return key


def change_key(world: World, secret: str, *, revoked: bool | None, permissions: set[Permission] | None) -> ApiKey:
    if secret not in world.keys:
        raise LookupError("no account has that key")
    key = world.keys[secret]
    key.revoked = key.revoked if revoked is None else revoked
    key.permissions = key.permissions if permissions is None else permissions
    return key


def connect(
    world: World, platform: Account, identifier: str | None, *, created: int | None, name: str | None
) -> ConnectedAccount:
    """Adds a connected account, announced by `account.updated`."""
    connected = ConnectedAccount(
        id=identifier or new_id("acct"), created=world.clock.unix() if created is None else created, name=name
    )
    if platform.connected.get(connected.id) is not None:
        raise ValueError(f"{connected.id} is connected already")
    platform.connected.add(connected)
    emit(world, platform, kind="account.updated", about=connected.rendered(), previous={}, owner=connected.id)
    return connected


def disconnect(world: World, platform: Account, identifier: str) -> ConnectedAccount:
    """The account revokes its consent: it leaves the list, the platform's key gets 403, and
    `account.application.deauthorized` is sent."""
    connected = platform.connected.get(identifier)
    if connected is None:
        raise LookupError(f"there is no connected account {identifier!r}")
    platform.connected.remove(identifier)
    platform.left.add(identifier)
    application = {"id": derived_id("ca", platform.id), "object": "application", "name": "Simulated platform"}
    emit(world, platform, kind="account.application.deauthorized", about=application, owner=identifier)
    return connected
