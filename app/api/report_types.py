"""Report types: what accounts can run, how far its data reaches, and refreshing that from Stripe."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import func, select, tuple_

from app import audit
from app.accounts import reconciliations
from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import page_of, read_cursor
from app.api.schemas.common import Out, Page, PageIn, Slug, Time
from app.db.models import ReportType

router = APIRouter(prefix="/v1/report-types", tags=["report types"])


class ReportTypesIn(PageIn):
    """Which report types to list, and where to start."""

    account: Slug | None = None


class ReportTypeOut(Out):
    """A report type of an account."""

    account: str
    id: str
    name: str | None
    version: int | None
    livemode: bool | None
    data_available_start: Time | None
    data_available_end: Time | None = Field(description="Exclusive; only ever moves forward.")
    default_columns: list[str] | None
    missing_since: Time | None = Field(description="Since when Stripe has said that the account does not have it.")
    missing_reason: str | None
    refreshed_at: Time


class Accepted(Out):
    """The work continues in the background."""

    asked_at: Time


@router.get("")
async def list_report_types(session: Session, asked: Annotated[ReportTypesIn, Query()]) -> Page[ReportTypeOut]:
    """All report types that Stripe lists, by account and name."""
    order = tuple_(ReportType.account, ReportType.id)
    query = select(ReportType).where(ReportType.resolves_to.is_(None))
    query = query.order_by(ReportType.account, ReportType.id).limit(asked.limit + 1)
    if asked.account is not None:
        query = query.where(ReportType.account == asked.account)
    if asked.cursor is not None:
        query = query.where(order > tuple_(*read_cursor("report-types", asked.cursor, parts=2)))
    found = (await session.execute(query)).scalars().all()
    shown = [ReportTypeOut.model_validate(type_) for type_ in found]
    return page_of("report-types", shown, asked.limit, lambda type_: [type_.account, type_.id])


@router.post("/refresh", status_code=202)
async def refresh_report_types(res: Res, caller: CalledBy) -> Accepted:
    """Ask Stripe how far its report types' data reaches, and plan what has become due."""
    async with res.sessions.begin() as session:
        asked_at: datetime = (await session.execute(select(func.now()))).scalar_one()
        await reconciliations.make_due(session, *res.settings.accounts)
        await audit.note(session, actor=caller.name, action="report_types.refreshed")
    return Accepted(asked_at=asked_at)
