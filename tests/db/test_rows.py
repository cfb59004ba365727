"""A statement ends in a typed row."""

from dataclasses import dataclass

import pytest
from sqlalchemy import text

from app.db.rows import fetch, fetch_first, fetch_one
from app.resources import Resources


@dataclass(frozen=True, slots=True)
class Numbered:
    number: int
    name: str


async def test_every_row_is_a_value_with_the_columns_by_name(res: Resources) -> None:
    query = text("select name, number from (values ('one', 1), ('two', 2)) as v(name, number) where number <= :most")

    async with res.sessions.begin() as session:
        assert await fetch(session, Numbered, query, {"most": 2}) == [Numbered(1, "one"), Numbered(2, "two")]
        assert await fetch_one(session, Numbered, query, {"most": 1}) == Numbered(1, "one")
        assert await fetch_first(session, Numbered, query, {"most": 0}) is None


async def test_a_column_that_the_row_does_not_know_is_an_error(res: Resources) -> None:
    async with res.sessions.begin() as session:
        with pytest.raises(TypeError, match="other"):
            await fetch(session, Numbered, text("select 1 as number, 'x' as name, 2 as other"))
