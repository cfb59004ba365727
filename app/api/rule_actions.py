"""Actions on rules: preview, backfill, coverage."""

import uuid
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Response
from pydantic import Field, StrictBool, ValidationError, ValidationInfo, field_validator
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.http.dependencies import CalledBy, Res, Session, Terms, TheSettings
from app.api.http.paging import make_cursor, read_cursor, read_time
from app.api.schemas.common import Day, Days, Name, Out, Page, PageIn, Time
from app.api.schemas.rules import ALIASES, RuleChange, RuleIn, RuleRef, WarningOut, refuse_null
from app.api.schemas.runs import WaitingOut, WindowOut
from app.db.models import Rule
from app.errors import BadInput, FieldError
from app.planning.dates import local_dates
from app.rules import backfill, coverage, store
from app.rules import forecast as forecasts
from app.rules import preview as previews
from app.rules.backfill import Backfill
from app.rules.coverage import CoverageEntry, CoverageQuery, CoverageState, Position
from app.rules.preview import UpcomingWindow
from app.rules.rule import NewRule, RuleWarning, check

Shown = TypeVar("Shown", bound=Out)
router = APIRouter(prefix="/v1/rules", tags=["rules"])


class PreviewIn(RuleChange):
    """A new rule or, with `rule_id` or `rule`, changes to a saved one."""

    rule_id: uuid.UUID | None = None
    rule: Name | None = Field(default=None, description="The saved rule's name, instead of its id.")

    @field_validator("*", mode="before")
    @classmethod
    def _only_retention_may_be_null(cls, value: object, info: ValidationInfo) -> object:
        # As in a new rule, where null means today.
        return value if info.field_name == "starts_on" else refuse_null(value, info)


class UpcomingWindowOut(Out):
    """A window that would run, or comes next."""

    connected_account: str | None
    window: WindowOut | None = Field(description="The interval in local dates; null while its end is not known.")
    interval_start: Time = Field(validation_alias="start")
    interval_end: Time | None = Field(validation_alias="end", description="Null while it is not known.")
    partial: bool
    waiting: WaitingOut | None


class FedCheckOut(Out):
    """A check that compares the rule's files with others."""

    name: str
    says: str
    missing: list[str] = Field(description="Reports that the check needs but no enabled rule of the account requests.")


class ForecastOut(Out):
    """How long the runs that would be planned at once will take."""

    reports: int
    ahead: int = Field(description="Runs of the account that are already planned.")
    per_hour: float | None = Field(
        description="Based on the slots and on how long Stripe took recently; null if unknown."
    )
    done_by: Time | None
    says: str


class PreviewOut(Out):
    """What a rule would request."""

    now: list[UpcomingWindowOut] = Field(
        description="What would be planned at once, oldest first; at most 100 are shown."
    )
    now_total: int
    next: list[UpcomingWindowOut] = Field(
        description="Each connected account's next window (at most 100 are shown), and why it waits."
    )
    forecast: ForecastOut | None = Field(default=None, description="Null if nothing would be planned.")
    warnings: list[WarningOut] = Field(default_factory=list)
    checks: list[FedCheckOut] = Field(default_factory=list, description="Numbers that will be compared.")


class BackfillIn(Days):
    """The days to backfill: the windows that count as one of them, as in `GET /v1/runs`. A window that begins before
    the rule does is left out unless `from` lies before the rule's start, too."""

    first: Day = Field(alias="from")
    rerun: StrictBool = Field(default=False, description="Also request stored windows again, as new revisions.")
    dry_run: StrictBool = Field(default=False, description="Only return what would be planned.")

    def asked(self) -> Backfill:
        """The core's backfill. Raises BadInput."""
        until = self.end()
        if until is None:
            raise BadInput(FieldError("/to", "is missing: give it, or `through`"))
        if self.first >= until:
            where = "/to" if self.through is None else "/through"
            raise BadInput(
                FieldError(
                    where,
                    "must be later than `from`"
                    + (", which is not included" if self.through is None else ", or the same day"),
                )
            )
        return Backfill(self.first, until, self.rerun)


class BackfillOut(Out):
    """How many runs this plans; the work continues in the background."""

    planned: int
    retried: int
    rerun: int


class CoverageIn(PageIn, Days):
    """Which windows to show: those that count as one of these local dates, as in `GET /v1/runs`."""


class CoverageEntryOut(Out):
    """A window of a rule and its state."""

    connected_account: str | None
    window: WindowOut | None = Field(description="The interval in local dates; null while its end is not known.")
    interval_start: Time = Field(validation_alias="start")
    interval_end: Time | None = Field(validation_alias="end")
    partial: bool
    state: CoverageState
    run_id: uuid.UUID | None
    waiting: WaitingOut | None


@router.post("/preview")
async def preview_rule(settings: TheSettings, session: Session, asked: PreviewIn) -> PreviewOut:
    """What a rule, saved or not, would request now, and what comes next. Changes nothing; a read token is enough."""
    saved = await _saved(session, asked)
    wanted = _new_rule(asked.given()) if saved is None else asked.applied_to(store.values_of(saved))
    check(wanted, settings.accounts)
    found = await previews.preview(session, wanted, saved=None if saved is None else saved.id)
    (warnings,) = await store.warnings(session, [wanted])
    if found.manual_payouts:
        detail = f"manual payouts: {found.manual_payouts}; no report can itemize them, so they are left out"
        warnings.append(RuleWarning("/cadence", detail))
    shown = [WarningOut.model_validate(one) for one in warnings]
    fed = [FedCheckOut.model_validate(one) for one in await previews.fed_checks(session, wanted)]
    ahead = None
    if found.now_total:
        ahead = await forecasts.forecast(session, wanted.account, found.now_total, settings)
    return PreviewOut(
        now=[_dated(UpcomingWindowOut, one, wanted.timezone) for one in found.now],
        now_total=found.now_total,
        next=[_dated(UpcomingWindowOut, one, wanted.timezone) for one in found.next],
        forecast=None if ahead is None else ForecastOut.model_validate(ahead),
        warnings=shown,
        checks=fed,
    )


@router.post(
    "/{rule_id}/backfill", status_code=202, responses={200: {"model": BackfillOut, "description": "A dry run."}}
)
async def backfill_rule(
    res: Res, caller: CalledBy, rule_id: RuleRef, asked: BackfillIn, response: Response
) -> BackfillOut:
    """Plan what is missing on these days, and retry failed or cancelled runs; the rest continues in the background.
    A window belongs to its last local day, an `every_update` window to its first, a payout's to that of its arrival."""
    wanted = asked.asked()
    async with res.sessions.begin() as session:
        if asked.dry_run:
            response.status_code = 200
            counts = await backfill.count(session, await store.find(session, rule_id), wanted)
        else:
            saved, attempts = await store.find(session, rule_id, lock=True), res.settings.max_run_attempts
            counts = await backfill.begin(session, saved, wanted, attempts=attempts, by=caller.name)
    return BackfillOut.model_validate(counts)


@router.get("/{rule_id}/coverage")
async def show_coverage(
    session: Session, rule_id: RuleRef, asked: Annotated[CoverageIn, Query()], terms: Terms
) -> Page[CoverageEntryOut]:
    """Every window from the rule's start to now, newest first, with its state. A window belongs to its last local day,
    an `every_update` window to its first, a payout's to that of its arrival."""
    saved = await store.find(session, rule_id)
    after = None if asked.cursor is None else _place(asked.cursor)
    wanted = CoverageQuery(datetime.now(UTC), asked.first, asked.end(), after, asked.limit)
    found, more = await coverage.coverage(session, saved, wanted, terms)
    following = None if more is None else make_cursor("coverage", more.start.isoformat(), more.account)
    return Page(data=[_dated(CoverageEntryOut, one, saved.timezone) for one in found], next_cursor=following)


def _dated(shown: type[Shown], one: UpcomingWindow | CoverageEntry, timezone: str) -> Shown:
    """A window with its local dates."""
    dates = None if one.end is None else local_dates(one.start, one.end, timezone)
    return shown.model_validate({field.name: getattr(one, field.name) for field in fields(one)} | {"window": dates})


async def _saved(session: AsyncSession, asked: PreviewIn) -> Rule | None:
    if asked.rule_id is not None:
        return await store.get(session, asked.rule_id)
    return None if asked.rule is None else await store.find(session, asked.rule)


def _new_rule(given: dict[str, Any]) -> NewRule:
    """A rule that is not saved; only its name may be missing. Raises BadInput."""
    try:
        named = {ALIASES.get(name, name): value for name, value in given.items()}
        return RuleIn.model_validate({"name": "preview"} | named).as_new()
    except ValidationError as error:
        raise BadInput(*(FieldError(f"/{one['loc'][0]}", "is missing") for one in error.errors())) from error


def _place(cursor: str) -> Position:
    start, account = read_cursor("coverage", cursor, parts=2)
    return Position(read_time(start), account)
