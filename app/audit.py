"""The audit log: who changed what, and when. One immutable row per write, in the transaction of the change."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic_core import to_jsonable_python
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import AuditEntry
from app.observability.logs import redact

Facts = Mapping[str, Any]


async def note(
    session: AsyncSession,
    *,
    actor: str,
    action: str,
    subject: UUID | int | str | None = None,
    before: Facts | None = None,
    after: Facts | None = None,
) -> None:
    """Insert an entry, in the session's transaction.

    `action` is past tense: `rule.changed`. `before` and `after` hold what differs; secrets in them are redacted.
    """
    values = {"actor": actor, "action": action, "subject": None if subject is None else str(subject)}
    await session.execute(insert(AuditEntry).values(**values, before=_clean(before), after=_clean(after)))


def differing(before: Facts, after: Facts) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that differ between two states, before and after."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


def _clean(facts: Facts | None) -> Any:
    return None if facts is None else _redacted(to_jsonable_python(facts))


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact(value)
        case dict():
            return {redact(name): _redacted(item) for name, item in value.items()}
        case list():
            return [_redacted(item) for item in value]
    return value
