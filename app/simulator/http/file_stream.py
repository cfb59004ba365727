"""Sends a file's bytes: all or a range, correct or as a fault changes them, with at most one piece in memory."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from app.simulator.http.calls import FileBody
from app.simulator.http.connection import cut, transport_of

MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "zip": "application/zip"}
SLOW_PIECE = 16 * 1024
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes are sent: `[start, end)` of the file, `extra` more, and the offset where the connection breaks."""

    status: int
    start: int
    end: int
    extra: int = 0
    breaks_at: int | None = None

    @property
    def length(self) -> int:
        return self.end - self.start + self.extra


async def send_file(scope: Scope, receive: Receive, send: Send, *, body: FileBody, headers: dict[str, str]) -> int:
    """Answers with the file; the returned status is 0 if the connection was cut."""
    part = _part(body)
    if part is None:
        headers = headers | {"Content-Range": f"bytes */{body.file.size}", "Content-Length": "0"}
        await send({"type": "http.response.start", "status": 416, "headers": encoded(headers)})
        await send({"type": "http.response.body"})
        return 416
    if "file_cut_silently" in body.faults:
        return await _cut_silently(scope, receive, body=body, part=part)
    headers = headers | _headers(body, part)
    await send({"type": "http.response.start", "status": part.status, "headers": encoded(headers)})
    async for piece in _paced(body, part):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if part.breaks_at is not None:
        await cut(scope, receive, at_once=False)
        return 0
    await send({"type": "http.response.body"})
    return part.status


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def _part(body: FileBody) -> Part | None:
    """What to send; None if the requested range lies outside the file."""
    size, faults = body.file.size, body.faults
    bounds = _bounds(body.wanted, size)
    if bounds is None:
        return None
    status, start, end = bounds
    extra, breaks_at = 0, None
    if "file_empty" in faults:
        end = start
    if "file_short" in faults:
        end = start + min(end - start, _bytes(body, "file_short", (end - start) // 2))
    if "file_long" in faults:
        extra = _bytes(body, "file_long", 1024)
    for name in ("file_cut", "file_cut_silently"):
        if name in faults:
            breaks_at = start + min(end - start, _bytes(body, name, (end - start) // 2))
    return Part(status, start, end, extra=extra, breaks_at=breaks_at)


def _bounds(wanted: str | None, size: int) -> tuple[int, int, int] | None:
    """Status, start and end for a Range header; one that it does not understand is answered with the whole file."""
    found = RANGE.fullmatch(wanted or "")
    if found is None or found.groups() == ("", ""):
        return 200, 0, size
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    return None if start >= end else (206, start, end)


def _bytes(body: FileBody, name: str, otherwise: int) -> int:
    given = body.faults[name].bytes
    return otherwise if given is None else given


def _headers(body: FileBody, part: Part) -> dict[str, str]:
    headers = {"Content-Type": MEDIA_TYPES[body.file.type], "ETag": f'"{body.file.id}"'}
    headers["Content-Disposition"] = f'attachment; filename="{body.file.run_id}.{body.file.type}"'
    if body.wanted is not None or part.status == 206:
        headers["Accept-Ranges"] = "bytes"
    if part.status == 206:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{body.file.size}"
    if "file_gzip" in body.faults:
        headers["Content-Encoding"] = "gzip"
    elif "file_chunked" not in body.faults:
        headers["Content-Length"] = str(part.length)
    return headers


def _pieces(body: FileBody, part: Part) -> Iterator[bytes]:
    """The bytes on the wire, up to where the connection breaks."""
    plain = _plain_pieces(body, part)
    if "file_gzip" not in body.faults:
        yield from plain
        return
    squeezer = zlib.compressobj(wbits=31)
    for piece in plain:
        yield squeezer.compress(piece)
    yield squeezer.flush()


def _plain_pieces(body: FileBody, part: Part) -> Iterator[bytes]:
    end = part.end if part.breaks_at is None else part.breaks_at
    yield from body.file.content.chunks(part.start, end)
    if part.extra and part.breaks_at is None:
        yield b"\n" * part.extra


async def _paced(body: FileBody, part: Part) -> AsyncIterator[bytes]:
    slow = body.faults.get("file_slow")
    for piece in _pieces(body, part):
        if slow is None:
            yield piece
            continue
        step = slow.bytes or SLOW_PIECE
        for place in range(0, len(piece), step):
            await asyncio.sleep(slow.seconds)
            yield piece[place : place + step]


async def _cut_silently(scope: Scope, receive: Receive, *, body: FileBody, part: Part) -> int:
    """An answer without a length that ends with the connection: clients cannot know that it is incomplete."""
    transport = transport_of(scope)
    kind = MEDIA_TYPES[body.file.type].encode()
    transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\nconnection: close\r\n\r\n")
    async for piece in _paced(body, part):
        transport.write(piece)
    await cut(scope, receive, at_once=False)
    return 0
