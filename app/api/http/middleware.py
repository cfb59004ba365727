"""The outermost layer of every request: its id, the body limit, authentication, and the answer to unexpected
errors. Every path that is not listed as open needs a token.
"""

import re
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.problems import problem, unexpected
from app.api.http.tokens import Access, Caller
from app.observability import log_lines, tracing
from app.observability.logs import redact
from app.observability.tracing import Kind
from app.vocabulary import Role

log = structlog.get_logger()

OPEN_PATHS = frozenset({"/health/live", "/health/ready", "/openapi.json", "/docs"})
# Webhooks are signed, and read their own bodies.
OPEN_PREFIX = "/webhooks/"
# Polled by machines all the time: no log line for each.
QUIET_PATHS = OPEN_PATHS | {"/health", "/metrics"}
# POST because they take a body; they change nothing, so the read token will do.
READING_POSTS = frozenset({"/v1/rules/preview"})
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

LONGEST_PATH = 200
REQUEST_ID = "X-Request-Id"
_SLASHES = re.compile("/+")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BEARER = re.compile(r"bearer +([^ ]+) *", re.IGNORECASE)

_NO_TOKEN = "send a bearer token in the Authorization header"  # noqa: S105 - a sentence
_WRONG_TOKEN = "this token is not known"  # noqa: S105 - a sentence
_CLOSED = "no admin token is set, so the admin API refuses everyone: set TALLYHOOK_ADMIN_TOKEN (openssl rand -hex 32)"
_READ_ONLY = "this token may only read; use one with role admin to write"


# Finds the handler that takes a request past the framework's own layers and router; None for no short cut.
ShortCut = Callable[[Scope], ASGIApp | None]


# The app that answers a request for a page, with checks of its own (app/web); None: it is for the API.
Pages = Callable[[Scope, Headers], ASGIApp | None]


@dataclass(slots=True)
class _Exchange:
    """One request and its answer: carries the request id, and tracks how far each has come."""

    request_id: str
    _receive: Receive
    _send: Send
    unread: bool  # part of the body has not been read
    status: int | None = None  # once the answer has begun

    async def receive(self) -> Message:
        message = await self._receive()
        self.unread = bool(message.get("more_body", False))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.request_id
            if self.unread:
                # The body of a request that was refused early is not read afterwards.
                headers["Connection"] = "close"
        await self._send(message)


class Middleware:
    """The ASGI middleware around the whole app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        max_body_bytes: int,
        short_cut: ShortCut,
        pages: Pages,
        base_path: str = "",
    ) -> None:
        self._app = app
        self._pages, self._base_path = pages, base_path
        self._short_cut = short_cut
        self._access = access
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._base_path:
            scope["path"] = below(self._base_path, scope["path"])
        scope["path"] = delivery_path(scope["path"]) or scope["path"]
        exchange = _Exchange(request_id(headers.get(REQUEST_ID.lower(), "")), receive, send, unread=_has_body(headers))
        with _watched(scope, headers, exchange.request_id):
            try:
                await self._answer(scope, headers, exchange.receive, exchange.send)
            except Exception as error:
                if exchange.status is not None:
                    raise  # half of the answer is sent: cutting the connection is the only way to report the error
                await unexpected(error)(scope, exchange.receive, exchange.send)
            finally:
                _tell(scope, exchange.status)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(OPEN_PREFIX):
            await (self._short_cut(scope) or self._app)(scope, receive, send)
            return
        pages = self._pages(scope, headers)
        refusal = None if pages or scope["path"] in OPEN_PATHS else await self._refusal(scope, headers)
        if refusal is None and announces_more(headers, self._max_body_bytes):
            refusal = problem(413, f"the body is larger than {self._max_body_bytes} bytes")
        await (refusal or pages or self._app)(scope, self._limited(receive), send)

    async def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The refusal of this request, or None when it may pass. Stores the caller in the request's state."""
        if self._access.closed:
            return self._unauthorized("closed", _CLOSED)
        token = _BEARER.fullmatch(headers.get("authorization", ""))
        if token is None:
            return self._unauthorized("no_token", _NO_TOKEN)
        caller = self._access.caller(token[1])
        if caller is None:
            await self._access.slow_down()
            return self._unauthorized("wrong_token", _WRONG_TOKEN)
        if not _may(caller, scope):
            self._access.refused["read_only"] += 1
            return problem(403, _READ_ONLY)
        scope.setdefault("state", {})["caller"] = caller
        log_lines.annotate(actor=caller.name)
        return None

    def _unauthorized(self, reason: str, detail: str) -> Response:
        self._access.refused[reason] += 1
        log.info("api.refused", reason=reason)
        challenge = 'Bearer error="invalid_token"' if reason == "wrong_token" else "Bearer"
        return problem(401, detail, headers={"WWW-Authenticate": challenge})

    def _limited(self, receive: Receive) -> Receive:
        left = self._max_body_bytes

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"the body is larger than {self._max_body_bytes} bytes")
            return message

        return limited


def below(base_path: str, path: str) -> str:
    """The path below the prefix of a proxy, whether the proxy took that away or not."""
    if path == base_path or path.startswith(f"{base_path}/"):
        return path[len(base_path) :] or "/"
    return path


def delivery_path(path: str) -> str | None:
    """The path of a delivery as its route is written, None for others.

    Extra slashes and capitals are typos made when the URL was entered in Stripe's Dashboard.
    """
    plain = _SLASHES.sub("/", path).rstrip("/").lower()
    return plain if plain.startswith(OPEN_PREFIX) else None


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def announces_more(headers: Headers, limit: int) -> bool:
    """Whether the request's own headers announce a body larger than the limit, in bytes."""
    announced = headers.get("content-length", "")
    return announced.isdecimal() and (len(announced) > 18 or int(announced) > limit)


def _watched(scope: Scope, headers: Headers, request_id: str) -> AbstractContextManager[object]:
    """A log line and a span for requests by people; only a span for Stripe's deliveries, which are many."""
    path, method = scope["path"], scope["method"]
    watched = ExitStack()
    watched.enter_context(structlog.contextvars.bound_contextvars(request_id=request_id))
    about: Any = {"parent": headers.get("traceparent"), "kind": Kind.SERVER, "request_id": request_id}
    if path.startswith(OPEN_PREFIX):
        watched.enter_context(tracing.span("webhook.received", **about))
    elif path not in QUIET_PATHS:
        watched.enter_context(log_lines.operation("api.answered", **about, method=method, path=path[:LONGEST_PATH]))
    return watched


def _tell(scope: Scope, status: int | None) -> None:
    log_lines.annotate(status=status)
    route = getattr(scope.get("route"), "path", None)
    tracing.note(**{"http.request.method": scope["method"], "http.route": route, "http.response.status_code": status})


def _may(caller: Caller, scope: Scope) -> bool:
    reads = scope["method"] in READING_METHODS or scope["path"] in READING_POSTS
    return reads or caller.role is Role.ADMIN


def request_id(given: str) -> str:
    """The id of a request: the sender's own if it is a sane one, else a new one."""
    return given if _SANE_ID.fullmatch(given) and given == redact(given) else uuid.uuid4().hex
