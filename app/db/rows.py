"""A statement ends in a typed row: a frozen dataclass whose fields are the statement's columns, by name."""

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

T = TypeVar("T")


async def fetch(
    session: AsyncSession | AsyncConnection,
    row: type[T],
    statement: Executable,
    values: Mapping[str, Any] | None = None,
) -> list[T]:
    """All rows of the statement. A column without a field, or the reverse, is a TypeError."""
    return [row(**found) for found in (await session.execute(statement, values)).mappings()]


async def fetch_one(
    session: AsyncSession | AsyncConnection,
    row: type[T],
    statement: Executable,
    values: Mapping[str, Any] | None = None,
) -> T:
    """The one row of the statement; raises SQLAlchemy's NoResultFound or MultipleResultsFound."""
    return row(**(await session.execute(statement, values)).mappings().one())


async def fetch_first(
    session: AsyncSession | AsyncConnection,
    row: type[T],
    statement: Executable,
    values: Mapping[str, Any] | None = None,
) -> T | None:
    """The first row of the statement, if there is one."""
    found = (await session.execute(statement, values)).mappings().first()
    return None if found is None else row(**found)
