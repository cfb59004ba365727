"""A month as one ZIP: every newest stored file of its windows, and a manifest."""

import hashlib
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from app import __version__, sentences
from app.api.http.content_negotiation import names_tag
from app.api.http.dependencies import Res
from app.api.http.problems import problem
from app.packs import manifest
from app.packs.contents import Pack, read_pack
from app.packs.missing import OtherWindow
from app.packs.stream import pack_bytes
from app.resources import Resources
from app.rules import store

router = APIRouter(prefix="/v1/packs", tags=["packs"])

# The sentence names this many missing windows; the answer's `missing` has all of them.
_MOST_NAMED = 5
_ZIP = "application/zip"
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The ZIP.", "content": {_ZIP: {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "Nothing has changed since the pack that `If-None-Match` names."},
    404: {"description": "No rule has a window in this month."},
    409: {"description": "The month is not complete; `missing` lists what it lacks."},
}

Month = Annotated[str, Path(description="A month, like `2026-10`.", pattern=sentences.MONTH)]
Rules = Annotated[list[str] | None, Query(alias="rule", description="Only these rules: names or ids; default: all.")]
Incomplete = Annotated[bool, Query(description="Pack what is stored, even if the month is not complete.")]


@router.get("/{month}.zip", response_class=Response, responses=ANSWERS)
@router.head("/{month}.zip", response_class=Response, include_in_schema=False)
async def download_pack(
    res: Res, month: Month, request: Request, rule: Rules = None, incomplete: Incomplete = False
) -> Response:
    """A month's newest stored files under readable names, with `manifest.json` and `manifest.csv`. Its bytes stay the
    same while nothing changes. 409 lists what is missing, unless `incomplete` is true; cancelled windows are listed in
    the manifest and do not count as missing. A window belongs to the month of its last local day. With `every_update` a
    month is complete once Stripe's data has passed its end; with `every_payout` once it is over, the list of payouts
    has been read again, and every automatic payout that arrived in it has its report, except for those that Stripe has
    not reconciled within 60 days."""
    first = date.fromisoformat(f"{month}-01")
    return await answer_with_pack(res, first, rule or (), request, incomplete=incomplete)


async def answer_with_pack(
    res: Resources, month: date, rules: Sequence[str], request: Request, *, incomplete: bool
) -> Response:
    """The answer to a request for a month's pack, for the routes of API and pages. Raises NotFound."""
    async with res.sessions.begin() as session:
        named = [await store.find(session, rule) for rule in dict.fromkeys(rules)]
        pack = await read_pack(session, month, named, res.claim_terms)
    if pack.missing and not incomplete:
        missing = [manifest.described(one) for one in pack.missing]
        return problem(409, _not_there(pack), more={"missing": missing})
    headers = _headers(pack)
    if names_tag(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(media_type=_ZIP, headers=headers)
    return StreamingResponse(pack_bytes(res.files, pack), media_type=_ZIP, headers=headers)


def _headers(pack: Pack) -> dict[str, str]:
    # The manifest has the hash of every file; the version stands for the way in which the ZIP is written.
    tag = hashlib.sha256(manifest.as_json(pack) + __version__.encode()).hexdigest()
    ending = "_incomplete" if pack.missing else ""
    return {
        "ETag": f'"{tag}"',
        "Content-Disposition": f'attachment; filename="reports_{pack.month:%Y-%m}{ending}.zip"',
        "Cache-Control": "private, no-transform",
        "X-Content-Type-Options": "nosniff",
    }


def _not_there(pack: Pack) -> str:
    named = "; ".join(_named(one) for one in pack.missing[:_MOST_NAMED])
    more = len(pack.missing) - _MOST_NAMED
    rest = f"; and {more} more" if more > 0 else ""
    return (
        f"{pack.month:%Y-%m} lacks {len(pack.missing)} of its reports: {named}{rest}. "
        "incomplete=true packs the others; rule=NAME packs only some rules"
    )


def _named(one: OtherWindow) -> str:
    first, last = one.dates.first, one.dates.last
    days = f"{first}" if first == last else f"{first} to {last}"
    account = "" if one.connected_account is None else f" of {one.connected_account}"
    return f"{one.rule} {days}{account}: {one.reason}"
