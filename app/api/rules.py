"""Rules: create, show, change, remove; what a new or changed rule owes is planned with it."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import page_of, read_id_cursor
from app.api.openapi.document import CHANGED_MEANWHILE
from app.api.schemas.common import Page, PageIn
from app.api.schemas.rules import ChangedRuleOut, RuleChange, RuleIn, RuleOut, RuleRef, WarningOut
from app.db.models import Rule
from app.errors import PreconditionFailed
from app.rules import changes, store
from app.rules.changes import RuleEffect
from app.rules.rule import connected_of
from app.tables import leadership

router = APIRouter(prefix="/v1/rules", tags=["rules"])

IfMatch = Annotated[str | None, Header(description="The ETag of the version to change.")]


@router.get("")
async def list_rules(session: Session, asked: Annotated[PageIn, Query()]) -> Page[RuleOut]:
    """All rules, newest first."""
    query = select(Rule).where(Rule.deleted_at.is_(None)).order_by(Rule.id.desc()).limit(asked.limit + 1)
    if asked.cursor is not None:
        query = query.where(Rule.id < read_id_cursor("rules", asked.cursor))
    found = (await session.execute(query)).scalars().all()
    return page_of("rules", await _all_shown(session, found), asked.limit, lambda rule: [rule.id])


@router.post("", status_code=201)
async def create_rule(res: Res, caller: CalledBy, new: RuleIn, response: Response) -> ChangedRuleOut:
    """Create a rule; its due windows are planned at once, and `asks_for` says how many runs that makes."""
    async with res.sessions.begin() as session:
        rule, effect = await changes.create(session, new.as_new(), settings=res.settings, by=caller.name)
        answer = await _changed(session, rule, effect)
    response.headers["Location"] = f"/v1/rules/{answer.id}"
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.get("/{rule_id}")
async def show_rule(session: Session, rule_id: RuleRef, response: Response) -> RuleOut:
    """One rule, by its id or name."""
    answer = await _shown(session, await store.find(session, rule_id))
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.patch("/{rule_id}", responses=CHANGED_MEANWHILE)
async def change_rule(
    res: Res, caller: CalledBy, rule_id: RuleRef, change: RuleChange, *, response: Response, if_match: IfMatch = None
) -> ChangedRuleOut:
    """Change the given fields; the rule is planned at once. If nothing differs, the version stays the same."""
    async with res.sessions.begin() as session:
        saved = await store.find(session, rule_id, lock=True)
        _check_version(saved, if_match)
        wanted = change.applied_to(store.values_of(saved))
        effect = await changes.change(session, saved, wanted, settings=res.settings, by=caller.name)
        answer = await _changed(session, saved, effect)
    response.headers["ETag"] = _etag(answer.version)
    return answer


@router.delete("/{rule_id}", status_code=204, responses=CHANGED_MEANWHILE)
async def delete_rule(res: Res, caller: CalledBy, rule_id: RuleRef, if_match: IfMatch = None) -> None:
    """Remove a rule: its runs and files stay, but runs not requested yet are cancelled."""
    async with res.sessions.begin() as session:
        saved = await store.find(session, rule_id, lock=True)
        _check_version(saved, if_match)
        await changes.remove(session, saved, by=caller.name)


async def _shown(session: AsyncSession, rule: Rule) -> RuleOut:
    (answer,) = await _all_shown(session, [rule])
    return answer


async def _changed(session: AsyncSession, rule: Rule, effect: RuleEffect) -> ChangedRuleOut:
    shown = await _shown(session, rule)
    warnings = [*shown.warnings, *(WarningOut.model_validate(one) for one in effect.warnings)]
    return ChangedRuleOut(**dict(shown) | {"warnings": warnings, "asks_for": effect.asks_for})


async def _all_shown(session: AsyncSession, shown: Sequence[Rule]) -> list[RuleOut]:
    found = await store.warnings(session, [store.values_of(rule) for rule in shown])
    leading = await leadership.leading(session, [rule.id for rule in shown])
    return [
        RuleOut.model_validate(_values(rule, leads=rule.id in leading)).model_copy(
            update={"warnings": [WarningOut.model_validate(one) for one in warnings]}
        )
        for rule, warnings in zip(shown, found, strict=True)
    ]


def _values(rule: Rule, *, leads: bool) -> dict[str, object]:
    """A rule in an answer."""
    columns = {name: getattr(rule, name) for name in RuleOut.model_fields if name != "warnings"}
    connected = connected_of(rule)
    return columns | {"connected": connected, "table": {**rule.table, "leads": leads}}


def _etag(version: int) -> str:
    return f'"{version}"'


def _check_version(rule: Rule, if_match: str | None) -> None:
    if if_match is None or if_match.strip() == "*":
        return
    if _etag(rule.version) not in [tag.strip() for tag in if_match.split(",")]:
        raise PreconditionFailed(f"the rule is now at version {rule.version}: read it again, then decide")
