"""The TCP connection under a request: uvicorn hides it, but a simulator has to cut it now and then."""

import asyncio
from typing import cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "simulator.connection"


class OpenProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also shows the transport to the application."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"transport": self.transport}}


def transport_of(scope: Scope) -> asyncio.Transport:
    return cast(asyncio.Transport, scope["extensions"][EXTENSION]["transport"])


async def cut(scope: Scope, receive: Receive, *, at_once: bool = True) -> None:
    """Closes the connection: at once, or after everything written was sent. Returns when the server knows."""
    transport = transport_of(scope)
    if at_once:
        transport.abort()
    else:
        transport.close()
    # uvicorn treats a return without an answer as a bug, unless it already knows about the loss.
    while (await receive())["type"] != "http.disconnect":
        pass
