"""The HTTP client below the Stripe SDK: it counts every call by account, endpoint and status.

An answer that is not a JSON object, such as a proxy's page, ends here: the SDK would fail on it in various ways.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx
import orjson
import stripe

from app.observability import tracing
from app.observability.tracing import Kind
from app.stripe_api.transport import open_http
from app.trust import trust

# Called with the endpoint and the status of each call.
Count = Callable[[str, str], None]

# The status under which a call without an answer is counted.
NO_ANSWER = "none"
FILE_CONTENTS = "GET /v1/files/:id/contents"

_ENDPOINT = re.compile(
    r"/v1/(?:accounts?|payouts|reporting/report_(?:types|runs)|webhook_endpoints)(?=/|$)", re.ASCII
)  # fmt: skip


@dataclass(slots=True)
class Call:
    """A call under way, and its status."""

    status: str = NO_ANSWER
    request_id: str | None = None

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """An answer has arrived."""
        self.status, self.request_id = str(status), httpx.Headers(dict(headers)).get("request-id")


@contextmanager
def call_to(endpoint: str, count: Count) -> Iterator[Call]:
    """Wraps one call: counts it, and records a span when tracing is on."""
    call = Call()
    with tracing.span(f"stripe {endpoint}", kind=Kind.CLIENT):
        try:
            yield call
        finally:
            count(endpoint, call.status)
            tracing.note(**{"http.response.status_code": call.status, "stripe.request_id": call.request_id})


# For the whole answer, which may arrive byte by byte; Stripe's SDK would wait as long for each byte.
CALL_SECONDS = 80.0


class CountingClient(stripe.HTTPClient):
    """The SDK's HTTP client for one account."""

    name = "httpx"

    def __init__(self, count: Count, http: httpx.AsyncClient) -> None:
        super().__init__()
        self._count = count
        self._http = http  # of all accounts: thousands of them share the connections

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One call, as the SDK makes it."""
        with call_to(endpoint_of(method, url), self._count) as call:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    answer = await self._http.request(method, url, headers=dict(headers), content=post_data or None)
            except TimeoutError as error:
                said = f"Stripe's answer did not end within {CALL_SECONDS:g} s"
                raise stripe.APIConnectionError(said) from error  # type: ignore[no-untyped-call]  # the SDK's
            except httpx.HTTPError as error:
                raise stripe.APIConnectionError(describe_failure(error)) from error  # type: ignore[no-untyped-call]  # the SDK's
            call.answered(answer.status_code, answer.headers)
        return _readable(answer.content, answer.status_code, answer.headers)


def open_calls(timeout: httpx.Timeout) -> httpx.AsyncClient:
    """A client for the calls of every account; it keeps no cookies, as they would be sent for other accounts too."""
    http = open_http(timeout, trust())
    http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return http


def describe_failure(error: httpx.HTTPError) -> str:
    """Why there is no answer, in one line, including what TLS said."""
    said = f"Stripe cannot be reached: {type(error).__name__}{f': {error}' if str(error) else ''}"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return f"{said}. If a proxy inspects TLS, SSL_CERT_FILE must name your company's certificate authorities"
    return said


def _readable(body: bytes, status: int, headers: Mapping[str, str]) -> tuple[bytes, int, Mapping[str, str]]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if status < 300 and not isinstance(value, dict):
        # Such an answer says nothing about what Stripe did.
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
