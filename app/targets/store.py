"""Targets as rows: created, changed, removed, disabled. One that cannot work is refused here, with advice."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.models import Rule, Target
from app.db.names import naming
from app.db.rows import fetch_first
from app.errors import BadInput, Conflict, FieldError, NotFound
from app.ids import uuid7
from app.settings import Settings
from app.targets import recovery
from app.targets.check import NewTarget, check
from app.targets.deliveries import DeliveryClaim, Destination, DueMessage
from app.targets.messages import NewMessage, announce
from app.targets.signatures import derive_secret
from app.vocabulary import MessageType, TargetKind

# A target is disabled when everything has failed for days, and more than one message.
LEAST_MESSAGES = 3


async def get(session: AsyncSession, target_id: uuid.UUID, *, lock: bool = False) -> Target:
    """One target, on request locked until the transaction ends. Raises NotFound."""
    query = select(Target).where(Target.id == target_id, Target.deleted_at.is_(None))
    found = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"there is no target {target_id}: see GET /v1/targets")
    return found


async def read_all(session: AsyncSession, *, lock: bool = False) -> list[Target]:
    """Every target, by name; on request locked until the transaction ends."""
    query = select(Target).where(Target.deleted_at.is_(None)).order_by(Target.name, Target.id)
    query = query.execution_options(populate_existing=True)
    return list((await session.execute(query.with_for_update() if lock else query)).scalars())


async def create(session: AsyncSession, new: NewTarget, *, settings: Settings, by: str) -> Target:
    """Create a target. Raises BadInput, and Conflict when the name is taken."""
    check(new, settings)
    target = Target(id=uuid7(), **_columns(new))
    async with naming(session, "target", new.name):
        session.add(target)
    await audit.note(session, actor=by, action="target.created", subject=target.id, after=_columns(new))
    await session.refresh(target)
    return target


async def change(session: AsyncSession, target: Target, changed: NewTarget, *, settings: Settings, by: str) -> Target:
    """Give a locked target the values of `changed`. Raises BadInput, Conflict. Messages of a disabled target wait for
    `recover`."""
    if changed.kind != target.kind:
        raise Conflict(f"the kind of a target is fixed: remove {target.name!r} and create a new one")
    check(changed, settings)
    before, after = audit.differing({name: getattr(target, name) for name in _columns(changed)}, _columns(changed))
    if not after:
        return target
    async with naming(session, "target", changed.name):
        for name, value in after.items():
            setattr(target, name, value)
        target.version += 1
        target.updated_at = func.now()
        if "enabled" in after:
            target.disabled_reason = None if changed.enabled else f"disabled by {by}"
            target.failing_since = None
    if not changed.enabled:
        await recovery.skip_pending(session, target.id)
    await audit.note(session, actor=by, action="target.changed", subject=target.id, before=before, after=after)
    await session.refresh(target)
    return target


async def remove(session: AsyncSession, target: Target, *, by: str) -> None:
    """Remove a locked target; its deliveries can still be read, but nothing is sent any longer."""
    target.deleted_at = func.now()
    target.enabled = False
    await session.flush()
    await recovery.skip_pending(session, target.id)
    await audit.note(session, actor=by, action="target.deleted", subject=target.id, before={"name": target.name})


async def rotate(session: AsyncSession, target: Target, *, overlap: timedelta, by: str) -> None:
    """Give a locked target a new secret; the previous one stays valid for `overlap`."""
    _check_has_secret(target)
    target.secret_version += 1
    target.previous_until = func.clock_timestamp() + overlap
    target.version += 1
    target.updated_at = func.now()
    await session.flush()
    hours = overlap / timedelta(hours=1)
    await audit.note(session, actor=by, action="target.rotated", subject=target.id, after={"overlap_hours": hours})
    await session.refresh(target)


def secret_of(target: Target, settings: Settings) -> str:
    """The secret that a webhook target's receiver configures. Raises Conflict without TALLYHOOK_SIGNING_KEY."""
    _check_has_secret(target)
    if not settings.signing_key:
        raise Conflict("set TALLYHOOK_SIGNING_KEY: secrets are derived from it")
    return derive_secret(settings.signing_key[0].get_secret_value(), target.id, target.secret_version)


def as_it_is(target: Target) -> NewTarget:
    """A target's current values, as a basis for changes."""
    return NewTarget(
        target.name,
        TargetKind(target.kind),
        target.url,
        target.recipients,
        target.message_types,
        target.rule_ids,
        target.accounts,
        target.enabled,
    )


def ping_claim(target: Target) -> DeliveryClaim:
    """A `ping` for a target; it is not stored."""
    until = target.previous_until
    destination = Destination(
        target.id,
        target.name,
        target.kind,
        target.url,
        target.recipients,
        target.secret_version,
        previous_is_valid=until is not None and until > datetime.now(UTC),
    )
    data = {"text": "ping from Tallyhook", "target": {"id": str(target.id), "name": target.name}}
    ping = DueMessage(uuid7(), MessageType.PING, None, None, None, data, datetime.now(UTC), tries=0, fence=0)
    return DeliveryClaim(destination, [ping])


async def disable_if_hopeless(session: AsyncSession, target_id: uuid.UUID, *, is_gone: bool, after_days: float) -> None:
    """After a failure: disable a target that said 410, or whose every delivery failed for `after_days` (0: never)."""
    reason = None
    if is_gone:
        reason = "the receiver answered 410 Gone"
    elif after_days > 0:
        failing = await recovery.failing(session, target_id, days=after_days)
        if failing is not None and failing.messages >= LEAST_MESSAGES:
            reason = f"every delivery has failed since {failing.since:%F %T} UTC"
    if reason is not None:
        await _disable(session, target_id, reason)


@dataclass(frozen=True, slots=True)
class _Disabled:
    name: str
    version: int


async def _disable(session: AsyncSession, target_id: uuid.UUID, reason: str) -> None:
    changes = {"enabled": False, "disabled_reason": reason, "version": Target.version + 1, "updated_at": func.now()}
    query = update(Target).where(Target.id == target_id, Target.enabled).values(**changes)
    target = await fetch_first(session, _Disabled, query.returning(Target.name, Target.version))
    if target is None:
        return
    await recovery.skip_pending(session, target_id)
    data = {"target": {"id": str(target_id), "name": target.name}, "text": f"{target.name}: {reason}"}
    key = f"{MessageType.TARGET_DISABLED}/{target_id}/{target.version}"
    await announce(session, [NewMessage(MessageType.TARGET_DISABLED, data, key, subject=target.name)])
    await audit.note(session, actor="tallyhook", action="target.disabled", subject=target_id, after={"reason": reason})


async def rule_names(session: AsyncSession) -> dict[uuid.UUID, str]:
    """The names of all rules."""
    known = await session.execute(select(Rule.id, Rule.name).where(Rule.deleted_at.is_(None)))
    return dict(known.all())


async def find_rules(
    session: AsyncSession, given: Sequence[str], *, allowed: Sequence[uuid.UUID] = ()
) -> list[uuid.UUID]:
    """The ids of rules given by name or id. Raises BadInput that names unknown ones, unless they are `allowed`."""
    known = await rule_names(session)
    ids = {name: id_ for id_, name in known.items()} | {str(id_): id_ for id_ in [*known, *allowed]}
    missing = [
        FieldError(f"/rules/{index}", f"there is no rule {name!r}: see GET /v1/rules")
        for index, name in enumerate(given)
        if name not in ids
    ]
    if missing:
        raise BadInput(*missing)
    return sorted({ids[name] for name in given})


def _check_has_secret(target: Target) -> None:
    if target.kind != TargetKind.WEBHOOK:
        raise Conflict(f"{target.name!r} has no secret: it is of kind {target.kind}")


def _columns(new: NewTarget) -> dict[str, Any]:
    values = {field.name: getattr(new, field.name) for field in fields(new)}
    lists = {name: list(value) for name, value in values.items() if isinstance(value, list | tuple)}
    return {**values, **lists, "kind": new.kind.value}
