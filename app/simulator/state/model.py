"""What the simulator remembers: accounts with their keys, report types, runs, files, events, endpoints, deliveries."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from app.simulator.reports.csv_files import Content, content_of
from app.simulator.reports.recipe import Recipe
from app.simulator.settings import Outcome
from app.simulator.state.collection import Collection
from app.simulator.state.connected import ConnectedAccount, PayoutObject, RestatedWindow

Permission = Literal["reporting", "files", "events", "webhook_endpoints", "accounts", "payouts"]
PERMISSIONS: frozenset[Permission] = frozenset(get_args(Permission))
DeliveryStatus = Literal["pending", "held", "delivered", "failed", "lost"]


@dataclass(slots=True)
class ApiKey:
    """A secret or restricted key, as it appears in the Authorization header."""

    secret: str
    account: "Account"
    permissions: set[Permission] = field(default_factory=lambda: set(PERMISSIONS))
    revoked: bool = False


@dataclass(slots=True)
class ReportType:
    """A report type of one account; `None` in the last four means the simulator's setting."""

    id: str
    name: str
    livemode: bool
    required: frozenset[str]
    optional: frozenset[str]
    live_only: bool
    default_columns: tuple[str, ...] | None
    file_columns: tuple[str, ...]
    data_available_start: int
    data_available_end: int
    updated: int
    strict_bounds: bool = False
    rows_per_day: float | None = None
    bytes: int | None = None
    outcome: Outcome | None = None
    delay: float | None = None

    def rendered(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "reporting.report_type",
            "data_available_end": self.data_available_end,
            "data_available_start": self.data_available_start,
            "default_columns": None if self.default_columns is None else list(self.default_columns),
            "livemode": self.livemode,
            "name": self.name,
            "updated": self.updated,
            "version": int(self.id.rpartition(".")[2]) if self.id.rpartition(".")[2].isdecimal() else 1,
        }


@dataclass(slots=True)
class ReportFile:
    """The result of a run; its bytes are made again from the recipe whenever they are requested."""

    id: str
    created: int
    expires_at: int
    recipe: Recipe
    size: int
    run_id: str
    url: str | None
    owner: str | None

    @property
    def type(self) -> str:
        return "zip" if self.recipe.compressed else "csv"

    @property
    def content(self) -> Content:
        return content_of(self.recipe)

    def rendered(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "created": self.created,
            "expires_at": self.expires_at,
            "filename": f"{self.run_id}.{self.type}",
            "links": {"object": "list", "data": [], "has_more": False, "url": f"/v1/file_links?file={self.id}"},
            "purpose": "finance_report_run",
            "size": self.size,
            "title": f"FinanceReportRun {self.run_id}",
            "type": self.type,
            "url": self.url,
        }


@dataclass(slots=True)
class Run:
    """One report run. `owner` is the connected account of a `Stripe-Account` header; `bytes` is the wanted size of the
    file."""

    id: str
    created: int
    report_type: str
    parameters: dict[str, Any]
    recipe: Recipe
    livemode: bool
    owner: str | None = None
    idempotency_key: str | None = None
    status: Literal["pending", "succeeded", "failed"] = "pending"
    error: str | None = None
    succeeded_at: int | None = None
    file: ReportFile | None = None

    def rendered(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "reporting.report_run",
            "created": self.created,
            "error": self.error,
            "livemode": self.livemode,
            "parameters": self.parameters,
            "report_type": self.report_type,
            "result": None if self.file is None else self.file.rendered(),
            "status": self.status,
            "succeeded_at": self.succeeded_at,
        }


@dataclass(slots=True)
class Event:
    """A snapshot event; `content` is its `data`, as of its creation."""

    id: str
    type: str
    created: int
    livemode: bool
    content: dict[str, Any]
    owner: str | None = None
    deliveries: "list[Delivery]" = field(default_factory=list)

    @property
    def pending_webhooks(self) -> int:
        return sum(delivery.status != "delivered" for delivery in self.deliveries)

    def rendered(self, api_version: str) -> dict[str, Any]:
        rendered: dict[str, Any] = {
            "id": self.id,
            "object": "event",
            "api_version": api_version,
            "created": self.created,
            "data": self.content,
            "livemode": self.livemode,
            "pending_webhooks": self.pending_webhooks,
            "request": {"id": None, "idempotency_key": None},
            "type": self.type,
        }
        return rendered if self.owner is None else rendered | {"account": self.owner}


@dataclass(slots=True)
class SigningSecret:
    """One secret of an endpoint; a rolled one still signs until it expires (Unix seconds of the simulator's clock)."""

    value: str
    expires_at: float | None = None


@dataclass(slots=True)
class Endpoint:
    """A webhook endpoint. `*` does not include `reporting.report_type.updated`, which must be named to be sent."""

    id: str
    url: str
    enabled_events: list[str]
    secrets: list[SigningSecret]
    created: int
    livemode: bool
    api_version: str | None = None
    connect: bool = False
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    enabled: bool = True

    def wants(self, event: Event) -> bool:
        if not self.enabled or self.connect != (event.owner is not None):
            return False
        explicit = event.type == "reporting.report_type.updated"
        return event.type in self.enabled_events or ("*" in self.enabled_events and not explicit)

    def active_secrets(self, now: float) -> list[str]:
        return [secret.value for secret in self.secrets if secret.expires_at is None or now < secret.expires_at]

    def rendered(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "webhook_endpoint",
            "api_version": self.api_version,
            "application": self.id.replace("we_", "ca_") if self.connect else None,
            "created": self.created,
            "description": self.description,
            "enabled_events": self.enabled_events,
            "livemode": self.livemode,
            "metadata": self.metadata,
            "status": "enabled" if self.enabled else "disabled",
            "url": self.url,
        }


@dataclass(slots=True)
class Delivery:
    """One event on its way to one endpoint, with every try: an HTTP status, or what went wrong instead."""

    event: Event
    endpoint: Endpoint
    account: "Account"
    status: DeliveryStatus = "pending"
    tries: list[int | str] = field(default_factory=list)
    wrong_secret: bool = False
    signed_seconds_ago: float = 0.0


@dataclass(slots=True)
class Account:
    """One Stripe account in one mode: live and test data never meet, so they are two accounts here."""

    name: str
    id: str
    livemode: bool
    keys: list[ApiKey] = field(default_factory=list)
    report_types: dict[str, ReportType] = field(default_factory=dict)
    runs: Collection[Run] = field(default_factory=Collection)
    files: dict[str, ReportFile] = field(default_factory=dict)
    events: Collection[Event] = field(default_factory=Collection)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    connected: Collection[ConnectedAccount] = field(default_factory=Collection)
    left: set[str] = field(default_factory=set)
    """The connected accounts that have left."""
    manual_payouts: list[PayoutObject] = field(default_factory=list)
    payouts_announced: dict[str, int] = field(default_factory=dict)
    """The midnight up to which payouts were announced as reconciled, by connected account (`""`: the platform)."""
    restatements: list[RestatedWindow] = field(default_factory=list)

    def forget(self) -> None:
        """Forget what has happened: runs, files, events, payouts and restatements."""
        self.runs, self.files, self.events = Collection(), {}, Collection()
        self.manual_payouts, self.payouts_announced, self.restatements = [], {}, []
