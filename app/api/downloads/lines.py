"""The lines of one connected account, from a file that holds those of all of them."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.downloads.pieces import body_of
from app.api.http.content_negotiation import names_tag
from app.errors import Malformed, NotAcceptable, NotFound
from app.files.account_lines import AccountLines
from app.resources import Resources
from app.runs.listing import ShownFile, ShownRun


def holds_several(run: ShownRun) -> bool:
    """Whether lines must be picked, because the run's file is not this account's alone."""
    return run.connected_account is None


def check_account(run: ShownRun, file: ShownFile, account: str, left_out: Collection[str]) -> None:
    """Whether a run's file has this account's lines, and the rule does not leave it out. Raises NotFound,
    NotAcceptable."""
    if account in left_out:
        raise NotFound(f"the rule of run {run.id} leaves {account} out (`except`): only the whole file has its lines")
    if not holds_several(run) and run.connected_account != account:
        raise NotFound(f"the file of run {run.id} is for {run.connected_account}, not {account}")
    if holds_several(run) and file.media_type != "text/csv":
        raise NotAcceptable(
            "lines can only be picked from a CSV file: download the whole file, without `connected_account`"
        )


async def answer_with_lines(res: Resources, request: Request, file: ShownFile, account: str) -> Response:
    """The header and the lines of this account, unchanged; only the header if it has none. Raises NotAcceptable for a
    file that does not name the account of each line."""
    name = Path(file.filename)
    headers = {
        "ETag": f'"{file.sha256}-{account}"',
        "Content-Disposition": f'attachment; filename="{name.stem}_{account}{name.suffix}"',
        "Cache-Control": "private, no-transform",
        "X-Content-Type-Options": "nosniff",
    }
    if names_tag(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    pieces = res.files.read(file.id, file.location, start=0, stop=file.size)
    lines = _picked(pieces, AccountLines(account))
    try:
        first = await anext(lines, b"")  # it contains the header: errors about that can still be answered
    except Malformed as error:
        advice = "add it to the rule's parameter `columns`, or download the whole file"
        raise NotAcceptable(f"the lines of one account cannot be picked: {error}; {advice}") from error
    return StreamingResponse(body_of(request, first, lines), media_type=file.media_type, headers=headers)


async def _picked(pieces: AsyncIterator[bytes], lines: AccountLines) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if found := lines.take(piece):
            yield found
    if found := lines.end():
        yield found
