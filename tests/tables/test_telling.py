"""Targets are notified when numbers differ and when a report's columns change, and only then."""

from app.resources import Resources
from tests.service import execute, fetch
from tests.tables.stored import HEADER, day, line, load_all, rows, rule, stored_and_loaded


async def told(res: Resources) -> list[tuple[str, str]]:
    found = await fetch(res, "select type, data ->> 'text' as text from messages order by id")
    return [(row["type"], row["text"]) for row in found]


async def test_a_difference_and_a_new_column_are_announced_once(tables: Resources) -> None:
    await execute(
        tables,
        "insert into targets (id, name, kind, url, recipients, message_types, enabled) values"
        " (gen_random_uuid(), 'ledger', 'slack', 'https://example.test', '{}', '{*}', true)",
    )
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    assert await told(tables) == []

    await stored_and_loaded(tables, rows("txn_2,,usd,10.00,1.00,9.50,charge"), rule_id=rule_id, start=day(2))
    await stored_and_loaded(tables, rows(line(3) + ",x", header=HEADER + ",charge_id"), rule_id=rule_id, start=day(3))
    await execute(tables, "update loads set checks_due = true")
    await load_all(tables)

    assert await told(tables) == [
        ("check.differs", "row_net usd differs by 0.50"),
        ("columns.changed", "daily: a new column, charge_id"),
    ]
