"""Receivers of messages for tests: a web server that keeps what it is sent, and a real mail server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

import orjson
import uvicorn
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState


@dataclass(frozen=True, slots=True)
class Received:
    """One POST as it came in."""

    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        found = orjson.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(slots=True)
class WebReceiver:
    """Keeps every POST. `answers` (a status, or a status with headers) are used up first; `stalls` never answers."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[int | tuple[int, dict[str, str]]] = field(default_factory=list)
    always: int = 200
    stalls: bool = False

    @property
    def types(self) -> list[str]:
        return [one.message["type"] for one in self.received]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.received.append(Received(headers, body))
        if self.stalls:
            await asyncio.Event().wait()
        answer = self.answers.pop(0) if self.answers else self.always
        status, more_headers = answer if isinstance(answer, tuple) else (answer, {})
        shown = [(name.encode(), value.encode()) for name, value in {"content-length": "4", **more_headers}.items()]
        await send({"type": "http.response.start", "status": status, "headers": shown})
        await send({"type": "http.response.body", "body": b"seen"})


@asynccontextmanager
async def web_receiver(receiver: WebReceiver | None = None) -> AsyncIterator[WebReceiver]:
    """A web receiver, this one or a new one, on a free port of loopback."""
    receiver, state = receiver or WebReceiver(), ServerState()
    config = uvicorn.Config(receiver, ws="none", lifespan="off", log_config=None)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HttpToolsProtocol(config, state, {}), "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@dataclass(slots=True)
class MailServer:
    """A real SMTP server without TLS that keeps its mail; `refuses` answers 451 to everything, `silent_at` is never
    answered."""

    url: str = ""
    mails: list[Message] = field(default_factory=list)
    users: list[bytes] = field(default_factory=list)
    refuses: bool = False
    silent_at: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.silent_at == "QUIT":
            await self.over.wait()
        return "221 bye"

    def log_in(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
        """Let everybody in who sends a password, with or without TLS."""
        assert isinstance(data, LoginPassword)
        self.users.append(data.login)
        return AuthResult(success=True)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.silent_at == "DATA":
            await self.over.wait()
        if self.refuses:
            return "451 try again later"
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(message_from_bytes(content, policy=default))
        return "250 kept"


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """A mail server on a free port of loopback."""
    kept = MailServer()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(kept, loop=loop, authenticator=kept.log_in, auth_require_tls=False), "127.0.0.1", 0
    )
    kept.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield kept
    finally:
        kept.over.set()
        server.close()
        await server.wait_closed()
