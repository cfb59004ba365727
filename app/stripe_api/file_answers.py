"""A file that Stripe sends: whether the answer is the file, or the requested rest of it, and what it means if not."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from app.errors import KeyRefused, NotNow, Refused, WrongPart
from app.stripe_api.answers import retry_after
from app.stripe_api.objects import StripeFile


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that Stripe is sending, from byte `start` (0, or the requested one); `size` is that of the whole file."""

    start: int
    size: int | None
    pieces: AsyncIterator[bytes]


def check_file_answer(response: httpx.Response, start: int) -> None:
    """Raise what an answer other than the file means: NotNow, KeyRefused, Refused or WrongPart."""
    status, request_id = response.status_code, response.headers.get("request-id")
    if status in (200, 206):
        return
    message = f"the files host answered {status}"
    if status == 416 and start:
        raise WrongPart(message, request_id)
    if status in (401, 403):
        raise KeyRefused(message, request_id, status=status)
    if status == 429 or status >= 500 or status in (408, 409):
        raise NotNow(message, request_id, after=retry_after(response.headers))
    raise Refused(message, request_id, status=status)


def open_file(response: httpx.Response, file: StripeFile, start: int) -> OpenFile:
    """The file of an answer. Raises WrongPart unless it is the file, or exactly its rest from `start`."""
    encoded = "content-encoding" in response.headers
    if response.status_code == 200:
        # The length of a compressed answer, which we did not request, says nothing about the file.
        length = "" if encoded else response.headers.get("content-length", "")
        return OpenFile(0, int(length) if length.isdecimal() else None, response.aiter_bytes())
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    first, last, size = map(int, found.groups()) if found else (0, 0, 0)
    # It must be the complete, uncompressed rest of the same file: nothing else can follow the stored part.
    if encoded or (first, last) != (start, size - 1) or file.size not in (None, size):
        raise WrongPart("the files host answered with a different range than requested")
    return OpenFile(start, size, response.aiter_bytes())


_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


def origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port, read by the parser that also makes the call: two parsers might disagree."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    default = {"http": 80, "https": 443}.get(parsed.scheme)
    return None if parsed.userinfo else (parsed.scheme, parsed.host, parsed.port or default)
