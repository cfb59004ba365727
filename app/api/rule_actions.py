"""What else can be done with a rule: see what it would run, make its past, see what it has."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, StrictBool, ValidationError, ValidationInfo, field_validator

from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import bad_cursor, make_cursor, read_cursor
from app.api.schemas.common import Day, In, Out, Page, PageIn, Time
from app.api.schemas.rules import RuleChange, RuleIn, WarningOut, refuse_null
from app.api.schemas.runs import WaitingOut
from app.db.models import Rule
from app.errors import BadInput, FieldError
from app.rules import backfill, changes, coverage, store
from app.rules import preview as previews
from app.rules.coverage import Cover

router = APIRouter(prefix="/v1/rules", tags=["rules"])


class PreviewIn(RuleChange):
    """A rule as it would be made; or, with `rule_id`, a saved one and what would change of it."""

    rule_id: uuid.UUID | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _only_retention_may_be_null(cls, value: object, info: ValidationInfo) -> object:
        # As in a new rule, where null means today.
        return value if info.field_name == "starts_on" else refuse_null(value, info)


class ComingOut(Out):
    """A window that would run, or comes next."""

    connected_account: str | None
    interval_start: Time = Field(validation_alias="start")
    interval_end: Time | None = Field(validation_alias="end", description="Null while it is not known.")
    partial: bool
    waiting: WaitingOut | None


class PreviewOut(Out):
    """What a rule would run."""

    now: list[ComingOut] = Field(description="What would be planned at once, oldest first; at most 100 are shown.")
    now_total: int
    next: list[ComingOut] = Field(description="What comes after that, for each connected account, and why it waits.")
    warnings: list[WarningOut] = Field(default_factory=list)


class BackfillIn(In):
    """Local dates of the rule's time zone; `to` is exclusive."""

    first: Day = Field(alias="from")
    until: Day = Field(alias="to")
    rerun: StrictBool = Field(default=False, description="Also make anew what is stored, as a new revision.")


class BackfillOut(Out):
    """What was planned; it is made behind."""

    planned: int
    retried: int
    rerun: int


class CoverageIn(PageIn):
    """Which windows: those that begin on these local dates; `to` is exclusive."""

    first: Day | None = Field(default=None, alias="from")
    until: Day | None = Field(default=None, alias="to")


class CoveredOut(Out):
    """A window of a rule, and what there is of it."""

    connected_account: str | None
    interval_start: Time = Field(validation_alias="start")
    interval_end: Time | None = Field(validation_alias="end")
    partial: bool
    state: Cover = Field(validation_alias="cover")
    run_id: uuid.UUID | None
    waiting: WaitingOut | None


@router.post("/preview")
async def preview_rule(res: Res, session: Session, asked: PreviewIn) -> PreviewOut:
    """What a rule, saved or not, would run now, and what comes next. Changes nothing, so the read token will do."""
    given = {name: value for name, value in asked.given().items() if name != "rule_id"}
    saved = None if asked.rule_id is None else store.values_of(await store.get(session, asked.rule_id))
    values = _new_values(given) if saved is None else saved | given
    rule = Rule(id=asked.rule_id, **changes.checked(values, settings=res.settings))
    answer = PreviewOut.model_validate(await previews.preview(session, rule, saved=asked.rule_id is not None))
    found = [WarningOut.model_validate(one) for one in await store.warnings(session, rule)]
    return answer.model_copy(update={"warnings": found})


@router.post("/{rule_id:uuid}/backfill", status_code=202)
async def backfill_rule(res: Res, caller: CalledBy, rule_id: uuid.UUID, asked: BackfillIn) -> BackfillOut:
    """Make what is missing of these days, and retry what failed or was cancelled."""
    if asked.first >= asked.until:
        raise BadInput(FieldError("/to", "has to be later than `from`, and is itself not part of it"))
    async with res.sessions.begin() as session:
        rule = await store.get(session, rule_id)
        wanted = backfill.Backfill(asked.first, asked.until, asked.rerun)
        report = await backfill.backfill(session, rule, wanted, settings=res.settings, by=caller.name)
    return BackfillOut.model_validate(report)


@router.get("/{rule_id:uuid}/coverage")
async def show_coverage(
    res: Res, session: Session, rule_id: uuid.UUID, asked: Annotated[CoverageIn, Query()]
) -> Page[CoveredOut]:
    """Every window from the rule's start to now, newest first, and what there is of it."""
    rule = await store.get(session, rule_id)
    after = None if asked.cursor is None else _place(asked.cursor)
    wanted = coverage.Asked(datetime.now(UTC), asked.first, asked.until, after, asked.limit)
    found, more = await coverage.coverage(res, session, rule, wanted)
    following = None if more is None else make_cursor("coverage", more[0].isoformat(), more[1])
    return Page(data=[CoveredOut.model_validate(one) for one in found], next_cursor=following)


def _new_values(given: dict[str, Any]) -> dict[str, Any]:
    """A rule that is not saved; only its name may be missing. Raises BadInput."""
    try:
        return RuleIn.model_validate({"name": "preview"} | given).model_dump()
    except ValidationError as error:
        raise BadInput(*(FieldError(f"/{one['loc'][0]}", "is missing") for one in error.errors())) from error


def _place(cursor: str) -> coverage.Place:
    start, account = read_cursor("coverage", cursor, parts=2)
    try:
        moment = datetime.fromisoformat(start)
    except ValueError as error:
        raise bad_cursor() from error
    if moment.tzinfo is None:
        raise bad_cursor()
    return moment, account
