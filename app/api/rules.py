"""Rules: made, shown, changed and removed; what a new or changed rule owes is planned in the same transaction."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import rules, timetable
from app.api.deps import Res, Session
from app.api.paging import PageIn, make_cursor, read_id_cursor
from app.api.problems import PreconditionFailed
from app.api.rule_schemas import RuleChange, RuleIn, RuleOut, WarningOut
from app.api.schemas import Page
from app.db.models import ReportType, Rule
from app.resources import Resources
from app.runs import rows, schedule
from app.vocabulary import RunState

router = APIRouter(prefix="/v1/rules", tags=["rules"])

IfMatch = Annotated[str | None, Header(description="The ETag of the version that is to be changed.")]


@router.get("")
async def list_rules(session: Session, asked: Annotated[PageIn, Query()]) -> Page[RuleOut]:
    """All rules, newest first."""
    query = select(Rule).where(Rule.deleted_at.is_(None)).order_by(Rule.id.desc()).limit(asked.limit + 1)
    if asked.cursor is not None:
        query = query.where(Rule.id < read_id_cursor("rules", asked.cursor))
    found = (await session.execute(query)).scalars().all()
    shown = found[: asked.limit]
    more = make_cursor("rules", str(shown[-1].id)) if len(found) > len(shown) else None
    return Page(data=[await _shown(session, rule) for rule in shown], next_cursor=more)


@router.post("", status_code=201)
async def create_rule(res: Res, new: RuleIn, response: Response) -> RuleOut:
    """Make a rule; it is planned at once."""
    values = checked(new.model_dump(), res)
    async with res.sessions.begin() as session:
        rule = await rules.create(session, values)
        await _plan(res, session, rule)
        answer = await _shown(session, rule)
    response.headers["Location"] = f"/v1/rules/{answer.id}"
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.get("/{rule_id}")
async def show_rule(session: Session, rule_id: uuid.UUID, response: Response) -> RuleOut:
    """One rule."""
    answer = await _shown(session, await rules.get(session, rule_id))
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.patch("/{rule_id}")
async def change_rule(
    res: Res, rule_id: uuid.UUID, change: RuleChange, response: Response, if_match: IfMatch = None
) -> RuleOut:
    """Change what is given; it is planned at once. Without a difference nothing changes, the version neither."""
    given = change.given()
    async with res.sessions.begin() as session:
        rule = await rules.get(session, rule_id, lock=True)
        _check_version(rule, if_match)
        # A rule whose account is not configured any more can still be disabled, or moved.
        rules.check(values_of(rule) | given, [*res.settings.accounts, *({rule.account} - {change.account})])
        cut_off = await rules.change(session, rule, given)
        await _cancel(session, cut_off, "its connected account was taken out of the rule")
        await _plan(res, session, rule)
        answer = await _shown(session, rule)
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.delete("/{rule_id}", status_code=204)
async def delete_rule(res: Res, rule_id: uuid.UUID, if_match: IfMatch = None) -> None:
    """Remove a rule: its runs and files stay, runs that were not requested yet are cancelled."""
    async with res.sessions.begin() as session:
        rule = await rules.get(session, rule_id, lock=True)
        _check_version(rule, if_match)
        await _cancel(session, await rules.remove(session, rule), "the rule was deleted")


def values_of(rule: Rule) -> dict[str, Any]:
    """What a rule says, as `rules.check` and a change take it."""
    return {name: getattr(rule, name) for name in RuleIn.model_fields}


def checked(values: Mapping[str, Any], res: Resources) -> dict[str, Any]:
    """A rule's values, checked, and whole: without a start it begins today, in its own zone. Raises BadInput."""
    rules.check(values, list(res.settings.accounts))
    today = datetime.now(ZoneInfo(values["timezone"])).date()
    return {**values, "starts_on": values["starts_on"] or today}


async def _plan(res: Resources, session: AsyncSession, rule: Rule) -> None:
    """Plan what is due; of a type that is not known, or has no data, Stripe is asked soon."""
    known = select(ReportType.data_available_end).where(
        ReportType.account == rule.account, ReportType.id == rule.report_type
    )
    if (await session.execute(known)).scalar_one_or_none() is None:
        await timetable.make_due(session, "reconcile")
    await schedule.plan_report_type(session, rule.account, rule.report_type, settings=res.settings, rule_id=rule.id)


async def _cancel(session: AsyncSession, run_ids: Sequence[uuid.UUID], reason: str) -> None:
    for run_id in run_ids:
        await rows.move(session, run_id, to=RunState.CANCELLED, reason=reason, sources=(RunState.PLANNED,))


async def _shown(session: AsyncSession, rule: Rule) -> RuleOut:
    answer = RuleOut.model_validate(rule)
    found = [WarningOut.model_validate(one) for one in await rules.warnings(session, rule)]
    return answer.model_copy(update={"warnings": found})


def _etag(version: int) -> str:
    return f'"{version}"'


def _check_version(rule: Rule, if_match: str | None) -> None:
    if if_match is None or if_match.strip() == "*":
        return
    if _etag(rule.version) not in [tag.strip() for tag in if_match.split(",")]:
        raise PreconditionFailed(f"the rule is at version {rule.version} by now: read it again, then decide")
