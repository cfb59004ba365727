"""The rule that a list is asked for, by `rule_id` or by `rule`: its name, or its id."""

import uuid
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import BadInput, FieldError
from app.rules import store


class NamesRule(Protocol):
    """A request that may name a rule in either way."""

    @property
    def rule_id(self) -> uuid.UUID | None: ...
    @property
    def rule(self) -> str | None: ...


async def rule_id_of(session: AsyncSession, asked: NamesRule) -> uuid.UUID | None:
    """The id of the rule that is named, None where none is. Raises NotFound, and BadInput where both ways are used."""
    if asked.rule is None:
        return asked.rule_id
    if asked.rule_id is not None:
        raise BadInput(FieldError("/rule", "says the same as `rule_id`, another way: give one of them"))
    return (await store.find(session, asked.rule)).id
