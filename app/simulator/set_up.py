"""The setting-up half of `Simulator`: accounts, keys, report types, webhook endpoints and settings."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from pydantic import TypeAdapter

from app.simulator import availability
from app.simulator.observed import Observed
from app.simulator.settings import Settings
from app.simulator.state.clock import Instant, unix
from app.simulator.state.identifiers import derived_id
from app.simulator.state.model import Account, ApiKey, Endpoint, Outcome, Permission, ReportType
from app.simulator.webhooks import endpoints


class SetUp(Observed):
    """What there is before anything happens; every method can be used at any time."""

    def __init__(self, *, default_account: bool = True, **settings: Any) -> None:
        super().__init__(Settings())
        self.configure(**settings)
        if default_account:
            self.add_account("default")

    def configure(self, **changes: Any) -> dict[str, Any]:
        """Changes settings; see `Settings` for what there is. Returns all of them."""
        known = {field.name for field in fields(Settings)}
        if unknown := changes.keys() - known:
            raise ValueError(f"there is no setting {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
        checked = TypeAdapter(Settings).validate_python(asdict(self.settings) | changes)
        for name in changes:
            setattr(self.settings, name, getattr(checked, name))
        return asdict(self.settings)

    def add_account(
        self,
        name: str = "default",
        *,
        livemode: bool = False,
        api_key: str | None = None,
        account_id: str | None = None,
        catalogue: bool = True,
    ) -> Account:
        """A further account and mode, with the key `sk_test_simulator_<name>` (or `sk_live_…`) and all report types."""
        if name in self.world.accounts:
            raise ValueError(f"there is an account {name!r} already")
        identifier = account_id or derived_id("acct", self.settings.seed, name)
        account = Account(name=name, id=identifier, livemode=livemode)
        self.world.accounts[name] = account
        self.add_key(api_key or f"sk_{'live' if livemode else 'test'}_simulator_{name}", account=name)
        if catalogue:
            availability.add_catalogue(self.world, account)
        return account

    def add_key(self, secret: str, *, account: str | None = None, permissions: set[Permission] | None = None) -> ApiKey:
        """A further key, or one with other permissions under the same secret."""
        owner = self.world.account(account)
        key = ApiKey(secret, owner) if permissions is None else ApiKey(secret, owner, permissions)
        owner.keys = [other for other in owner.keys if other.secret != secret] + [key]
        self.world.keys[secret] = key
        return key

    def change_key(
        self, secret: str, *, revoked: bool | None = None, permissions: set[Permission] | None = None
    ) -> ApiKey:
        """Revokes or restores a key (401), or says what it may do (403 for the rest)."""
        if secret not in self.world.keys:
            raise LookupError("no account has that key")
        key = self.world.keys[secret]
        key.revoked = key.revoked if revoked is None else revoked
        key.permissions = key.permissions if permissions is None else permissions
        return key

    def add_report_type(
        self,
        id: str,
        *,
        account: str | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        required: set[str] | None = None,
        optional: set[str] | None = None,
        default_columns: list[str] | None = None,
        live_only: bool | None = None,
        strict_bounds: bool | None = None,
        rows_per_day: float | None = None,
        bytes: int | None = None,
        outcome: Outcome | None = None,
        delay: float | None = None,
    ) -> ReportType:
        """Creates a report type, or changes what is given of an existing one, without an event (see `advance`)."""
        owner = self.world.account(account)
        kind = owner.report_types.get(id) or availability.add_report_type(self.world, owner, id)
        changes = {
            "data_available_start": None if start is None else unix(start),
            "data_available_end": None if end is None else unix(end),
            "required": None if required is None else frozenset(required),
            "optional": None if optional is None else frozenset(optional),
            "default_columns": None if default_columns is None else tuple(default_columns),
            "live_only": live_only,
            "strict_bounds": strict_bounds,
            "rows_per_day": rows_per_day,
            "bytes": bytes,
            "outcome": outcome,
            "delay": delay,
        }
        for name, value in changes.items():
            if value is not None:
                setattr(kind, name, value)
        return kind

    def remove_report_type(self, id: str, *, account: str | None = None) -> None:
        """The account is no longer eligible for it: 404 from now on."""
        del self.world.account(account).report_types[self.report_type(id, account=account).id]

    def add_endpoint(
        self,
        url: str,
        *,
        events: Iterable[str] = endpoints.REPORTING_EVENTS,
        secrets: Iterable[str] = (),
        account: str | None = None,
        connect: bool = False,
    ) -> Endpoint:
        """Where events are sent to; without secrets it gets one, found in `endpoint.secrets[0].value`."""
        owner = self.world.account(account)
        return endpoints.add_endpoint(self.world, owner, url=url, events=events, secrets=secrets, connect=connect)

    def change_endpoint(
        self, id: str, *, enabled: bool | None = None, url: str | None = None, events: list[str] | None = None
    ) -> Endpoint:
        """Enables or disables an endpoint, or gives it another URL or other events."""
        endpoint = self.endpoint(id)
        endpoint.enabled = endpoint.enabled if enabled is None else enabled
        endpoint.url = url or endpoint.url
        endpoint.enabled_events = endpoint.enabled_events if events is None else events
        return endpoint

    def roll_secret(self, id: str, *, new: str | None = None, keep_seconds: float = 0.0) -> str:
        """A new signing secret; the old ones sign as well for `keep_seconds` of the simulator's clock."""
        return endpoints.roll_secret(self.world, self.endpoint(id), new=new, keep_seconds=keep_seconds)
