"""A stored file becomes rows that views show: whole, once, and never a part of it."""

from app.resources import Resources
from tests.service import fetch
from tests.tables.stored import line, rows, rule, stored_and_loaded


async def test_a_stored_file_is_rows_in_a_view_with_where_they_come_from(tables: Resources) -> None:
    load = await stored_and_loaded(tables, rows(line(1), line(2, "-3.50")), rule_id=await rule(tables))

    assert (load["state"], load["rows"], load["error"]) == ("loaded", 2, None)
    found = await fetch(tables, "select * from reports.balance_change_from_activity_itemized order by _row")
    assert [
        (row["_rule"], row["_revision"], row["_row"], row["balance_transaction_id"], str(row["net"])) for row in found
    ] == [
        ("daily", 1, 1, "txn_1", "9.00"),
        ("daily", 1, 2, "txn_2", "-3.50"),
    ]
