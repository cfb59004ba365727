"""The rule that a list is filtered by: `rule_id`, or `rule` with its name or id."""

import uuid
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import BadInput, FieldError
from app.rules import store


class NamesRule(Protocol):
    """A request that may name a rule either way."""

    @property
    def rule_id(self) -> uuid.UUID | None: ...
    @property
    def rule(self) -> str | None: ...


async def rule_id_of(session: AsyncSession, asked: NamesRule) -> uuid.UUID | None:
    """The id of the named rule, None if there is none. Raises NotFound, and BadInput if both ways are used."""
    if asked.rule is None:
        return asked.rule_id
    if asked.rule_id is not None:
        raise BadInput(FieldError("/rule", "means the same as `rule_id`: give one of them"))
    return (await store.find(session, asked.rule)).id
