"""The list of rules: as many queries for many rules as for one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from sqlalchemy import event

from app.resources import Resources
from tests.service import add_rule


@contextmanager
def statements(res: Resources) -> Iterator[list[str]]:
    """The statements sent to the database meanwhile."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(res.engine.sync_engine, "before_cursor_execute", note)
    yield asked
    event.remove(res.engine.sync_engine, "before_cursor_execute", note)


async def test_any_number_of_rules_with_their_warnings_costs_four_queries(
    res: Resources, api: httpx.AsyncClient
) -> None:
    for number in range(5):
        await add_rule(res, name=f"rule {number}", report_type=f"no.such.{number % 2 + 1}")

    with statements(res) as asked:
        answer = await api.get("/v1/rules")

    assert len(asked) == 4
    assert [len(rule["warnings"]) for rule in answer.json()["data"]] == [1] * 5
