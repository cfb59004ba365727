"""The state of one simulator, all in one place: the parts that decide (`runs`, `availability`, …) are given it."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.simulator.faults import FaultBook
from app.simulator.http.idempotency import IdempotencyStore
from app.simulator.http.rate_limits import RateLimiter
from app.simulator.settings import Settings
from app.simulator.state.clock import Agenda, Clock
from app.simulator.state.model import Account, ApiKey
from app.simulator.webhooks.sender import Courier

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
    """What was asked: the latest calls, all creates, and counts of everything by route."""

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


class World:
    """Accounts, clock, faults, settings and everything in flight."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()
        self.agenda = Agenda(self.clock)
        self.faults = FaultBook()
        self.journal = Journal()
        self.idempotency = IdempotencyStore(self.clock)
        self.rate_limits = RateLimiter()
        self.courier = Courier(settings, self.clock)
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, ApiKey] = {}
        self.base_url = "http://127.0.0.1:12111"

    def account(self, name: str | None) -> Account:
        """The account of that name; None means the first one."""
        if name is None and self.accounts:
            return next(iter(self.accounts.values()))
        if name is None or name not in self.accounts:
            raise LookupError(f"no account is called {name!r}; there are: {_listed(self.accounts)}")
        return self.accounts[name]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
