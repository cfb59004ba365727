"""Every question of docs/howto/ask-in-sql.md is answered by a service that has the recommended reports."""

import re
from pathlib import Path

import pytest
import yaml

from app.resources import Resources
from app.simulator import Simulator
from tests.cli.command import tallyhook
from tests.service import add_rule, fetch, make_environ, unpublished, work_off
from tests.tables.stored import load_all
from tests.tables.test_checks import SET

DOCUMENT = Path(__file__).parents[2] / "docs" / "howto" / "ask-in-sql.md"


@pytest.mark.slow
async def test_the_ten_questions_have_answers(
    tables: Resources, simulator: Simulator, database_url: str, tmp_path: Path
) -> None:
    for report_type, columns in SET.items():
        unpublished(simulator, report_type, until="2026-03-03")
        parameters = {} if columns is None else {"columns": columns}
        await add_rule(tables, name=report_type, report_type=report_type, parameters=parameters)
    await work_off(tables)
    await load_all(tables)
    questions = re.findall(r"```sql\n(.*?);\n```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(questions) == 10

    for question in questions:
        assert await fetch(tables, question.replace(":", "\\:")), question

    rolled = await fetch(tables, next(one for one in questions if "computed" in one).replace(":", "\\:"))
    assert all(row["computed"] == row["reported"] for row in rolled)
    await the_command_line_shows_them(database_url, simulator, tmp_path)


async def the_command_line_shows_them(database_url: str, simulator: Simulator, folder: Path) -> None:
    environ = make_environ(database_url, simulator)
    listed = await tallyhook("tables", "list", environ=environ, folder=folder)
    dbt = await tallyhook("tables", "show", "--dbt", environ=environ, folder=folder)
    checks = await tallyhook("checks", "list", "--verdict", "agrees", "--limit", "500", environ=environ, folder=folder)

    assert (listed.code, dbt.code, checks.code) == (0, 0, 0)
    assert "balance_summary" in listed.out
    (source,) = yaml.safe_load(dbt.out)["sources"]
    assert "payouts_itemized" in {table["name"] for table in source["tables"]}
    assert "activity_total" in checks.out
