"""The facts about report types agree with each other: a name without an explanation would count as unknown."""

from collections import Counter
from importlib.resources import files
from typing import Any

import pytest
import yaml

FACTS: dict[str, Any] = yaml.safe_load(files("app").joinpath("catalogue/reports.yaml").read_text())
TYPES: dict[str, dict[str, Any]] = FACTS["report_types"]
PARAMETERS = {"interval_start", "interval_end", "payout", "connected_account", "connected_accounts", "timezone"} | {
    "currency",
    "reporting_category",
    "fee_category",
    "decimal_separator",
    "columns",
}


@pytest.mark.parametrize("report_type", TYPES)
def test_a_type_names_known_columns_each_once(report_type: str) -> None:
    facts = TYPES[report_type]

    assert [column for column in facts["columns"] if column not in FACTS["columns"]] == []
    assert max(Counter(facts["columns"]).values(), default=1) == 1
    for chosen in ("default_columns", "file_columns"):
        assert [column for column in facts.get(chosen, []) if column not in facts["columns"]] == []


@pytest.mark.parametrize("report_type", TYPES)
def test_a_type_is_a_version_of_its_family_and_takes_known_parameters(report_type: str) -> None:
    facts = TYPES[report_type]

    assert report_type == f"{facts['family']}.{facts['version']}"
    assert facts["version"] in FACTS["families"][facts["family"]]["versions"]
    assert set(facts["required"]) | set(facts["optional"]) <= PARAMETERS
    assert not set(facts["required"]) & set(facts["optional"])


@pytest.mark.parametrize("family", FACTS["families"])
def test_a_row_is_told_by_columns_that_its_types_have(family: str) -> None:
    facts = FACTS["families"][family]
    listed = [TYPES[f"{family}.{version}"]["columns"] for version in facts["versions"]]

    for columns in filter(None, listed):
        assert set(facts["row_key"] or ()) <= set(columns)


@pytest.mark.parametrize("report_type", TYPES)
def test_every_list_says_how_sure_it_is(report_type: str) -> None:
    facts = TYPES[report_type]

    marks = [facts["columns_mark"], facts["parameters_mark"]]
    marks += [facts[f"{chosen}_mark"] for chosen in ("default", "file_columns") if f"{chosen}_mark" in facts]
    assert all(mark[0] in "PMS?" for mark in marks)
    assert ("default_columns" in facts) == ("default_mark" in facts)
    assert isinstance(facts["columns_complete"], bool)
