"""Rules: made, shown, changed and removed; what a new or changed rule owes is planned in the same transaction."""

import uuid
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import page_of, read_id_cursor
from app.api.http.problems import PreconditionFailed
from app.api.openapi.document import CHANGED_MEANWHILE
from app.api.schemas.common import Page, PageIn
from app.api.schemas.rules import RuleChange, RuleIn, RuleOut, WarningOut
from app.db.models import Rule
from app.rules import changes, store

router = APIRouter(prefix="/v1/rules", tags=["rules"])

IfMatch = Annotated[str | None, Header(description="The ETag of the version that is to be changed.")]


@router.get("")
async def list_rules(session: Session, asked: Annotated[PageIn, Query()]) -> Page[RuleOut]:
    """All rules, newest first."""
    query = select(Rule).where(Rule.deleted_at.is_(None)).order_by(Rule.id.desc()).limit(asked.limit + 1)
    if asked.cursor is not None:
        query = query.where(Rule.id < read_id_cursor("rules", asked.cursor))
    found = (await session.execute(query)).scalars().all()
    return page_of("rules", await _all_shown(session, found), asked.limit, lambda rule: [rule.id])


@router.post("", status_code=201)
async def create_rule(res: Res, caller: CalledBy, new: RuleIn, response: Response) -> RuleOut:
    """Make a rule; it is planned at once."""
    values = changes.checked(new.model_dump(), settings=res.settings)
    async with res.sessions.begin() as session:
        rule, _ = await changes.create(session, values, settings=res.settings, by=caller.name)
        answer = await _shown(session, rule)
    response.headers["Location"] = f"/v1/rules/{answer.id}"
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.get("/{rule_id:uuid}")
async def show_rule(session: Session, rule_id: uuid.UUID, response: Response) -> RuleOut:
    """One rule."""
    answer = await _shown(session, await store.get(session, rule_id))
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.patch("/{rule_id:uuid}", responses=CHANGED_MEANWHILE)
async def change_rule(
    res: Res, caller: CalledBy, rule_id: uuid.UUID, change: RuleChange, *, response: Response, if_match: IfMatch = None
) -> RuleOut:
    """Change what is given; it is planned at once. Without a difference nothing changes, the version neither."""
    async with res.sessions.begin() as session:
        rule = await store.get(session, rule_id, lock=True)
        _check_version(rule, if_match)
        await changes.change(session, rule, change.given(), settings=res.settings, by=caller.name)
        answer = await _shown(session, rule)
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.delete("/{rule_id:uuid}", status_code=204, responses=CHANGED_MEANWHILE)
async def delete_rule(res: Res, caller: CalledBy, rule_id: uuid.UUID, if_match: IfMatch = None) -> None:
    """Remove a rule: its runs and files stay, runs that were not requested yet are cancelled."""
    async with res.sessions.begin() as session:
        rule = await store.get(session, rule_id, lock=True)
        _check_version(rule, if_match)
        await changes.remove(session, rule, by=caller.name)


async def _shown(session: AsyncSession, rule: Rule) -> RuleOut:
    (answer,) = await _all_shown(session, [rule])
    return answer


async def _all_shown(session: AsyncSession, shown: Sequence[Rule]) -> list[RuleOut]:
    pairs = zip(shown, await store.warnings_of(session, shown), strict=True)
    return [
        RuleOut.model_validate(rule).model_copy(update={"warnings": [WarningOut.model_validate(one) for one in found]})
        for rule, found in pairs
    ]


def _etag(version: int) -> str:
    return f'"{version}"'


def _check_version(rule: Rule, if_match: str | None) -> None:
    if if_match is None or if_match.strip() == "*":
        return
    if _etag(rule.version) not in [tag.strip() for tag in if_match.split(",")]:
        raise PreconditionFailed(f"the rule is at version {rule.version} by now: read it again, then decide")
