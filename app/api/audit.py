"""The audit log: read-only. No route changes or removes an entry."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import select

from app.api.http.dependencies import Session
from app.api.http.paging import page_of, read_number_cursor
from app.api.schemas.common import Out, Page, PageIn, Time
from app.db.models import AuditEntry

router = APIRouter(prefix="/v1/audit", tags=["audit"])

_Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class AuditIn(PageIn):
    """Which entries to list, and where to start."""

    actor: _Word | None = Field(default=None, description="A token's name, or `cli:` and a system user.")
    action: _Word | None = Field(default=None, description="`rule.changed`, `run.retried`, …")
    subject: _Word | None = Field(default=None, description="The id of a rule, a run or an event.")


class AuditOut(Out):
    """One change."""

    id: int
    at: Time
    actor: str
    action: str
    subject: str | None
    before: dict[str, Any] | None = Field(description="The changed values before, without secrets.")
    after: dict[str, Any] | None = Field(description="The changed values after, or what was requested.")


@router.get("")
async def list_audit(session: Session, asked: Annotated[AuditIn, Query()]) -> Page[AuditOut]:
    """Every write through the admin API and the command line, newest first; kept forever."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(asked.limit + 1)
    given = asked.model_dump(exclude={"limit", "cursor"}, exclude_none=True)
    query = query.where(*(getattr(AuditEntry, name) == value for name, value in given.items()))
    if asked.cursor is not None:
        query = query.where(AuditEntry.id < read_number_cursor("audit", asked.cursor))
    found = (await session.execute(query)).scalars().all()
    return page_of("audit", [AuditOut.model_validate(entry) for entry in found], asked.limit, lambda entry: [entry.id])
