"""What Stripe answers: a value of ours, or one of the `StripeCallError` classes, decided here once."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import stripe

from app.errors import KeyRefused, Malformed, NotNow, Refused
from app.observability.logs import redact

T = TypeVar("T")

# Stripe documents no `Retry-After`; a proxy that sends one must not delay a report for days.
LONGEST_RETRY_AFTER = 3600.0


def read_as(reader: Callable[[dict[str, Any]], T], value: Any) -> T:
    """The SDK's object as a value of ours. Raises NotNow if it cannot be read."""
    try:
        return reader(value if isinstance(value, dict) else value.to_dict(for_json=True))
    except Malformed as error:
        # A proxy's page or a truncated answer says nothing about what Stripe did.
        raise NotNow(f"Stripe's answer cannot be read: {error}") from error


def items_of(page: stripe.StripeObject | stripe.StripeResponse) -> list[dict[str, Any]]:
    """The items of a list, as plain values. Raises NotNow if it is not a list."""
    answer: Any = page.to_dict(for_json=True) if isinstance(page, stripe.StripeObject) else page.data
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise NotNow("Stripe's answer cannot be read: it is not a list of objects")
    return items


async def translate_errors(call: Awaitable[T]) -> T:
    """Await the call; every failure is raised as NotNow, KeyRefused or Refused."""
    try:
        return await call
    except stripe.StripeError as error:
        raise _trouble(error) from error


def _trouble(error: stripe.StripeError) -> NotNow | KeyRefused | Refused:
    message = redact(str(error.user_message or error) or type(error).__name__)
    status, request_id = error.http_status, error.request_id
    if status in (401, 403):
        return KeyRefused(message, request_id, status=status)
    if status == 429:
        return NotNow(message, request_id, after=retry_after(error.headers))
    if status is None or status >= 500 or status in (408, 409) or status < 400:
        replayed = _header(error.headers, "idempotent-replayed") == "true"
        return NotNow(message, request_id, after=retry_after(error.headers), replayed=replayed)
    param = getattr(error, "param", None)
    if status == 400 and not param and _ABOUT_THE_KEY.search(message):
        return KeyRefused(message, request_id, status=status)
    return Refused(message, request_id, status=status, param=param, code=error.code)


# An organization's key without its context, or a header that names a foreign account: true for any request.
_ABOUT_THE_KEY = re.compile(r"\b(api key|secret key|stripe-context|stripe-account|organi[sz]ation)\b", re.IGNORECASE)


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """How many seconds the answer asks us to wait, if it does."""
    value = _header(headers, "retry-after")
    return min(float(value), LONGEST_RETRY_AFTER) if value.isdecimal() and len(value) <= 20 else None


def _header(headers: Mapping[str, str] | None, wanted: str) -> str:
    return {name.lower(): text for name, text in (headers or {}).items()}.get(wanted, "")
