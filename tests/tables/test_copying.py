"""What is written for COPY is what PostgreSQL reads."""

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.tables.copying import lines

# Everything that a report's value can contain; COPY's special characters more often than others.
VALUES = st.text(
    st.one_of(st.sampled_from("\\\t\n\r.Nnt,\"' \u2028"), st.characters(exclude_characters="\0", codec="utf-8"))
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20), first=st.integers(1, 2**40))
def test_every_value_comes_back_and_an_empty_one_as_null(
    copied: psycopg.Connection, rows: list[tuple[str, str]], first: int
) -> None:
    with copied.transaction(force_rollback=True):
        with copied.cursor().copy("copy copied from stdin") as copy:
            copy.write(lines(7, first, list(zip(*rows, strict=True)), len(rows)))
        found = copied.execute("select load_id, row_number, one, other from copied order by row_number").fetchall()

    assert found == [(7, first + place, one or None, other or None) for place, (one, other) in enumerate(rows)]


@pytest.fixture(name="copied")
def _copied(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create temp table copied (load_id bigint, row_number bigint, one text, other text)")
        yield connection
