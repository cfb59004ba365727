"""The admin API without a server: the same application, called in this process, with streamed answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
from starlette.types import ASGIApp, Message


class InProcess(httpx.AsyncBaseTransport):
    """Calls an ASGI application; httpx's own transport would keep every answer in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(await request.aread())
        exchange.start(self._app, _scope(request))
        start = await exchange.next()
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class _Exchange(httpx.AsyncByteStream):
    """One request; at most one message of its answer is buffered."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._messages: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)
        self._asked = False
        self._running: asyncio.Task[None] | None = None

    def start(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        self._running = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        await app(scope, self._receive, self._messages.put)

    async def _receive(self) -> Message:
        if self._asked:
            await asyncio.Event().wait()  # the client stays until the end
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def next(self) -> Message:
        """The next message of the answer. Raises what the application raised instead."""
        assert self._running is not None
        coming = asyncio.create_task(self._messages.get())
        await asyncio.wait([coming, self._running], return_when=asyncio.FIRST_COMPLETED)
        if not coming.done() and self._messages.empty():
            coming.cancel()
            await self._running
            raise httpx.RemoteProtocolError("the answer was cut off")
        return await coming

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            try:
                message = await self.next()
            except RuntimeError as error:
                # Starlette's, around an error that could have been a problem, had the answer not begun.
                raise error.__cause__ or error  # noqa: B904
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def aclose(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
        "method": request.method, "scheme": request.url.scheme, "root_path": "",
        "path": request.url.path, "raw_path": request.url.raw_path.split(b"?")[0], "query_string": request.url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port), "client": ("127.0.0.1", 0),
    }  # fmt: skip
