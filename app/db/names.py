"""Names that only one row may have."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.errors import is_taken
from app.errors import Conflict


@asynccontextmanager
async def naming(session: AsyncSession, kind: str, name: str) -> AsyncIterator[None]:
    """Around the statement that gives a row its name. Raises Conflict if another has it; the transaction stays usable.

    The unique index decides: callers who are limited to some accounts do not see all rows.
    """
    try:
        async with session.begin_nested():
            yield
            await session.flush()
    except IntegrityError as error:
        if not is_taken(error):
            raise
        raise Conflict(f"a {kind} named {name!r} already exists: names are unique across all accounts") from error
