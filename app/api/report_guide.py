"""The report for each task of a bookkeeper: the newest version that the account has, and its columns in words."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import select

from app.api.http.dependencies import Session, TheSettings
from app.api.schemas.common import Out, Slug
from app.db.models import ReportType
from app.errors import BadInput, FieldError
from app.settings import DEFAULT_ACCOUNT
from app.tables.catalogue import Kind
from app.tables.guide import guide

router = APIRouter(prefix="/v1/report-guide", tags=["report types"])

Account = Annotated[Slug, Query(description="The account whose report types to show.")]


class GuideColumnOut(Out):
    """A column of a report."""

    name: str
    kind: Kind
    meaning: str | None = Field(description="What it means, if known.")


class GuideEntryOut(Out):
    """A task, and the report for it."""

    task: str
    family: str = Field(description="The report without its version.")
    report_type: str | None = Field(description="The newest version that the account has; null: it has none.")
    latest: str = Field(description="For a rule that follows new versions, each from the start of a month.")
    newest_known: str = Field(description="The newest version that Tallyhook knows of.")
    columns: list[GuideColumnOut]


class GuideOut(Out):
    """The guide of an account."""

    data: list[GuideEntryOut]


@router.get("")
async def show_guide(settings: TheSettings, session: Session, account: Account = DEFAULT_ACCOUNT) -> GuideOut:
    """Which report to use for which task; `report_type` can be copied into a rule."""
    if account not in settings.accounts:
        names = ", ".join(sorted(settings.accounts)) or "none"
        raise BadInput(FieldError("account", f"{account} is not configured; the accounts are: {names}"))
    there = (ReportType.missing_since.is_(None), ReportType.resolves_to.is_(None))
    query = select(ReportType.id).where(ReportType.account == account, *there)
    return GuideOut.model_validate({"data": guide((await session.execute(query)).scalars().all())})
