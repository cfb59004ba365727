"""A server that is not Stripe: it notes the headers of every request, and answers what it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stranger:
    """`requests` holds the head of every request that came, as text; `answer` is sent to each as it is."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nstolen\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def stranger() -> AsyncIterator[Stranger]:
    """On a free port of loopback."""
    found = Stranger()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield found
