"""The state of one simulator in one place; modules with behaviour (`runs`, `availability`, …) take it as a
parameter."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from app.simulator.clock import Agenda, Clock
from app.simulator.faults import FaultBook
from app.simulator.settings import Settings
from app.simulator.state.idempotency import IdempotencyStore
from app.simulator.state.model import Account, ApiKey, Delivery, Endpoint, ReportFile, ReportType, Run
from app.simulator.state.rate_limits import RateLimiter

KEPT_CALLS = 20_000


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One answered call. `status` is 0 where the connection was cut instead; `at` is the simulator's clock."""

    at: float
    method: str
    path: str
    route: str
    account: str | None
    idempotency_key: str | None
    status: int
    replayed: bool


@dataclass(slots=True)
class Journal:
    """The journal: the latest calls, all creates, and counts of everything by route."""

    calls: deque[CallRecord] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    creates: list[CallRecord] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, record: CallRecord) -> None:
        self.calls.append(record)
        self.counts[record.route] += 1
        if record.route == "create_run":
            self.creates.append(record)

    def clear(self) -> None:
        self.calls.clear()
        self.creates.clear()
        self.counts.clear()


class Sender(Protocol):
    """The sender of deliveries; before `start` they wait."""

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    def send(self, delivery: Delivery, *, delay: float = 0.0) -> "asyncio.Task[None] | None": ...

    def send_in_turn(self, deliveries: list[Delivery]) -> None: ...

    async def settled(self, timeout: float) -> bool: ...

    def drop_everything(self) -> None: ...


class World:
    """Accounts, clock, faults, settings and everything under way."""

    def __init__(self, settings: Settings, sender: Callable[[Settings, Clock], Sender]) -> None:
        self.settings = settings
        self.clock = Clock()
        self.agenda = Agenda(self.clock)
        self.faults = FaultBook()
        self.journal = Journal()
        self.idempotency = IdempotencyStore(self.clock)
        self.rate_limits = RateLimiter()
        self.sender = sender(settings, self.clock)
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, ApiKey] = {}
        self.organizations: dict[str, list[str]] = {}  # its key, the names of its accounts
        self.base_url = "http://127.0.0.1:12111"

    def account(self, name: str | None) -> Account:
        """The account of that name; None means the first one."""
        if name is None and self.accounts:
            return next(iter(self.accounts.values()))
        if name is None or name not in self.accounts:
            raise LookupError(f"there is no account {name!r}; the accounts are: {_listed(self.accounts)}")
        return self.accounts[name]

    def report_type(self, identifier: str, account: str | None) -> ReportType:
        owner = self.account(account)
        if identifier not in owner.report_types:
            raise LookupError(f"the account {owner.name!r} has no report type {identifier!r}")
        return owner.report_types[identifier]

    def endpoint(self, identifier: str) -> Endpoint:
        for account in self.accounts.values():
            if identifier in account.endpoints:
                return account.endpoints[identifier]
        raise LookupError(f"there is no endpoint {identifier!r}")

    def run(self, identifier: str) -> tuple[Run, Account]:
        for account in self.accounts.values():
            run = account.runs.get(identifier)
            if run is not None:
                return run, account
        raise LookupError(f"there is no run {identifier!r}")

    def file(self, identifier: str) -> ReportFile:
        for account in self.accounts.values():
            if identifier in account.files:
                return account.files[identifier]
        raise LookupError(f"there is no file {identifier!r}")

    def forget(self) -> None:
        """Forgets everything that has happened; accounts, keys, report types, endpoints and settings stay."""
        for account in self.accounts.values():
            account.forget()
        self.faults.clear()
        self.idempotency.clear()
        self.rate_limits.clear()
        self.journal.clear()
        self.sender.drop_everything()
        self.agenda.clear()
        self.clock.run()
        self.clock.set(time.time())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
