"""The simulator as a Python object: its state, and everything that Stripe would do by itself.

Call methods in the event loop that serves it, or before it is served. The control routes are these methods; the work is
done in the modules that they call."""

from collections.abc import Iterable
from typing import Any

from app.simulator import accounts, availability, payouts, runs
from app.simulator.clock import Instant, unix
from app.simulator.faults import Fault, FaultKind, fault_of
from app.simulator.http.report_parameters import parameters_of, report_type_of
from app.simulator.http.views import state_of
from app.simulator.runs import FAILURE
from app.simulator.settings import Outcome, Settings
from app.simulator.state.connected import ConnectedAccount, PayoutObject, RestatedWindow
from app.simulator.state.model import (
    Account,
    ApiKey,
    Delivery,
    Endpoint,
    Event,
    Permission,
    ReportFile,
    ReportType,
    Run,
)
from app.simulator.state.world import CallRecord, World
from app.simulator.webhooks import endpoints, events
from app.simulator.webhooks.sender import WebhookSender
from app.simulator.words import checked


class Simulator:
    """Stripe's reporting side. It starts with the test-mode account `default`, unless told not to."""

    def __init__(self, *, default_account: bool = True, **settings: Any) -> None:
        self.world = World(Settings(), WebhookSender)
        self.configure(**settings)
        if default_account:
            self.add_account("default")

    # The state. Lists are oldest first, and contain all accounts unless one is named.

    @property
    def base_url(self) -> str:
        """Where the API and the files are, once it is served."""
        return self.world.base_url

    @property
    def settings(self) -> Settings:
        return self.world.settings

    @property
    def now(self) -> int:
        """Unix seconds of the simulator's clock."""
        return self.world.clock.unix()

    @property
    def calls(self) -> list[CallRecord]:
        """The latest 20,000 API calls; `status` 0 means that the connection was cut."""
        return list(self.world.journal.calls)

    @property
    def creates(self) -> list[CallRecord]:
        """Every create call for a run."""
        return list(self.world.journal.creates)

    @property
    def runs(self) -> list[Run]:
        return [run for account in self.world.accounts.values() for run in account.runs]

    @property
    def files(self) -> list[ReportFile]:
        return [file for account in self.world.accounts.values() for file in account.files.values()]

    @property
    def events(self) -> list[Event]:
        return [event for account in self.world.accounts.values() for event in account.events]

    @property
    def deliveries(self) -> list[Delivery]:
        return [delivery for event in self.events for delivery in event.deliveries]

    @property
    def faults(self) -> list[Fault]:
        return list(self.world.faults.rules)

    def account(self, name: str | None = None) -> Account:
        return self.world.account(name)

    def report_type(self, id: str, *, account: str | None = None) -> ReportType:
        return self.world.report_type(id, account)

    def endpoint(self, id: str) -> Endpoint:
        return self.world.endpoint(id)

    def run(self, id: str) -> Run:
        return self.world.run(id)[0]

    def content(self, file: ReportFile) -> bytes:
        """All bytes of a file, for comparisons; not for files of gigabytes."""
        return b"".join(file.content.chunks())

    def state(self, *, account: str | None = None) -> dict[str, Any]:
        """Everything as JSON values, like `GET /_control/state`."""
        return state_of(self.world, account)

    # The set-up; all of it can be changed at any time.

    def configure(self, **changes: Any) -> dict[str, Any]:
        """Changes settings (see `Settings`). Returns all of them."""
        return self.settings.change(changes)

    def add_account(
        self,
        name: str = "default",
        *,
        livemode: bool = False,
        api_key: str | None = None,
        account_id: str | None = None,
        catalogue: bool = True,
    ) -> Account:
        """Adds an account and mode, with the key `sk_test_simulator_<name>` (or `sk_live_…`) and all report types."""
        account = accounts.add_account(self.world, name, livemode=livemode, account_id=account_id, catalogue=catalogue)
        self.add_key(api_key or f"sk_{'live' if livemode else 'test'}_simulator_{name}", account=name)
        return account

    def add_key(self, secret: str, *, account: str | None = None, permissions: set[Permission] | None = None) -> ApiKey:
        """Adds a key, or changes the permissions of an existing one."""
        return accounts.add_key(self.world, self.world.account(account), secret, permissions)

    def add_organization_key(self, secret: str, accounts: list[str]) -> None:
        """A key of an organization with these accounts: every call needs a `Stripe-Context` (400 without)."""
        self.world.organizations[secret] = [self.world.account(name).name for name in accounts]

    def change_key(
        self, secret: str, *, revoked: bool | None = None, permissions: set[Permission] | None = None
    ) -> ApiKey:
        """Revokes or restores a key (401), or limits its permissions (403 for the rest)."""
        return accounts.change_key(self.world, secret, revoked=revoked, permissions=permissions)

    def connect_account(
        self,
        id: str | None = None,
        *,
        account: str | None = None,
        created: Instant | None = None,
        name: str | None = None,
    ) -> ConnectedAccount:
        """Connects an account to the platform; `account.updated` goes to Connect endpoints."""
        made = None if created is None else unix(created)
        return accounts.connect(self.world, self.world.account(account), id, created=made, name=name)

    def disconnect_account(self, id: str, *, account: str | None = None) -> ConnectedAccount:
        """Disconnects an account: it leaves the list, the platform's key gets 403, `account.application.deauthorized`
        is sent."""
        return accounts.disconnect(self.world, self.world.account(account), id)

    def add_report_type(self, id: str, *, account: str | None = None, **changes: Any) -> ReportType:
        """Creates a report type, or changes the given values of one (see `TypeChanges`), without an event."""
        wanted = checked(availability.TypeChanges, changes, what="a report type")
        return availability.change_report_type(self.world, self.world.account(account), id, wanted)

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
        return endpoints.change_endpoint(self.endpoint(id), enabled=enabled, url=url, events=events)

    def roll_secret(self, id: str, *, new: str | None = None, keep_seconds: float = 0.0) -> str:
        """Adds a signing secret; the old ones also sign for `keep_seconds` of the simulator's clock."""
        return endpoints.roll_secret(self.world, self.endpoint(id), new=new, keep_seconds=keep_seconds)

    # What Stripe does by itself.

    def advance(self, report_type: str, to: Instant, *, account: str | None = None) -> ReportType:
        """Moves the end of a type's data and sends `reporting.report_type.updated`."""
        kind = self.report_type(report_type, account=account)
        availability.advance(self.world, self.world.account(account), kind, to=to)
        return kind

    def publish(self, *, until: Instant | None = None) -> int:
        """Advances every type of every account to `until`, or to what Stripe would have published by now."""
        return availability.publish(self.world, until=until)

    def restate(
        self,
        start: Instant,
        end: Instant,
        *,
        account: str | None = None,
        connected: str | None = None,
        at: Instant | None = None,
    ) -> RestatedWindow:
        """From `at` (default: now) on, all new reports have other figures for the window; existing files stay.

        `connected` names one connected account, or `""` for the platform alone."""
        moment = self.world.clock.now() if at is None else float(unix(at))
        window = RestatedWindow(unix(start), unix(end), moment, connected)
        self.world.account(account).restatements.append(window)
        return window

    def reconcile_payouts(
        self, *, until: Instant | None = None, account: str | None = None, owner: str | None = None
    ) -> int:
        """Sends `payout.reconciliation_completed` for the automatic payouts up to `until` (default: as far as the data
        reaches), of the platform or of the connected account `owner`; returns how many."""
        last = availability.latest_published(self.world) if until is None else unix(until)
        return payouts.tell_reconciled(self.world, self.world.account(account), owner=owner, until=last)

    def add_payout(
        self,
        amount: int,
        currency: str,
        *,
        created: Instant | None = None,
        account: str | None = None,
        owner: str | None = None,
    ) -> PayoutObject:
        """A payout made by hand: it is listed with `automatic: false`, and no report can itemize it."""
        made = None if created is None else unix(created)
        return payouts.add_manual(
            self.world, self.world.account(account), amount=amount, currency=currency, created=made, owner=owner
        )

    def create_run(
        self, report_type: str, parameters: dict[str, Any], *, account: str | None = None, owner: str | None = None
    ) -> Run:
        """A run that somebody else made, in the Dashboard for example: it is in the lists, and its end is announced."""
        owning = self.world.account(account)
        kind = report_type_of(owning, report_type)
        wanted = parameters_of(kind, parameters)
        run = runs.make_run(self.world, owning, kind=kind, parameters=wanted, owner=owner)
        runs.arrange_end(self.world, owning, run, runs.plan_for(self.world, owning, kind))
        return run

    def finish_run(
        self, id: str, *, outcome: Outcome = "succeed", error: str = FAILURE, bytes: int | None = None
    ) -> Run:
        """Ends a run now, even one that has ended before; `bytes` makes its file exactly that large."""
        run, account = self.world.run(id)
        if bytes is not None:
            run.recipe = runs.of_size(run.recipe, bytes)
        runs.end_run(self.world, account, run, runs.Plan(outcome=outcome, delay=0.0, error=error))
        return run

    def expire_file(self, id: str) -> None:
        """The file expires: 404 from now on."""
        self.world.file(id).expires_at = self.now

    def inject(self, fault: FaultKind, **words: Any) -> Fault:
        """Adds a rule for what goes wrong; its fields are in `Fault`, those of its `match` in `Match`."""
        return self.world.faults.add(fault_of(fault, words))

    def clear_faults(self) -> None:
        """Removes all rules; the damage that they have done stays."""
        self.world.faults.clear()

    def emit(
        self,
        type: str,
        object: dict[str, Any],
        *,
        account: str | None = None,
        previous_attributes: dict[str, Any] | None = None,
        owner: str | None = None,
        livemode: bool | None = None,
    ) -> None:
        """Sends any event; with `owner` it is one of a connected account and goes to Connect endpoints."""
        events.emit(
            self.world,
            self.world.account(account),
            kind=type,
            about=object,
            previous=previous_attributes,
            owner=owner,
            livemode=livemode,
        )

    def release(self, *, order: str | list[str] = "made") -> list[Delivery]:
        """Sends what `event_held` has held back: `made`, `reversed`, `random`, or the given event ids."""
        return events.release(self.world, order=order)

    def resend(self, id: str, *, account: str | None = None) -> list[Delivery]:
        """Delivers an event once more, as the Dashboard can."""
        return events.resend(self.world, self.world.account(account), id)

    async def settle(self, *, timeout: float = 30.0) -> bool:
        """Waits until everything due has happened and no delivery is in flight; False after `timeout` seconds."""
        self.world.agenda.catch_up()
        return await self.world.sender.settled(timeout)

    def set_clock(
        self, *, to: Instant | None = None, advance: float = 0.0, stopped: bool | None = None
    ) -> dict[str, Any]:
        """Sets the clock, moves it by seconds, stops it or lets it run; then everything due happens."""
        clock = self.world.clock
        clock.turn(to=to, advance=advance, stopped=stopped)
        self.world.agenda.catch_up()
        return {"now": clock.now(), "stopped": clock.stopped}

    def reset(self) -> None:
        """Forgets all runs, files, events, calls, idempotency keys and faults, and resets the clock.

        Accounts, keys, report types, endpoints and settings stay."""
        self.world.forget()
