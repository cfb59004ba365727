"""A flood of strangers from a separate process: endless heads, half bodies, and connections that do nothing.

Each comes back as soon as it is thrown out, but no more often than once a second.
"""

import asyncio
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import uvloop

PIECE = b"X-Filler: " + b"y" * 4000 + b"\r\n"
BACK_SECONDS = 1.0

Sends = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def endless_head(writer: asyncio.StreamWriter) -> None:
    """Headers, for as long as they are accepted."""
    writer.write(b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\n")
    while True:
        writer.write(PIECE)
        await writer.drain()
        await asyncio.sleep(0.005)


async def half_body(writer: asyncio.StreamWriter) -> None:
    """What looks like a delivery until its end, which never comes."""
    signature = f"t={int(time.time())},v1={'0' * 64}"
    head = f"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nStripe-Signature: {signature}\r\nContent-Length: 1000000"
    writer.write(f"{head}\r\n\r\n".encode() + b"x" * 900_000)
    await writer.drain()
    while True:
        writer.write(b"x")
        await asyncio.sleep(1)


async def nothing(_writer: asyncio.StreamWriter) -> None:
    """Just stay connected."""


async def _come_back(host: str, port: int, sends: Sends) -> None:
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            sending = asyncio.create_task(sends(writer))
            with suppress(OSError):
                await reader.read()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()
        await asyncio.sleep(BACK_SECONDS)


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65_536, hard))


async def flood(host: str, port: int, *, heads: int, bodies: int, idle: int) -> None:
    """Continue until the process is ended."""
    kinds = ((endless_head, heads), (half_body, bodies), (nothing, idle))
    strangers = [_come_back(host, port, sends) for sends, count in kinds for _ in range(count)]
    print("here", flush=True)
    await asyncio.gather(*strangers)


if __name__ == "__main__":
    _allow_many_files()
    where, heads, bodies, idle = sys.argv[1:]
    uvloop.run(flood("127.0.0.1", int(where), heads=int(heads), bodies=int(bodies), idle=int(idle)))
