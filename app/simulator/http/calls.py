"""One call of the API and its answer: the parameters and results of handlers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from app.simulator.errors import ApiError
from app.simulator.faults import Fault
from app.simulator.http.forms import Form
from app.simulator.state.model import Account, ApiKey, ReportFile
from app.simulator.state.world import World
from app.simulator.webhooks.events import Carrying


@dataclass(slots=True)
class Call:
    """A call with a valid key. `names` are the path's parameters, `owner` the `Stripe-Account` header (or
    the last account of `Stripe-Context`)."""

    world: World
    method: str
    path: str
    form: Form
    headers: Mapping[str, str]
    names: dict[str, str]
    account: Account
    key: ApiKey

    @property
    def owner(self) -> str | None:
        wanted = self.headers.get("stripe-account") or self.headers.get("stripe-context", "").rpartition("/")[2]
        return None if wanted in (None, "", self.account.id) else wanted

    @property
    def idempotency_key(self) -> str | None:
        return self.headers.get("idempotency-key") or None


@dataclass(frozen=True, slots=True)
class FileBody:
    """A file to stream, and what goes wrong on the way."""

    file: ReportFile
    wanted: str | None
    faults: Mapping[str, Fault]


@dataclass(slots=True)
class Answer:
    """`then` runs after the answer is sent; the deliveries of `after` must be finished before."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: FileBody | None = None
    then: Callable[[], None] | None = None
    after: Carrying = field(default_factory=list)
    replayed: bool = False


Handler: TypeAlias = Callable[[Call], Answer]


def answer(value: dict[str, Any]) -> Answer:
    return Answer(body=orjson.dumps(value))


def refusal(error: ApiError) -> Answer:
    return Answer(status=error.status, body=orjson.dumps(error.body()), headers=dict(error.headers))
