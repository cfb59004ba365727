"""Arrays packed in one pass: the server reads them as it reads the driver's own."""

import json
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db.arrays import bool_array, instant_array, text_array
from app.db.own_connection import OwnConnection
from app.resources import Resources

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
    async with OwnConnection(res.engine, seconds=60) as own:
        read = await own.execute("select to_json($1::text[]), to_json($2::bool[]), to_json($3::timestamptz[])", packed)
    assert [json.loads(read.get_value(0, column) or b"") for column in (0, 1)] == [texts, truths]
    shown = json.loads(read.get_value(0, 2) or b"")
    assert [text and datetime.fromisoformat(text) for text in shown] == instants


async def test_a_text_that_postgresql_cannot_hold_is_refused_as_from_a_list(res: Resources) -> None:
    async with OwnConnection(res.engine, seconds=60) as own:
        with pytest.raises(psycopg.DataError):
            await own.execute("select $1::text[]", [text_array(["a\0b"])])
