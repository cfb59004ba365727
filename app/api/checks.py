"""Checks: whether the numbers in the files agree with each other, and the notes about them."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import page_of, read_number_cursor
from app.api.named_rule import rule_id_of
from app.api.schemas.common import Page
from app.api.schemas.tables import CheckListIn, CheckWindowOut, NoteIn, VerdictOut
from app.ids import LARGEST_NUMBER
from app.planning.dates import local_dates
from app.tables import manual
from app.tables.checks import listing
from app.tables.checks.listing import ShownCheck

router = APIRouter(prefix="/v1/checks", tags=["checks"])

_Id = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]


@router.get("")
async def list_checks(session: Session, asked: Annotated[CheckListIn, Query()]) -> Page[VerdictOut]:
    """The newest verdict on each subject, newest first; with `history`, every verdict."""
    before = None if asked.cursor is None else read_number_cursor("checks", asked.cursor)
    filters = replace(asked.filters(), rule_id=await rule_id_of(session, asked))
    found = await listing.list_checks(session, filters, before=before, limit=asked.limit + 1)
    return page_of("checks", [shown(check) for check in found], asked.limit, lambda check: [check.id])


@router.get("/{check_id}")
async def show_check(session: Session, check_id: _Id) -> VerdictOut:
    """One verdict."""
    return shown(await listing.get_check(session, check_id))


@router.post("/{check_id}/note")
async def note_check(res: Res, caller: CalledBy, check_id: _Id, asked: NoteIn) -> VerdictOut:
    """Write a note about a verdict; it is shown with the verdict and kept in the audit log."""
    async with res.sessions.begin() as session:
        await manual.note_check(session, check_id, asked.note, by=caller.name)
        return shown(await listing.get_check(session, check_id))


def shown(check: ShownCheck) -> VerdictOut:
    """A verdict as it is shown."""
    window = shown_window(check.interval_start, check.interval_end, check.timezone)
    names = [name for name in VerdictOut.model_fields if name != "window"]
    return VerdictOut(window=window, **{name: getattr(check, name) for name in names})


def shown_window(start: datetime | None, end: datetime | None, timezone: str | None) -> CheckWindowOut:
    """A window with its local dates; None where the report type takes no interval."""
    dates = None if start is None or end is None else local_dates(start, end, timezone or "UTC")
    return CheckWindowOut(
        first=None if dates is None else dates.first,
        last=None if dates is None else dates.last,
        timezone=timezone,
        interval_start=start,
        interval_end=end,
    )
