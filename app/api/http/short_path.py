"""The short path of plain deliveries: read, verified and answered on the connection itself, past the layers above.

A delivery is plain if it is a whole POST with a Content-Length, received by itself on an idle connection that stays
open, and its event can be stored. Everything else, bad signatures included, goes unchanged to the protocol of uvicorn:
error texts, limits and counters have one place. Without this path only the speed differs
(docs/decisions/0012; tests/api/http/test_short_path.py sends the same bytes both ways).
"""

import asyncio
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api.http.connection import MOST_HEADERS, Connection
from app.api.http.middleware import REQUEST_ID, request_id

LARGEST_BODY = 64 * 1024
# A strict part of HTTP/1.1: names of word characters, values of visible ones, no folded lines.
_HEAD = re.compile(rb"POST (/[\w./-]+) HTTP/1\.1\r\n((?:[\w-]+: ?[!-~](?:[\t -~]*[!-~])?\r\n)++)\r\n")
# With these a request means more than its head, its body and its answer.
_NOT_PLAIN = {b"transfer-encoding", b"expect", b"upgrade", b"proxy-connection"}
_KEEP_ALIVE = b"keep-alive"
_REQUEST_ID = REQUEST_ID.lower().encode()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A plain POST."""

    path: str
    head_bytes: int
    signature: str
    given_id: str
    body: bytes


class Endpoint(Protocol):
    """The endpoint of deliveries."""

    def take(self, delivery: Delivery) -> asyncio.Future[None] | None:
        """What is done when the delivery is kept, or cannot be; None: it has to go the long way."""

    def answer(self, done: asyncio.Future[None]) -> Response:
        """The answer to a delivery that was taken, whatever came of it; it may be the same object for many."""


def read(data: bytes) -> Delivery | None:
    """The plain POST that this is; None when it is something else, more, or less."""
    head = _HEAD.match(data)
    if head is None:
        return None
    lines = [line.partition(b":") for line in head[2].split(b"\r\n")[:-1]]
    headers = {name.lower(): value.lstrip(b" ") for name, _, value in lines}
    length = headers.get(b"content-length", b"")
    if (
        not len(headers) == len(lines) <= MOST_HEADERS  # one that is there twice
        or headers.keys() & _NOT_PLAIN
        or headers.get(b"connection", _KEEP_ALIVE).lower() != _KEEP_ALIVE
        or not (length.isdigit() and len(length) < 10 and int(length) == len(data) - head.end() <= LARGEST_BODY)
    ):
        return None
    signature, given_id = headers.get(b"stripe-signature", b""), headers.get(_REQUEST_ID, b"")
    return Delivery(head[1].decode(), head.end(), signature.decode(), given_id.decode(), data[head.end() :])


class ShortPath(Connection):
    """A connection that answers plain deliveries itself."""

    def __init__(self, *args: Any, endpoint: Endpoint, **more: Any) -> None:
        super().__init__(*args, **more)
        self._endpoint = endpoint
        self._pending = self._closes = False
        self._early = b""  # received before the answer to the one before

    def data_received(self, data: bytes) -> None:
        """Answer a plain delivery; hand on everything else."""
        if self._pending:
            self.flow.pause_reading()
            self._early += data
            self._connections.hold(self, len(data))
        elif not (self._is_at_rest() and self._deliver(data)):
            super().data_received(data)

    def _is_at_rest(self) -> bool:
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not (self.has_begun or self.ended or self.flow.write_paused)

    def _deliver(self, data: bytes) -> bool:
        delivery = read(data)
        if delivery is None or delivery.head_bytes > self._limits.header_bytes:
            return False
        done = self._endpoint.take(delivery)
        if done is None:
            return False
        self._pending = True
        self._unset_keepalive_if_required()
        self._connections.hold(self, len(delivery.body))
        self.has_arrived()
        self._set_timer()
        done.add_done_callback(partial(self._answer, delivery.given_id))
        return True

    def _answer(self, given_id: str, done: asyncio.Future[None]) -> None:
        self._pending = False
        if self.ended:
            return
        response = self._endpoint.answer(done)
        named = (_REQUEST_ID, request_id(given_id).encode())
        headers = [*self.server_state.default_headers, *response.raw_headers, named]
        if self._closes:
            headers.append((b"connection", b"close"))
        head = [name + b": " + value + b"\r\n" for name, value in headers]
        self._raw.write(b"".join([STATUS_LINE[response.status_code], *head, b"\r\n", bytes(response.body)]))
        if self._closes:
            self.hang_up()
        self.on_response_complete()
        early, self._early = self._early, b""
        if early and not self.ended:
            self.data_received(early)

    def shutdown(self) -> None:
        """Uvicorn ends: close now, or after the answer."""
        if self._pending:
            self._closes = True
        else:
            super().shutdown()
