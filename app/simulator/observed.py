"""What can be seen of a simulator from Python: the newest things are last, and nothing here changes anything."""

from typing import Any

from app.simulator.http.views import state_of
from app.simulator.settings import Settings
from app.simulator.state.model import Account, Delivery, Endpoint, Event, ReportFile, ReportType, Run
from app.simulator.state.world import CallRecord, World


class Observed:
    """The reading half of `Simulator`. Lists hold the things of all accounts unless one is named."""

    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)

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
        """Every create call for a run there ever was."""
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

    def account(self, name: str | None = None) -> Account:
        return self.world.account(name)

    def report_type(self, id: str, *, account: str | None = None) -> ReportType:
        owner = self.world.account(account)
        if id not in owner.report_types:
            raise LookupError(f"the account {owner.name!r} has no report type {id!r}")
        return owner.report_types[id]

    def endpoint(self, id: str) -> Endpoint:
        for account in self.world.accounts.values():
            if id in account.endpoints:
                return account.endpoints[id]
        raise LookupError(f"no endpoint is called {id!r}")

    def run(self, id: str) -> Run:
        return self._run_and_account(id)[0]

    def content(self, file: ReportFile) -> bytes:
        """All bytes of a file, for comparing; not for files of gigabytes."""
        return b"".join(file.content.chunks())

    def state(self, *, account: str | None = None) -> dict[str, Any]:
        """Everything as JSON values, like `GET /_control/state`."""
        return state_of(self.world, account)

    def _run_and_account(self, id: str) -> tuple[Run, Account]:
        for account in self.world.accounts.values():
            run = account.runs.get(id)
            if run is not None:
                return run, account
        raise LookupError(f"no run is called {id!r}")
