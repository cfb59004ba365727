"""Rules as YAML: what is written is read back the same, and every error is reported by line."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.as_code.file import read_file, write_rules
from app.api.schemas.rules import RuleIn
from app.errors import RuleFileError
from app.rules.rule import NewRule

DAILY = {"name": "daily", "report_type": "balance.summary.1", "cadence": "daily", "starts_on": date(2026, 10, 1)}


def whole(**values: Any) -> NewRule:
    return RuleIn.model_validate(DAILY | values).as_new()


def read(text: str) -> list[dict[str, Any]]:
    return [written.value.model_dump() for written in read_file(text, file="rules.yaml").rules or ()]


def problems(text: str) -> list[str]:
    with pytest.raises(RuleFileError) as caught:
        read(text)
    return str(caught.value).splitlines()


def test_a_rule_is_written_without_defaults() -> None:
    assert write_rules([whole(parameters={"timezone": "Etc/UTC", "columns": ["net", "created"]})]) == (
        "rules:\n"
        "- name: daily\n"
        "  account: default\n"
        "  report_type: balance.summary.1\n"
        "  cadence: daily\n"
        "  timezone: UTC\n"
        "  starts_on: 2026-10-01\n"
        "  parameters:\n"
        "    columns:\n"
        "    - net\n"
        "    - created\n"
        "    timezone: Etc/UTC\n"
        "  connected: none\n"
    )


def test_rules_are_written_in_one_order_whatever_their_order() -> None:
    rules = [whole(name=name) for name in ("b", "a", "c")]

    assert write_rules(rules) == write_rules(rules[::-1])


def test_no_rules_are_a_file_too() -> None:
    assert read(write_rules([])) == []
    assert read("") == []


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
awkward = st.sampled_from(
    ["no", "on", "12:30", "0o17", "1e5", "1_000", "2026-10-01", "~", "<<", "null", "=", "#", "- a"]
)
numbers = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
parameters = st.recursive(
    texts | awkward | numbers | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | awkward, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts.map("p".__add__), parameters, max_size=4), awkward, st.floats(0, 8784))
def test_what_is_written_is_read_back_the_same(given_: dict[str, Any], name: str, settle_hours: float) -> None:
    rule = whole(name=name, parameters=given_, settle_hours=settle_hours, retention_days=7, enabled=False)

    written = read_file(write_rules([rule]), file="rules.yaml").rules or ()
    assert [one.value.as_new() for one in written] == [rule]


def test_rules_come_as_a_list_and_as_documents_and_parts_may_be_shared() -> None:
    text = """
x-common: &common {report_type: balance.summary.1, cadence: daily, timezone: Europe/Berlin}
rules:
- {<<: *common, name: a}
- {<<: *common, name: b, timezone: UTC}
---
name: c
report_type: balance.summary.1
cadence: weekly
"""

    assert [(rule["name"], rule["timezone"]) for rule in read(text)] == [
        ("a", "Europe/Berlin"),
        ("b", "UTC"),
        ("c", "UTC"),
    ]


def test_every_problem_is_reported_with_its_line_and_rule() -> None:
    text = """rules:
- name: daily
  report_type: balance.summary.1
  cadence: dayly
  settle_hours: 12:30
  enabled: yes
  parameters:
    columns: [net, 5]
  colour: red
- cadence: weekly
"""

    assert problems(text) == [
        "rules.yaml:6: daily: enabled: must be true or false, without quotes",
        "rules.yaml:4: daily: cadence: must be 'every_update', 'daily', 'weekly', 'monthly', 'quarterly', "
        "'yearly' or 'every_payout'",
        "rules.yaml:5: daily: settle_hours: must be a number, without quotes",
        "rules.yaml:8: daily: parameters.columns: must be a list of names",
        "rules.yaml:9: daily: colour: is unknown: use one of `account`, `cadence`, `connected`, `connected_accounts`, "
        "`enabled`, `except`, `name`, `parameters`, `recheck_days`, `report_type`, `retention_days`, "
        "`settle_hours`, `starts_on`, `table`, `timezone`",
        "rules.yaml:10: name: is missing",
        "rules.yaml:10: report_type: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rules: [", "rules.yaml:1: is not valid YAML: "),
        ("a\x01", "rules.yaml: cannot be read as YAML: "),
        ("name: a\ncadence: daily\nname: b", "rules.yaml:3: name is a duplicate"),
        ("name: a\nparameters: {x: 1, x: 2}", "rules.yaml:2: x is a duplicate"),
        ("name: a\nparameters: {1: x}", "rules.yaml:2: a key must be text"),
        ("name: a\nparameters: {x: !!binary aGk=}", "rules.yaml:2: !!binary is not supported"),
        (
            "name: a\nparameters: {x: !!python/name:os.system }",
            "rules.yaml:2: !!python/name:os.system is not supported",
        ),
        ("name: a\nretention_days: !!int x", "rules.yaml: cannot be read as YAML"),
        ("- 1", "rules.yaml:1: is not a rule"),
        ("rules: 3", "rules.yaml:1: must be a list"),
        ("rules: []\nruels: []", "rules.yaml:2: next to `rules:`"),
        ("name: &a [*a]\nreport_type: a.b\ncadence: daily", "rules.yaml:1: name: must be"),
        ("name: a\nreport_type: a.b\ncadence: daily\nparameters: &p {x: *p}", "rules.yaml:4: a: parameters: is nested"),
    ],
)
def test_a_file_that_does_not_hold_rules_is_refused(text: str, problem: str) -> None:
    assert problems(text)[0].startswith(problem)


def test_the_file_in_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "rules-as-code.md").read_text()

    rules = read(page.split("```yaml\n")[1].split("```")[0])

    assert [(rule["name"], rule["cadence"]) for rule in rules] == [
        ("daily-activity", "daily"),
        ("monthly-balance", "monthly"),
    ]


def test_a_name_may_stand_only_once() -> None:
    document = "name: a\nreport_type: a.b\ncadence: daily\n"

    assert problems(f"{document}---\n{document}") == ["rules.yaml:5: a: name: this rule name is already used on line 1"]
