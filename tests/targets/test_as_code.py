"""Targets in the file of the rules: exported, compared, applied with them or alone; no secret is ever in it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.resources import Resources
from tests.api.conftest import client_of
from tests.service import add_rule, fetch
from tests.targets.receivers import WebReceiver

RULES = """
rules:
- {name: daily, report_type: balance_change_from_activity.itemized.7, cadence: daily, starts_on: 2026-03-01}
"""


@pytest.fixture
async def api(res: Resources) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(res) as client:
        yield client


def targets(receiver: WebReceiver) -> str:
    return f"""
targets:
- {{name: ledger, kind: webhook, url: "{receiver.url}", message_types: [run.stored], rules: [daily]}}
- {{name: people, kind: email, recipients: [books@example.com]}}
"""


async def apply(api: httpx.AsyncClient, text: str, **asked: Any) -> dict[str, Any]:
    answer = await api.post("/v1/rules/apply", json={"yaml": text, "file": "rules.yaml", **asked})
    assert answer.status_code == 200, answer.text
    outcome: dict[str, Any] = answer.json()
    return outcome


def steps(outcome: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(step["kind"], step["action"], step["name"]) for step in outcome["steps"]]


async def test_rules_and_the_targets_that_name_them_are_made_in_one_go_and_come_back_the_same(
    api: httpx.AsyncClient, receiver: WebReceiver
) -> None:
    text = RULES + targets(receiver)

    dry = await apply(api, text, dry_run=True)
    made = await apply(api, text)
    exported = (await api.get("/v1/rules.yaml")).text
    alone = (await api.get("/v1/rules.yaml?only=targets")).text
    again = await apply(api, exported, prune=True)

    assert dry == made
    assert steps(made) == [
        ("rule", "created", "daily"),
        ("target", "created", "ledger"),
        ("target", "created", "people"),
    ]
    assert "+- name: people" in made["difference"].splitlines()
    assert (again["steps"], again["unchanged"], again["difference"]) == ([], 3, "")
    assert exported.endswith(alone)
    assert alone == (
        "targets:\n- name: ledger\n  kind: webhook\n"
        f"  url: {receiver.url}\n  message_types:\n  - run.stored\n  rules:\n  - daily\n"
        "- name: people\n  kind: email\n  recipients:\n  - books@example.com\n"
    )


async def test_no_secret_is_in_the_file(api: httpx.AsyncClient, receiver: WebReceiver) -> None:
    made = await apply(api, RULES + targets(receiver))
    (ledger,) = [one for one in (await api.get("/v1/targets")).json()["data"] if one["name"] == "ledger"]
    secret = (await api.post(f"/v1/targets/{ledger['id']}/secret")).json()["secret"]

    assert secret not in (await api.get("/v1/rules.yaml")).text
    assert secret not in str(made)
    assert "tallyhook targets secret ledger" in str(made), "where it is found"


async def test_a_file_without_targets_leaves_them_alone_and_prune_removes_what_it_lists_no_longer(
    res: Resources, api: httpx.AsyncClient, receiver: WebReceiver
) -> None:
    await apply(api, RULES + targets(receiver))

    without = await apply(api, RULES, prune=True)
    kept = await apply(api, "targets: []")
    alone = await apply(api, f"rules: []\n{targets(receiver)}", prune=True, only="targets")
    pruned = await apply(api, "targets: []", prune=True)

    assert (without["steps"], kept["steps"], alone["steps"]) == ([], [], [])
    assert kept["kept_targets"] == ["ledger", "people"]
    assert steps(pruned) == [("target", "removed", "ledger"), ("target", "removed", "people")]
    assert len(await fetch(res, "select 1 from rules where deleted_at is null")) == 1


async def test_a_target_is_changed_field_by_field_and_one_whose_rule_was_removed_stays_as_it_is(
    res: Resources, api: httpx.AsyncClient, receiver: WebReceiver
) -> None:
    await apply(api, RULES + targets(receiver))
    await apply(api, "rules: []", prune=True)

    exported = (await api.get("/v1/rules.yaml?only=targets")).text
    same = await apply(api, exported)
    changed = await apply(api, exported.replace("books@", "ledgers@"))

    assert same["steps"] == []
    assert [(step["name"], step["fields"]) for step in changed["steps"]] == [("people", ["recipients"])]


async def test_everything_wrong_with_rules_and_targets_is_reported_by_line_and_nothing_changes(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await add_rule(res, name="daily")
    wrong = """
rules:
- {name: weekly, report_type: balance.summary.1, cadence: fortnightly}
targets:
- {name: ledger, kind: webhook, adress: "https://ledger.example.com"}
- people
"""
    unworkable = """
targets:
- {name: ledger, kind: webhook, url: "https://localhost/hook", rules: [dayly]}
- {name: chat, kind: slack, url: "office"}
"""
    shapes = await api.post("/v1/rules/apply", json={"yaml": wrong, "file": "rules.yaml"})
    meanings = await api.post("/v1/rules/apply", json={"yaml": unworkable, "file": "rules.yaml"})

    assert shapes.json()["detail"].splitlines() == [
        "rules.yaml:3: weekly: cadence: must be 'every_update', 'daily', 'weekly', 'monthly', 'quarterly', "
        "'yearly' or 'every_payout'",
        "rules.yaml:5: ledger: adress: is unknown: use one of `accounts`, `enabled`, `kind`, `message_types`, `name`, "
        "`recipients`, `rules`, `url`",
        "rules.yaml:6: is not a target: it needs `name: …`",
    ]
    assert meanings.json()["detail"].splitlines() == [
        "rules.yaml:4: chat: url: must be the name of one of TALLYHOOK_SLACK_URLS (finance)",
        "rules.yaml:3: ledger: rules.0: there is no rule 'dayly': see GET /v1/rules",
    ]
    assert await fetch(res, "select 1 from targets") == []


async def test_the_audit_names_who_applied_them(res: Resources, api: httpx.AsyncClient, receiver: WebReceiver) -> None:
    await apply(api, RULES + targets(receiver))

    rows = await fetch(res, "select actor, action from audit where action like 'target%' order by id")
    assert [(row["actor"], row["action"]) for row in rows] == [("admin", "target.created")] * 2
