"""The HTTP client below the door to Stripe: every call passes here, and is counted by account, endpoint and status.

An answer that is no JSON object, a proxy's page say, ends here: the SDK would stumble over it, each one differently.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import stripe

from app.observability import tracing
from app.observability.tracing import Kind

# Called with the endpoint and the status of each call.
Count = Callable[[str, str], None]

# What a call that got no answer is counted under.
NO_ANSWER = "none"
FILE_CONTENTS = "GET /v1/files/:id/contents"

_ENDPOINT = re.compile(
    r"/v1/(?:account|reporting/report_(?:types|runs)|webhook_endpoints)(?=/|$)", re.ASCII
)  # fmt: skip


@dataclass(slots=True)
class Call:
    """A call that is under way, and what came of it."""

    status: str = NO_ANSWER
    request_id: str | None = None

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """There is an answer."""
        self.status, self.request_id = str(status), httpx.Headers(dict(headers)).get("request-id")


@contextmanager
def call_to(endpoint: str, count: Count) -> Iterator[Call]:
    """Around one call: it is counted, and a span where traces are on."""
    call = Call()
    with tracing.span(f"stripe {endpoint}", kind=Kind.CLIENT):
        try:
            yield call
        finally:
            count(endpoint, call.status)
            tracing.note(**{"http.response.status_code": call.status, "stripe.request_id": call.request_id})


class CountingClient(stripe.HTTPXClient):
    """The SDK's client for one account."""

    def __init__(self, count: Count, *, timeout: httpx.Timeout) -> None:
        super().__init__(timeout=timeout)
        self._count = count

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One call, as the SDK makes it."""
        with call_to(endpoint_of(method, url), self._count) as call:
            answer = await super().request_async(method, url, headers, post_data)
            call.answered(answer[1], answer[2])
        return _readable(*answer)


def _readable(body: bytes, status: int, headers: Mapping[str, str]) -> tuple[bytes, int, Mapping[str, str]]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if status < 300 and not isinstance(value, dict):
        # It says nothing about what was done.
        raise stripe.APIConnectionError("Stripe's answer cannot be read")  # type: ignore[no-untyped-call]  # the SDK's
    if status >= 300 and not (isinstance(value, dict) and isinstance(value.get("error"), dict)):
        body = orjson.dumps({"error": {"message": f"HTTP status {status}, with a body that is not Stripe's"}})
    return body, status, headers


def endpoint_of(method: str, url: str) -> str:
    """The endpoint of a call, ids left out: `GET /v1/reporting/report_runs/:id`; a bounded number of names."""
    path = httpx.URL(url).path
    found = _ENDPOINT.match(path)
    if found is None:
        return f"{method.upper()} other"
    return f"{method.upper()} {found[0]}{'/:id' if len(path) > found.end() + 1 else ''}"
