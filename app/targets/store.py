"""Targets as rows: made, changed, removed, disabled; what cannot work is refused here, with what to do about it."""

import ipaddress
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.models import Rule, Target
from app.errors import BadInput, Conflict, FieldError, NotFound
from app.ids import uuid7
from app.settings import Settings
from app.targets import deliveries, guard
from app.targets.deliveries import DeliveryClaim, Destination, DueMessage
from app.targets.messages import NewMessage, announce
from app.targets.signatures import derive_secret
from app.vocabulary import MessageType, TargetKind

# A target is disabled when everything failed for days, and that was not just one message.
LEAST_MESSAGES = 3
_LOCAL_NAMES = ("localhost", "localhost.localdomain")


@dataclass(frozen=True, slots=True)
class NewTarget:
    """A target as it is asked for. `rule_ids` and `accounts`: None means all."""

    name: str
    kind: TargetKind
    url: str | None
    recipients: Sequence[str]
    message_types: Sequence[str]
    rule_ids: Sequence[uuid.UUID] | None
    accounts: Sequence[str] | None
    enabled: bool = True


async def get(session: AsyncSession, target_id: uuid.UUID, *, lock: bool = False) -> Target:
    """One target, locked until the transaction ends where asked. Raises NotFound."""
    query = select(Target).where(Target.id == target_id, Target.deleted_at.is_(None))
    found = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"there is no target {target_id}: see GET /v1/targets")
    return found


async def create(session: AsyncSession, new: NewTarget, *, settings: Settings, by: str) -> Target:
    """Make a target. Raises BadInput, and Conflict when the name is taken."""
    check(new, settings)
    target = Target(id=uuid7(), **_columns(new))
    session.add(target)
    await _flush(session, new.name)
    await audit.note(session, actor=by, action="target.created", subject=target.id, after=_columns(new))
    await session.refresh(target)
    return target


async def change(session: AsyncSession, target: Target, changed: NewTarget, *, settings: Settings, by: str) -> Target:
    """Make a locked target what `changed` says. Raises BadInput, Conflict. What is disabled now waits for `recover`."""
    if changed.kind != target.kind:
        raise Conflict(f"the kind of a target is fixed: remove {target.name!r} and make a new one")
    check(changed, settings)
    before, after = audit.differing({name: getattr(target, name) for name in _columns(changed)}, _columns(changed))
    if not after:
        return target
    for name, value in after.items():
        setattr(target, name, value)
    target.version += 1
    target.updated_at = func.now()
    if "enabled" in after:
        target.disabled_reason = None if changed.enabled else f"disabled by {by}"
        target.failing_since = None
    await _flush(session, changed.name)
    if not changed.enabled:
        await deliveries.skip_pending(session, target.id)
    await audit.note(session, actor=by, action="target.changed", subject=target.id, before=before, after=after)
    await session.refresh(target)
    return target


async def remove(session: AsyncSession, target: Target, *, by: str) -> None:
    """Remove a locked target; its deliveries stay to be read, and none goes out any more."""
    target.deleted_at = func.now()
    target.enabled = False
    await session.flush()
    await deliveries.skip_pending(session, target.id)
    await audit.note(session, actor=by, action="target.deleted", subject=target.id, before={"name": target.name})


async def rotate(session: AsyncSession, target: Target, *, overlap: timedelta, by: str) -> None:
    """Give a locked target a new secret; the one before stays valid for `overlap`."""
    _check_has_secret(target)
    target.secret_version += 1
    target.previous_until = func.now() + overlap
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
    """A target's present values, to change some of them."""
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
    """A `ping` for a target, which is kept nowhere."""
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
    else:
        failing = await deliveries.failing(session, target_id)
        if failing is not None and 0 < after_days <= failing.days and failing.messages >= LEAST_MESSAGES:
            reason = f"every delivery has failed since {failing.since:%F %T} UTC"
    if reason is not None:
        await _disable(session, target_id, reason)


async def _disable(session: AsyncSession, target_id: uuid.UUID, reason: str) -> None:
    changes = {"enabled": False, "disabled_reason": reason, "version": Target.version + 1, "updated_at": func.now()}
    query = update(Target).where(Target.id == target_id, Target.enabled).values(**changes)
    target = (await session.execute(query.returning(Target.name, Target.version))).one_or_none()
    if target is None:
        return
    await deliveries.skip_pending(session, target_id)
    data = {"target": {"id": str(target_id), "name": target.name}, "text": f"{target.name}: {reason}"}
    key = f"{MessageType.TARGET_DISABLED}/{target_id}/{target.version}"
    await announce(session, [NewMessage(MessageType.TARGET_DISABLED, data, key, subject=target.name)])
    await audit.note(session, actor="tallyhook", action="target.disabled", subject=target_id, after={"reason": reason})


async def find_rules(session: AsyncSession, given: Sequence[str]) -> list[uuid.UUID]:
    """The ids of rules given by name or id. Raises BadInput that names what is not there."""
    known = (await session.execute(select(Rule.id, Rule.name).where(Rule.deleted_at.is_(None)))).all()
    ids = {row.name: row.id for row in known} | {str(row.id): row.id for row in known}
    missing = [(index, name) for index, name in enumerate(given) if name not in ids]
    if missing:
        raise BadInput(*(FieldError(f"/rules/{index}", f"there is no rule {name!r}") for index, name in missing))
    return sorted({ids[name] for name in given})


def check(new: NewTarget, settings: Settings) -> None:
    """Whether a target can work. Raises BadInput."""
    problems = [*_CHECKS[new.kind](new, settings), *_unknown_types(new), *_unknown_accounts(new, settings)]
    if problems:
        raise BadInput(*problems)


def _webhook_problems(new: NewTarget, settings: Settings) -> list[FieldError]:
    problems = [FieldError("/recipients", "are for e-mail")] if new.recipients else []
    if not settings.signing_key:
        problems.append(FieldError("/kind", "webhooks are signed: set TALLYHOOK_SIGNING_KEY first"))
    return [*problems, *url_problems(new.url, settings)]


def url_problems(url: str | None, settings: Settings) -> list[FieldError]:
    """What is wrong with the URL of a webhook, as far as can be told without resolving its name."""
    try:
        parts = urlsplit(url or "")
        host, port = parts.hostname, parts.port
    except ValueError:
        return [FieldError("/url", "cannot be read: write it like https://host/path")]
    if parts.scheme not in ("http", "https") or not host or port == 0 or re.search(r"[\s\x00-\x1f]", url or ""):
        return [FieldError("/url", "has to be https://host/path")]
    if parts.username or parts.password:
        return [FieldError("/url", "must not hold a user or password: targets are signed instead")]
    problems = []
    address = _address_in(host)
    opened = address is not None and guard.is_inside(address, settings.target_networks)
    is_local = host.rstrip(".").lower() in _LOCAL_NAMES and not settings.target_networks
    if settings.target_proxy is None and (
        is_local or (address is not None and not opened and not guard.is_public(address))
    ):
        problems.append(FieldError("/url", f"{host} is not a public address: see TALLYHOOK_TARGET_NETWORKS"))
    elif parts.scheme == "http" and not settings.target_networks:
        problems.append(
            FieldError("/url", "has to be https: http is for networks that TALLYHOOK_TARGET_NETWORKS opens")
        )
    return problems


def _address_in(host: str) -> guard.Address | None:
    """The address that a host spells, also in the short forms that libc takes (127.1, 2130706433, 0x7f.1)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    parts = host.rstrip(".").split(".")
    if len(parts) > 4 or not all(re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", part) for part in parts):
        return None
    try:
        numbers = [int(part, 16 if part[:2].lower() == "0x" else 8 if part[0] == "0" and part != "0" else 10)
                   for part in parts]  # fmt: skip
    except ValueError:
        return None
    *heads, last = numbers
    value = sum(head << (24 - 8 * place) for place, head in enumerate(heads)) + last
    return ipaddress.IPv4Address(value) if value < 2**32 else None


def _email_problems(new: NewTarget, settings: Settings) -> list[FieldError]:
    problems = []
    if settings.smtp_url is None or settings.mail_from is None:
        problems.append(FieldError("/kind", "e-mail needs TALLYHOOK_SMTP_URL and TALLYHOOK_MAIL_FROM"))
    if new.url is not None:
        problems.append(FieldError("/url", "e-mail goes to `recipients`"))
    if not new.recipients:
        problems.append(FieldError("/recipients", "name at least one address"))
    for index, recipient in enumerate(new.recipients):
        if not re.fullmatch(r"[^\s@<>,;\"]+@[^\s@<>,;\"]+", recipient):
            problems.append(FieldError(f"/recipients/{index}", "has to be an address like books@example.com"))
    return problems


def _slack_problems(new: NewTarget, settings: Settings) -> list[FieldError]:
    problems = [FieldError("/recipients", "are for e-mail")] if new.recipients else []
    known = sorted(settings.slack_urls)
    if new.url not in settings.slack_urls:
        names = ", ".join(known) if known else "none yet"
        problems.append(FieldError("/url", f"has to be the name of one of TALLYHOOK_SLACK_URLS ({names})"))
    return problems


def _folder_problems(new: NewTarget, settings: Settings) -> list[FieldError]:
    problems = [FieldError("/recipients", "are for e-mail")] if new.recipients else []
    url = (new.url or "").rstrip("/")
    allowed = [folder.rstrip("/") for folder in settings.target_folders]
    if ".." in url.split("/") or not any(url == folder or url.startswith(f"{folder}/") for folder in allowed):
        shown = ", ".join(allowed) if allowed else "none: set it first"
        problems.append(FieldError("/url", f"has to lie below one of TALLYHOOK_TARGET_FOLDERS ({shown})"))
    return problems


_CHECKS = {
    TargetKind.WEBHOOK: _webhook_problems,
    TargetKind.EMAIL: _email_problems,
    TargetKind.SLACK: _slack_problems,
    TargetKind.FOLDER: _folder_problems,
}


def _unknown_types(new: NewTarget) -> list[FieldError]:
    known = {"*", *(type_.value for type_ in MessageType)}
    return [
        FieldError(f"/message_types/{index}", f"{name!r} is not a message type: see GET /v1/message-types")
        for index, name in enumerate(new.message_types)
        if name not in known
    ]


def _unknown_accounts(new: NewTarget, settings: Settings) -> list[FieldError]:
    return [
        FieldError(f"/accounts/{index}", f"{slug!r} is not configured")
        for index, slug in enumerate(new.accounts or ())
        if slug not in settings.accounts
    ]


def _check_has_secret(target: Target) -> None:
    if target.kind != TargetKind.WEBHOOK:
        raise Conflict(f"{target.name!r} has no secret: it is of kind {target.kind}")


def _columns(new: NewTarget) -> dict[str, Any]:
    values = {field.name: getattr(new, field.name) for field in fields(new)}
    lists = {name: list(value) for name, value in values.items() if isinstance(value, list | tuple)}
    return {**values, **lists, "kind": new.kind.value}


async def _flush(session: AsyncSession, name: str) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        raise Conflict(f"there is a target {name!r} already") from error
