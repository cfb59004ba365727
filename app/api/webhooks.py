"""Stripe's deliveries: read the body within the limit, have the event kept, answer after the commit.

A plain ASGI endpoint: FastAPI's work per request would cost as much as the rest. Whatever is sent here, the answer is
never a 500: what Stripe may repair by delivering again is a 503, everything else says what is wrong.
"""

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.api.http.middleware import announces_more
from app.api.http.problems import problem
from app.inbox.delivery import Unverified
from app.inbox.intake import Intake, Unavailable
from app.settings import DEFAULT_ACCOUNT

log = structlog.get_logger()

PATHS = ("/webhooks/stripe", "/webhooks/stripe/{account}")

_RECEIVED = b'{"received": true}'
_WHY_NOT = {
    "not_utf8": "the body is not UTF-8",
    "bad_signature": "the Stripe-Signature header is missing or malformed, was made with another secret, or is more "
    "than 300 seconds away from this machine's clock",
    "not_json": "the body is not JSON",
    "not_an_event": "the body is not an event object",
    "no_id_or_type": "the event has no id or no type",
}


class BodyTooLarge(Exception):
    """The body is larger than the limit; not more than the limit was held in memory."""


def webhook_routes(intake: Intake, *, max_body_bytes: int) -> list[Route]:
    """The routes, which go past the framework (`edge`)."""
    endpoint = WebhookEndpoint(intake, max_body_bytes=max_body_bytes)
    return [Route(path, endpoint) for path in PATHS]


class WebhookEndpoint:
    """The ASGI endpoint of all accounts."""

    def __init__(self, intake: Intake, *, max_body_bytes: int) -> None:
        self._intake = intake
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        except Exception:
            # Stripe delivers again, and by then it may work: an event is never lost to an error of our own.
            log.exception("webhook.crashed")
            response = _unavailable("an unexpected error; deliver again later")
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            return problem(405, "webhooks are sent with POST", headers={"Allow": "POST"})
        slug = scope["path_params"].get("account", DEFAULT_ACCOUNT)
        account = self._intake.account(slug)
        if account is None:
            return problem(404, "there is no account of this name with a webhook secret; see STRIPE_WEBHOOK_SECRET")
        headers = Headers(scope=scope)
        try:
            body = await _read_body(receive, headers, limit=self._max_body_bytes)
            await self._intake.accept(body, ",".join(headers.getlist("stripe-signature")), account)
        except BodyTooLarge:
            return problem(413, f"the body is larger than {self._max_body_bytes} bytes")
        except Unverified as error:
            log.info("webhook.refused", account=account.slug, reason=str(error))
            return problem(400, _WHY_NOT.get(str(error), "the delivery cannot be believed"))
        except Unavailable as error:
            return _unavailable(str(error))
        return Response(_RECEIVED, media_type="application/json")


async def _read_body(receive: Receive, headers: Headers, *, limit: int) -> bytes:
    if announces_more(headers, limit):
        raise BodyTooLarge
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        if len(body) + len(piece) > limit:
            raise BodyTooLarge
        body += piece
        if not message.get("more_body", False):
            return bytes(body)


def _unavailable(detail: str) -> Response:
    # Stripe has its own timetable; for whoever else delivers, a proxy that keeps a queue say.
    return problem(503, detail, headers={"Retry-After": "5"})
