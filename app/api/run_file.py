"""The bytes of a run's file, streamed: whole or one range, with the headers that caches and resuming clients need."""

import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from app import files
from app.api.downloads.lines import answer_with_lines, check_account, holds_several
from app.api.downloads.parquet import answer_with_parquet
from app.api.downloads.pieces import body_of
from app.api.downloads.xlsx import MEDIA_TYPE as XLSX
from app.api.downloads.xlsx import answer_with_workbook
from app.api.http.content_negotiation import names_tag, prefers_zstd
from app.api.http.dependencies import Res
from app.api.http.problems import problem
from app.api.schemas.common import ConnectedAccount
from app.errors import Conflict, Gone, NotAcceptable, Unsatisfiable
from app.resources import Resources, reading
from app.rules import store
from app.runs import listing
from app.runs.listing import ShownFile, ShownRun

router = APIRouter(prefix="/v1/runs", tags=["runs"])

Form = Annotated[
    Literal["csv", "xlsx", "parquet"],
    Query(alias="format", description="The format to convert to; `csv`: the bytes as they are."),
]
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*")
Whose = Annotated[
    ConnectedAccount | None,
    Query(description="If the file has lines of several connected accounts: only the header and this one's."),
]
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": {"text/csv": {}, "application/zip": {}, XLSX: {}}},
    206: {"description": "The requested range.", "content": {"text/csv": {}, "application/zip": {}}},
    304: {"description": "The file matches `If-None-Match`."},
    409: {"description": "The run has no file yet."},
    406: {"description": "The file cannot be converted to the requested format."},
    410: {"description": "The file was removed, by retention or by hand."},
    416: {"description": "The range lies outside the file."},
}


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes [start, stop)."""

    start: int
    stop: int


@router.get("/{run_id:uuid}/file", response_class=Response, responses=ANSWERS)
@router.head("/{run_id:uuid}/file", response_class=Response, include_in_schema=False)
async def download_file(
    res: Res, run_id: uuid.UUID, request: Request, form: Form = "csv", connected_account: Whose = None
) -> Response:
    """The file that the run ended in. `Range`, `If-Range` and `If-None-Match` are honoured.

    A client that prefers zstd (`Accept-Encoding`) gets the whole file as it is stored; parts are never compressed.
    `format=xlsx` converts it to an Excel workbook, with numbers as numbers and a sheet that describes it;
    `format=parquet` converts every column to Parquet, if pyarrow is installed.
    """
    return await answer_with_file(res, run_id, request, form, connected_account)


async def answer_with_file(
    res: Resources, run_id: uuid.UUID, request: Request, form: Form = "csv", connected_account: str | None = None
) -> Response:
    """The answer to a request for a run's file, for the routes of API and pages. Raises NotFound, Conflict, Gone,
    NotAcceptable."""
    async with reading(res) as session:
        run = await listing.get_run(session, run_id)
        left_out = await store.left_out(session, run.rule_id) if connected_account and holds_several(run) else []
    file = file_there(run)
    if connected_account is not None:
        check_account(run, file, connected_account, left_out)
        if holds_several(run):
            if form != "csv":
                raise NotAcceptable("one account's lines are available only as CSV: leave out `format`")
            return await answer_with_lines(res, request, file, connected_account)
    if form == "parquet":
        return await answer_with_parquet(res, run_id, file)
    if form == "xlsx":
        return await answer_with_workbook(res, run, file)
    async with res.sessions.begin() as session:
        size = await files.compressed_size(session, file.id) if _wants_zstd(request, file) else None
    headers = _headers(file, compressed=size is not None)
    if names_tag(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if size is not None:
        headers |= {"Content-Encoding": "zstd", "Content-Length": str(size)}
        pieces = files.read_compressed(res.sessions, file.id, size=file.size)
        return await _answer(request, file, headers, pieces)
    return await _part_or_whole(res, request, file, headers)


def _wants_zstd(request: Request, file: ShownFile) -> bool:
    # Files in an object store are not compressed; and an empty file would have no zstd frame at all.
    is_compressed = file.location is None and file.size > 0
    return is_compressed and "range" not in request.headers and prefers_zstd(request.headers.get("accept-encoding"))


async def _part_or_whole(res: Resources, request: Request, file: ShownFile, headers: dict[str, str]) -> Response:
    size = file.size
    try:
        part = _wanted(request, size=size, etag=headers["ETag"])
    except Unsatisfiable:
        shown = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        return problem(416, f"the file has {size} bytes", headers=shown)
    sent = part or ByteRange(0, size)
    headers["Content-Length"] = str(sent.stop - sent.start)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    pieces = res.files.read(file.id, file.location, start=sent.start, stop=sent.stop)
    return await _answer(request, file, headers, pieces, status=200 if part is None else 206)


async def _answer(
    request: Request, file: ShownFile, headers: dict[str, str], pieces: AsyncIterator[bytes], *, status: int = 200
) -> Response:
    about: dict[str, Any] = {"status_code": status, "media_type": file.media_type, "headers": headers}
    if request.method == "HEAD":
        return StreamingResponse(body_of(request, b"", pieces), **about)
    # The first piece is fetched before the answer begins: an error so far can still become a problem.
    first = await anext(pieces, b"")
    if len(first) < int(headers["Content-Length"]):
        return StreamingResponse(body_of(request, first, pieces), **about)
    await anext(pieces, b"")  # ends it
    return Response(first, **about)


def file_there(run: ShownRun) -> ShownFile:
    """The file of a run. Raises Conflict if there is none yet, Gone if it was removed."""
    file = run.file
    if file is None:
        raise Conflict(f"run {run.id} has no file: it is {run.state}")
    if file.removed_at is not None:
        day, reason = file.removed_at.astimezone(UTC), file.removed_reason
        raise Gone(f"the file of run {run.id} was removed on {day:%F}: {reason}")
    return file


def _headers(file: ShownFile, *, compressed: bool) -> dict[str, str]:
    return {
        # The compressed bytes never change either, and are other bytes.
        "ETag": f'"{file.sha256}{"-zstd" if compressed else ""}"',
        "Vary": "Accept-Encoding",
        "Accept-Ranges": "bytes",
        # Names are made of characters that need no quoting (runs/transfer).
        "Content-Disposition": f'attachment; filename="{file.filename}"',
        "Cache-Control": "private, no-transform",
        "X-Content-Type-Options": "nosniff",
    }


def _wanted(request: Request, *, size: int, etag: str) -> ByteRange | None:
    """The requested range; None for the whole file. Raises Unsatisfiable.

    Only GET has ranges. A range that cannot be read, and several ranges at once, count as none (RFC 9110, 14.2).
    """
    headers: Headers = request.headers
    found = _RANGE.fullmatch(headers.get("range", "").lower())
    if request.method != "GET" or found is None or headers.get("if-range", etag).strip() != etag:
        return None
    return parse_range(found[1], found[2], size=size)


def parse_range(first: str, last: str, *, size: int) -> ByteRange | None:
    """`bytes=first-last` of a file of `size` bytes: `last` is included, and either may be empty."""
    if first == "" and last == "":
        return None
    if first == "":
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), size if last == "" else min(size, int(last) + 1)
        if last != "" and int(last) < start:
            return None
    if start >= size or start >= stop:
        raise Unsatisfiable
    return ByteRange(start, stop)
