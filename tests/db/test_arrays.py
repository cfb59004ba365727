"""Arrays that are packed in one pass: the server reads them as it reads the driver's own."""

from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db.arrays import bool_array, instant_array, text_array
from app.db.engine import libpq_conninfo
from app.resources import Resources
from tests.runs.stories import database_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
INSTANTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])).filter(
    lambda instant: 1 < instant.year < 9999
)


@given(
    texts=st.lists(st.none() | TEXTS, max_size=8),
    truths=st.lists(st.none() | st.booleans(), max_size=8),
    instants=st.lists(st.none() | INSTANTS, max_size=8),
)
async def test_what_is_packed_is_what_the_server_reads(
    res: Resources, texts: list[str | None], truths: list[bool | None], instants: list[datetime | None]
) -> None:
    packed = (text_array(texts), bool_array(truths), instant_array(instants))
    async with await psycopg.AsyncConnection.connect(libpq_conninfo(database_of(res))) as connection:
        same = await connection.execute(
            "select %s is not distinct from %s::text[], %s is not distinct from %s::bool[],"
            " %s is not distinct from %s::timestamptz[]",
            (packed[0], texts, packed[1], truths, packed[2], instants),
        )
        assert await same.fetchone() == (True, True, True)


async def test_a_text_that_postgresql_cannot_hold_is_refused_as_from_a_list(res: Resources) -> None:
    async with await psycopg.AsyncConnection.connect(libpq_conninfo(database_of(res))) as connection:
        with pytest.raises(psycopg.DataError):
            await connection.execute("select %s", (text_array(["a\0b"]),))
