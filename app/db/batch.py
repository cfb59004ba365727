"""Several statements in one round trip, by the driver itself: for the work of every run.

SQLAlchemy takes a tenth of a millisecond for a statement, and waits for its answer before it sends the next one.
Statements that do not depend on an earlier answer are sent together (libpq's pipeline), in the session's transaction.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from psycopg.rows import dict_row
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import is_direct, raw_connection

T = TypeVar("T")


class Answer:
    """The rows of one statement of a batch, once the batch was sent."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] | None = None

    def keep(self, rows: list[dict[str, Any]]) -> None:
        """The rows have arrived."""
        self._rows = rows

    def __len__(self) -> int:
        return len(self.mappings())

    def mappings(self) -> list[dict[str, Any]]:
        """The rows by column."""
        if self._rows is None:
            raise RuntimeError("send the batch first")
        return self._rows

    def rows(self, row: type[T]) -> list[T]:
        """The rows, typed: a column without a field, or the reverse, is a TypeError."""
        return [row(**found) for found in self.mappings()]

    def scalars(self) -> list[Any]:
        """The first column of each row."""
        return [next(iter(found.values())) for found in self.mappings()]


class Batch:
    """Statements (`text()` without types) of one transaction that are sent together, in their order.

    An error of one is raised by `send`, as the driver's own (`psycopg.Error`), and those after it have no effect.
    """

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self._added: list[tuple[str, Mapping[str, Any], Answer]] = []

    def add(self, statement: TextClause, values: Mapping[str, Any]) -> Answer:
        """One more statement; its rows are in the answer after `send`."""
        answer = Answer()
        self._added.append((_as_driver_takes_it(statement), values, answer))
        return answer

    async def send(self) -> None:
        """Send what was added since the last `send`, and wait for all answers."""
        added, self._added = self._added, []
        if not added:
            return
        async with raw_connection(self.session) as raw:
            if len(added) > 1 and is_direct(raw):
                async with raw.pipeline():
                    cursors = [await _execute(raw, statement, values) for statement, values, _ in added]
                for cursor, (_, _, answer) in zip(cursors, added, strict=True):
                    await _take(cursor, answer)
                return
            for statement, values, answer in added:
                await _take(await _execute(raw, statement, values), answer)


async def fetch_by_driver(
    session: AsyncSession, row: type[T], statement: TextClause, values: Mapping[str, Any]
) -> list[T]:
    """All rows of one statement, as `db.rows.fetch` returns them: for the few statements that each report waits for."""
    return (await answer_by_driver(session, statement, values)).rows(row)


async def answer_by_driver(session: AsyncSession, statement: TextClause, values: Mapping[str, Any]) -> Answer:
    """The answer to one statement."""
    batch = Batch(session)
    answer = batch.add(statement, values)
    await batch.send()
    return answer


async def _execute(raw: Any, statement: str, values: Mapping[str, Any]) -> Any:
    return await raw.cursor(row_factory=dict_row).execute(statement, values)


async def _take(cursor: Any, answer: Answer) -> None:
    answer.keep(await cursor.fetchall() if cursor.description else [])


@cache
def _as_driver_takes_it(statement: TextClause) -> str:
    return str(statement.compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call]
