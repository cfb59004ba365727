"""Limits on a single connection, in front of uvicorn's own protocol: they hold before we know who is calling.

Heads are limited in bytes, lines and time, bodies in time and in total memory, connections in number. When room is
short, the oldest connection that has sent no complete request is dropped for the newest: signed deliveries are served,
however many idle clients hold connections open.
"""

import asyncio
from enum import Enum, auto
from functools import cache
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.http.connections import Connections
from app.api.http.problems import problem

# Each header line takes about two hundred bytes of memory, however short it is.
MOST_HEADERS = 100
# Pipelined requests: no real client needs many, and each takes a few kilobytes.
MOST_PIPELINED = 8
# At most this much of a head is parsed before its limit is checked again.
SLICE = 16 * 1024
# Between an early answer and the close, so that a client that is still sending can read the answer first.
LINGER_SECONDS = 2.0
# A client that reads nothing for this long is considered gone.
STALLED_READER_SECONDS = 60.0


class Phase(Enum):
    """What we expect next on a connection."""

    HEAD = auto()  # of the first request, or the rest of a head that has begun
    BODY = auto()
    IDLE = auto()  # perhaps another request


class Connection(HttpToolsProtocol):
    """Uvicorn's protocol within limits."""

    def __init__(self, *args: Any, connections: Connections, **more: Any) -> None:
        super().__init__(*args, **more)
        self.held = 0
        self.ended = False
        self._connections, self._limits = connections, connections.limits
        self._phase = Phase.HEAD
        self._head_bytes = self._head_lines = self._framing = self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timed: Phase | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._raw: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """A client has connected."""
        self._raw = transport
        super().connection_made(_Transport(transport, self))
        self._connections.join(self)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.ended = True
        self._set_timer()
        self.resume_writing()
        self._connections.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, a slice at a time."""
        if self._phase is Phase.IDLE:
            self._begin_head()
        while data and not self.ended:
            piece = data[:SLICE] if self._phase is Phase.HEAD else data
            data = data[len(piece) :]
            self._take(piece)
        self._set_timer()

    def _take(self, piece: bytes) -> None:
        body_bytes = self._body_bytes
        super().data_received(piece)
        if self._phase is Phase.HEAD:
            self._head_bytes += len(piece)
            if self._head_bytes > self._limits.header_bytes:
                self._refuse(431, f"the head is larger than {self._limits.header_bytes} bytes", "head_too_large")
        elif self._phase is Phase.BODY:
            # Chunk sizes, and trailers, which are headers by another name.
            self._framing += len(piece) - (self._body_bytes - body_bytes)
            if self._framing > 2 * self._limits.header_bytes + 8 * self._body_bytes:
                self._refuse(400, "the body has more framing than content", "framing_too_large")

    def _begin_head(self) -> None:
        self._phase = Phase.HEAD
        self._head_bytes = self._head_lines = self._framing = self._body_bytes = 0

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of the head, or of the trailers."""
        self._head_lines += 1
        if self._head_lines > MOST_HEADERS:
            self._refuse(431, f"the head has more than {MOST_HEADERS} lines", "head_too_large")
            raise httptools.HttpParserError("refused")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._phase = Phase.BODY
        if len(self.pipeline) >= MOST_PIPELINED:
            self.drop("too_many_pipelined")
            raise httptools.HttpParserError("refused")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)
        if not self.cycle.response_complete:
            self._connections.hold(self, len(body))

    def on_message_complete(self) -> None:
        """The request has arrived completely."""
        self.has_arrived()
        super().on_message_complete()

    def has_arrived(self) -> None:
        """A request has arrived completely, and is going to be answered."""
        self._phase = Phase.IDLE
        self._connections.busy(self)

    def on_response_complete(self) -> None:
        """The answer has been sent."""
        self._connections.release(self)
        super().on_response_complete()
        if not self.pipeline:
            self._connections.wait(self)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_READER_SECONDS, self.drop, "stalled_reader")
        self._connections.wait(self)

    def resume_writing(self) -> None:
        """The client is reading again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
            self._connections.busy(self)

    def _set_timer(self) -> None:
        """One timer for what comes next; sending more of a part that has begun does not extend its time."""
        wanted = None if self.ended or self._phase is Phase.IDLE else self._phase
        if wanted is self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timed, self._timer = wanted, None
        if wanted is not None:
            seconds = self._limits.header_seconds if wanted is Phase.HEAD else self._limits.body_seconds
            self._timer = self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._timed = self._timer = None
        if self.flow.read_paused or self._answers_an_earlier_one():
            self._set_timer()  # we are the side that is not reading
        elif self._phase is Phase.HEAD and self._head_bytes == 0:
            self.drop("idle")
        else:
            what = "head" if self._phase is Phase.HEAD else "body"
            self._refuse(408, f"the {what} did not arrive in time", f"{what}_too_slow")

    def _answers_an_earlier_one(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem, like every other error."""
        if not self.ended:
            self._refuse(400, "this is not a valid HTTP request", "not_http")

    def _refuse(self, status: int, detail: str, reason: str) -> None:
        """Answer and close, unless another answer is under way."""
        if self._answers_an_earlier_one() or (self.cycle is not None and self._half_answered()):
            self.drop(reason)
            return
        self._connections.note(reason)
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._raw.write(_answer(status, detail))
        self.hang_up()

    def _half_answered(self) -> bool:
        return self.cycle.response_started and not self.cycle.response_complete

    @property
    def has_begun(self) -> bool:
        """Whether part of a request has arrived, and not all of it."""
        return self._phase is Phase.BODY or (self._phase is Phase.HEAD and self._head_bytes > 0)

    def drop(self, reason: str) -> None:
        """Close at once, whatever is under way."""
        self._connections.note(reason)
        self.ended = True
        self._set_timer()
        self._connections.leave(self)
        self._raw.abort()

    def hang_up(self) -> None:
        """Close after what was written; for a moment, anything still received is discarded."""
        if self.ended:
            return
        self.ended = True
        self._set_timer()
        if not self.has_begun or not self._raw.can_write_eof():
            self._raw.close()
        else:
            self._raw.write_eof()
            self._raw.resume_reading()
        self.loop.call_later(LINGER_SECONDS, self._raw.abort)


@cache
def _answer(status: int, detail: str) -> bytes:
    answer = problem(status, detail, headers={"Connection": "close"})
    lines = [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", bytes(answer.body)])


class _Transport(asyncio.Transport):
    """The transport as uvicorn sees it: closing it hangs up as `Connection` does."""

    def __init__(self, raw: asyncio.Transport, connection: Connection) -> None:
        super().__init__()
        self._raw, self._connection = raw, connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        if not self._connection.ended:
            self._raw.write(data)

    def close(self) -> None:
        self._connection.hang_up()

    def is_closing(self) -> bool:
        return self._connection.ended or self._raw.is_closing()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()
