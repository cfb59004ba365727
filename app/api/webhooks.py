"""Stripe's deliveries: read the body within the limit, store the event, answer after the commit.

The answer is never a 500: an error that another delivery may solve is a 503, every other answer says what is
wrong.
"""

import asyncio
import re
from functools import lru_cache, partial
from typing import Any, Literal

import structlog
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.http.middleware import announces_more, below, delivery_path
from app.api.http.problems import problem
from app.api.http.short_path import Delivery
from app.api.openapi.document import problem_shown
from app.api.openapi.examples import DELIVERY, SIGNATURE
from app.api.schemas.common import Out
from app.errors import BodyTooLarge, RejectedDelivery, Unavailable
from app.inbox.intake import Intake
from app.observability import tracing
from app.resources import Resources
from app.settings import DEFAULT_ACCOUNT

log = structlog.get_logger()

PATH = "/webhooks/stripe"

_RECEIVED = b'{"received": true}'
_WHY_NOT = {
    "not_utf8": "the body is not UTF-8",
    "no_signature": "the Stripe-Signature header is missing or malformed",
    "wrong_time": "the Stripe-Signature header is more than 300 seconds away from this machine's clock",
    "bad_signature": "the signature was made with another secret, or the body was changed in transit",
    "not_json": "the body is not JSON",
    "not_an_event": "the body is not an event object",
    "no_id_or_type": "the event has no id or no type",
}
_ACCOUNT = {"name": "account", "in": "path", "required": True, "schema": {"type": "string"}}
_SIGNATURE = {
    "name": "Stripe-Signature",
    "in": "header",
    "required": True,
    "schema": {"type": "string"},
    "example": SIGNATURE,
}
_EVENT = {
    "required": True,
    "description": "The event, as Stripe wrote it: the signature is over these very bytes.",
    "content": {"application/json": {"schema": {"type": "object"}, "example": DELIVERY}},
}


class Received(Out):
    """The event is stored, was stored before, or is not for Tallyhook."""

    received: Literal[True] = True


_ROUTE: dict[str, Any] = {
    "methods": ["POST"],
    "tags": ["webhooks"],
    "response_model": Received,
    "response_description": "The event is stored, was stored before, or is not for Tallyhook.",
    "description": "Where Stripe delivers events, signed. The answer comes after the event is committed.",
    "responses": {
        400: problem_shown("The delivery is not authentic, or is not an event."),
        404: problem_shown("There is no such account, or it has no webhook secret."),
        405: problem_shown("Only POST."),
        413: problem_shown("The body is too large."),
        503: problem_shown("The event could not be stored: deliver it again."),
    },
}


async def receive_event(request: Request) -> Response:
    """The endpoint of all accounts."""
    try:
        return await _receive(request, request.path_params.get("account", DEFAULT_ACCOUNT))
    except ClientDisconnect:
        return Response(status_code=400)  # the client is gone
    except Exception:
        # Stripe delivers again later, so an event is never lost to an error of ours.
        log.exception("webhook.crashed")
        return _unavailable("an unexpected error; deliver again later")


def add_webhooks(app: FastAPI) -> None:
    """Add the two routes, one endpoint: the account `default` has the short one."""
    app.add_api_route(
        PATH,
        receive_event,
        name="receive_event",
        summary="Receive an event of the account `default`",
        openapi_extra={"parameters": [_SIGNATURE], "requestBody": _EVENT},
        **_ROUTE,
    )
    app.add_api_route(
        PATH + "/{account}",
        receive_event,
        name="receive_event_of_account",
        summary="Receive an event of an account",
        openapi_extra={"parameters": [_ACCOUNT, _SIGNATURE], "requestBody": _EVENT},
        **_ROUTE,
    )


async def _receive(request: Request, slug: str) -> Response:
    res = request.app.state.res
    intake: Intake = res.intake
    limit: int = res.settings.max_body_bytes
    account = intake.account(slug)
    if account is None:
        return problem(404, "there is no account of this name with a webhook secret; see STRIPE_WEBHOOK_SECRET")
    signature = ",".join(request.headers.getlist("stripe-signature"))
    try:
        if announces_more(request.headers, limit):
            raise BodyTooLarge
        try:
            intake.check_header(signature, account)
        except RejectedDelivery:
            if "transfer-encoding" in request.headers:
                await _read_body(request.receive, limit=limit, keep=False)  # it may still turn out to be too large
            raise
        body = await _read_body(request.receive, limit=limit)
        await intake.accept(body, signature, account)
    except BodyTooLarge:
        return problem(413, f"the body is larger than {limit} bytes")
    except RejectedDelivery as error:
        log.info("webhook.refused", account=account.slug, reason=error.reason)
        return problem(400, _WHY_NOT.get(error.reason, "the delivery is not authentic"))
    except Unavailable as error:
        return _unavailable(str(error))
    return _received()


async def _read_body(receive: Receive, *, limit: int, keep: bool = True) -> bytes:
    body, size = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise BodyTooLarge
        if keep:
            body += piece
        if not message.get("more_body", False):
            return bytes(body)


def _received() -> Response:
    return Response(_RECEIVED, media_type="application/json")


# The same for every plain delivery.
_RECEIVED_ONCE = _received()


def _unavailable(detail: str) -> Response:
    # Stripe has its own timetable; this is for other senders, such as a proxy with a queue.
    return problem(503, detail, headers={"Retry-After": "5"})


_PLAIN = re.compile(re.escape(PATH) + "(?:/([^/]+))?")


def short_cut(scope: Scope) -> ASGIApp | None:
    """For a delivery the endpoint itself, past the framework's router and layers; None for everything else.

    That takes a third off what our layers cost: 70 µs a delivery in place of 102 (docs/decisions/0012).
    """
    found = _PLAIN.fullmatch(scope["path"])
    if found is None or scope["method"] != "POST":
        return None
    scope["path_params"] = {"account": found[1] or DEFAULT_ACCOUNT}
    return _deliver


class PlainDeliveries:
    """The same endpoint for the short path: takes what it can keep, and leaves the rest to `receive_event`."""

    def __init__(self, res: Resources) -> None:
        self._intake, self._limit = res.intake, res.settings.max_body_bytes
        self._slug_of = lru_cache(maxsize=100)(partial(_slug_of, res.settings.base_path))

    def take(self, delivery: Delivery) -> asyncio.Future[None] | None:
        """What is done after the commit, or fails with Unavailable."""
        slug = self._slug_of(delivery.path)
        account = None if slug is None else self._intake.account(slug)
        if account is None or len(delivery.body) > self._limit or tracing.is_on():
            return None
        try:
            return self._intake.offer(delivery.body, delivery.signature, account)
        except Exception:
            return None  # the long path finds the same error, and knows how to say it

    def answer(self, done: asyncio.Future[None]) -> Response:
        """The answer when this is done."""
        try:
            done.result()
        except Unavailable as error:
            return _unavailable(str(error))
        return _RECEIVED_ONCE


def _slug_of(base_path: str, path: str) -> str | None:
    found = _PLAIN.fullmatch(delivery_path(below(base_path, path)) or "")
    return None if found is None else found[1] or DEFAULT_ACCOUNT


async def _deliver(scope: Scope, receive: Receive, send: Send) -> None:
    response = await receive_event(Request(scope, receive))
    await response(scope, receive, send)
