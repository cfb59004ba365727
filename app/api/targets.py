"""Targets: create, show, change, remove; test, rotate the secret, recover."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.api.as_code.apply_targets import as_new, check_accounts
from app.api.http.dependencies import CalledBy, Res, Session
from app.api.http.paging import page_of, read_id_cursor
from app.api.openapi.document import CHANGED_MEANWHILE
from app.api.schemas.common import Page, PageIn
from app.api.schemas.targets import (
    NewTargetOut,
    RecoveredOut,
    RecoverIn,
    RotateIn,
    SecretOut,
    TargetChange,
    TargetIn,
    TargetOut,
    TestOut,
)
from app.db.models import Target
from app.errors import BadInput, FieldError, PreconditionFailed
from app.targets import recovery, send, store
from app.targets.check import NewTarget
from app.vocabulary import TargetKind

router = APIRouter(prefix="/v1/targets", tags=["targets"])

IfMatch = Annotated[str | None, Header(description="The ETag of the version to change.")]


@router.get("")
async def list_targets(session: Session, asked: Annotated[PageIn, Query()]) -> Page[TargetOut]:
    """All targets, newest first."""
    query = select(Target).where(Target.deleted_at.is_(None)).order_by(Target.id.desc()).limit(asked.limit + 1)
    if asked.cursor is not None:
        query = query.where(Target.id < read_id_cursor("targets", asked.cursor))
    found = (await session.execute(query)).scalars().all()
    shown = [TargetOut.model_validate(target) for target in found]
    return page_of("targets", shown, asked.limit, lambda target: [target.id])


@router.post("", status_code=201)
async def create_target(res: Res, caller: CalledBy, new: TargetIn, response: Response) -> NewTargetOut:
    """Create a target. A webhook's `secret` is in the answer."""
    check_accounts(res, new.accounts)
    async with res.sessions.begin() as session:
        target = await store.create(session, await as_new(session, new), settings=res.settings, by=caller.name)
        shown = TargetOut.model_validate(target)
        secret = store.secret_of(target, res.settings) if target.kind == TargetKind.WEBHOOK else None
    response.headers["Location"] = f"/v1/targets/{shown.id}"
    response.headers["ETag"] = _etag(shown.version)
    return NewTargetOut(**shown.model_dump(by_alias=False), rule_ids=shown.rules, secret=secret)


@router.get("/{target_id:uuid}")
async def show_target(session: Session, target_id: uuid.UUID, response: Response) -> TargetOut:
    """One target."""
    target = TargetOut.model_validate(await store.get(session, target_id))
    response.headers["ETag"] = _etag(target.version)
    return target


@router.patch("/{target_id:uuid}", responses=CHANGED_MEANWHILE)
async def change_target(
    res: Res,
    caller: CalledBy,
    target_id: uuid.UUID,
    change: TargetChange,
    *,
    response: Response,
    if_match: IfMatch = None,
) -> TargetOut:
    """Change the given fields. After enabling a target again, `POST …/recover` sends what it missed."""
    if "accounts" in change.model_fields_set:
        check_accounts(res, change.accounts)
    async with res.sessions.begin() as session:
        target = await store.get(session, target_id, lock=True)
        _check_version(target, if_match)
        changed = await _changed(session, target, change)
        shown = TargetOut.model_validate(
            await store.change(session, target, changed, settings=res.settings, by=caller.name)
        )
    response.headers["ETag"] = _etag(shown.version)
    return shown


@router.delete("/{target_id:uuid}", status_code=204, responses=CHANGED_MEANWHILE)
async def delete_target(res: Res, caller: CalledBy, target_id: uuid.UUID, if_match: IfMatch = None) -> None:
    """Remove a target: nothing more is sent to it. Its deliveries can still be read."""
    async with res.sessions.begin() as session:
        target = await store.get(session, target_id, lock=True)
        _check_version(target, if_match)
        await store.remove(session, target, by=caller.name)


@router.post("/{target_id:uuid}/test")
async def test_target(res: Res, caller: CalledBy, target_id: uuid.UUID) -> TestOut:
    """Send a `ping` now, also to a disabled target, and show what it answered."""
    async with res.sessions.begin() as session:
        target = await store.get(session, target_id)
        await audit.note(session, actor=caller.name, action="target.tested", subject=target_id)
        claim = store.ping_claim(target)
    tried = (await send.attempt(res, claim)).recorded
    return TestOut(
        delivered=tried.delivered,
        status=tried.status,
        error=tried.error,
        milliseconds=tried.milliseconds,
        answer=tried.answer,
    )


@router.post("/{target_id:uuid}/rotate")
async def rotate_secret(res: Res, caller: CalledBy, target_id: uuid.UUID, asked: RotateIn | None = None) -> SecretOut:
    """Give a webhook target a new secret. Both sign until the overlap ends, so that the receiver can change over."""
    overlap = timedelta(hours=(asked or RotateIn()).overlap_hours)
    async with res.sessions.begin() as session:
        target = await store.get(session, target_id, lock=True)
        await store.rotate(session, target, overlap=overlap, by=caller.name)
        return SecretOut(secret=store.secret_of(target, res.settings))


@router.post("/{target_id:uuid}/secret")
async def show_secret(res: Res, caller: CalledBy, target_id: uuid.UUID) -> SecretOut:
    """The secret that the receiver verifies signatures with. Looking at it is noted in the audit log."""
    async with res.sessions.begin() as session:
        target = await store.get(session, target_id)
        secret = store.secret_of(target, res.settings)
        await audit.note(session, actor=caller.name, action="target.secret_shown", subject=target_id)
    return SecretOut(secret=secret)


@router.post("/{target_id:uuid}/recover", status_code=202)
async def recover_target(res: Res, caller: CalledBy, target_id: uuid.UUID, asked: RecoverIn) -> RecoveredOut:
    """Send again what failed or was skipped since the given time. 409 if the target is disabled."""
    async with res.sessions.begin() as session:
        await store.get(session, target_id)
        recovered = await recovery.recover(session, target_id, asked.since)
        after = {"since": asked.since, "messages": recovered}
        await audit.note(session, actor=caller.name, action="target.recovered", subject=target_id, after=after)
    return RecoveredOut(recovered=recovered)


async def _changed(session: AsyncSession, target: Target, change: TargetChange) -> NewTarget:
    given = {name: getattr(change, name) for name in change.model_fields_set}
    nulls = [name for name, value in given.items() if value is None and name not in ("url", "rules", "accounts")]
    if nulls:
        raise BadInput(*(FieldError(f"/{name}", "cannot be null; omit it to keep its value") for name in nulls))
    if "rules" in given:
        named = given.pop("rules")
        given["rule_ids"] = None if named is None else await store.find_rules(session, named)
    return replace(store.as_it_is(target), **given)


def _etag(version: int) -> str:
    return f'"{version}"'


def _check_version(target: Target, if_match: str | None) -> None:
    if if_match is None or if_match.strip() == "*":
        return
    if _etag(target.version) not in [tag.strip() for tag in if_match.split(",")]:
        raise PreconditionFailed(f"the target is now at version {target.version}: read it again, then decide")
