"""A path to the database that can stall, and swallow whatever is under way: like a silent network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg


class Detour:
    """Carries bytes between us and the database at `target`; `url` is the address of this path.

    `swallowed` counts how often.
    """

    def __init__(self, target: dict[str, Any], port: int) -> None:
        self._target = target
        self.swallowed = 0
        self._fatal: bytes | None = None
        self._carrying = asyncio.Event()
        self._carrying.set()
        user = ":".join(str(target[name]) for name in ("user", "password") if name in target)
        self.url = f"postgresql://{user}@127.0.0.1:{port}/{target['dbname']}"

    def stall(self) -> None:
        """Carry nothing until `flow`."""
        self._carrying.clear()

    def flow(self) -> None:
        """Carry again, including what waited."""
        self._carrying.set()

    def swallow(self) -> None:
        """Never again carry anything on the current connections, silently; new ones work."""
        self.swallowed += 1

    def swallow_at(self, words: bytes | None) -> None:
        """Swallow the current connections whenever one of them carries these words, words included; None: no longer."""
        self._fatal = words

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        host, port = str(self._target["host"]), int(self._target.get("port") or 5432)
        behind = asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}") if host[0] == "/" else None
        back_reader, back_writer = await (behind or asyncio.open_connection(host, port))
        await asyncio.gather(self._carry(reader, back_writer), self._carry(back_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        before = self.swallowed
        try:
            while data := await reader.read(65536):
                await self._carrying.wait()
                if self._fatal and self._fatal in data:
                    self.swallow()
                if before == self.swallowed:
                    writer.write(data)
        except ConnectionError:
            pass  # closed with something unread: an end like any other
        finally:
            writer.close()


@asynccontextmanager
async def detour(url: str) -> AsyncIterator[Detour]:
    """A way to the database at `url`."""
    ways: list[Detour] = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ways[0].connect(reader, writer)

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as server:
        ways.append(Detour(psycopg.conninfo.conninfo_to_dict(url), server.sockets[0].getsockname()[1]))
        yield ways[0]
