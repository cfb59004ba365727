"""Requesting a report again, days later: an unchanged one leaves no file, a different one is a new revision."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from app.files import FileStore
from app.resources import Resources
from app.rules.rechecks import plan_rechecks
from app.simulator import Simulator
from app.tables.comparing import rows_digest
from tests.service import REPORT_TYPE, add_rule, at, execute, fetch, unpublished, work_off
from tests.tables.stored import load_all


async def stored_days_ago(res: Resources, days: int) -> None:
    """As if all that is stored had been for so long, and the rule had said so before."""
    await execute(res, "update runs set stored_at = now() - make_interval(days => :days)", days=days)
    await execute(res, "update rules set updated_at = now() - interval '90 days'")


async def runs(res: Resources) -> list[tuple[int, str, bool]]:
    found = await fetch(res, "select revision, state, recheck from runs order by revision")
    return [(row["revision"], row["state"], row["recheck"]) for row in found]


async def one_stored_window(res: Resources, simulator: Simulator, **rule: object) -> None:
    unpublished(simulator, REPORT_TYPE, until="2026-03-02")
    await add_rule(res, name="checked", recheck_days=[3, 30], **rule)
    await work_off(res)


async def test_an_unchanged_report_ends_without_a_file_and_is_requested_again_on_the_next_day_only(
    tables: Resources, simulator: Simulator
) -> None:
    await one_stored_window(tables, simulator)
    assert await plan_rechecks(tables) is False
    assert await runs(tables) == [(1, "stored", False)]

    await stored_days_ago(tables, 4)
    await plan_rechecks(tables)
    await plan_rechecks(tables)
    await work_off(tables)
    await plan_rechecks(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True)]
    (move,) = await fetch(tables, "select reason from run_moves where to_state = 'cancelled'")
    assert move["reason"] == "unchanged"
    assert len(await fetch(tables, "select 1 from files")) == 1

    await stored_days_ago(tables, 31)
    await plan_rechecks(tables)
    await work_off(tables)
    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True), (3, "cancelled", True)]


async def test_what_differs_is_a_new_revision_and_shows(tables: Resources, simulator: Simulator) -> None:
    await one_stored_window(tables, simulator)
    await load_all(tables)
    await stored_days_ago(tables, 4)
    simulator.restate(at("2026-03-01"), at("2026-03-02"))

    await plan_rechecks(tables)
    await work_off(tables)
    await load_all(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "stored", True)]
    (diff,) = await fetch(tables, "select added + removed + changed as rows from diffs")
    assert diff["rows"] > 0
    shown = await fetch(tables, "select distinct _revision from reports.balance_change_from_activity_itemized")
    assert [row["_revision"] for row in shown] == [2]


async def test_days_that_had_passed_when_the_rule_said_so_are_not_made_up_for(
    tables: Resources, simulator: Simulator
) -> None:
    await one_stored_window(tables, simulator, starts_on=date(2026, 3, 1))
    await execute(tables, "update runs set stored_at = now() - interval '40 days'")

    await plan_rechecks(tables)

    assert await runs(tables) == [(1, "stored", False)]


@pytest.mark.parametrize("store", ["database", "file"])
async def test_the_same_rows_in_other_bytes_are_unchanged_where_there_is_a_table(
    tables: Resources, simulator: Simulator, store: str, tmp_path: Path
) -> None:
    if store == "file":
        tables = replace(tables, files=FileStore(tables.sessions, f"file://{tmp_path}"))
    await one_stored_window(tables, simulator)
    await load_all(tables)
    await stored_days_ago(tables, 4)
    simulator.inject("report_unquoted")
    simulator.inject("report_bom")

    await plan_rechecks(tables)
    await work_off(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True)]
    assert len(await fetch(tables, "select 1 from files")) == 1


async def test_other_bytes_are_a_new_revision_where_there_is_no_table(tables: Resources, simulator: Simulator) -> None:
    await one_stored_window(tables, simulator)
    await stored_days_ago(tables, 4)
    simulator.inject("report_unquoted")

    await plan_rechecks(tables)
    await work_off(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "stored", True)]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (b"b,a\n2,1\n4,3\n", True),  # columns in another order
        (b"a,b\n3,4\n1,2\n", True),  # rows in another order
        (b'\xef\xbb\xbf"a","b"\r\n"1","2"\r\n"3","4"\r\n', True),
        (b"a,b\n1,2\n3,4\n3,4\n", False),  # a row twice
        (b"a,b\n1,2\n", False),
        (b"a,b\n1,2\n4,3\n", False),
        (b"a,c\n1,2\n3,4\n", False),
        (b"a,b,c\n1,2,\n3,4,\n", False),
    ],
)
def test_rows_are_the_same_in_any_order_and_any_writing(other: bytes, same: bool) -> None:
    assert (rows_digest([b"a,b\n1,2\n3,4\n"]) == rows_digest([other])) is same
