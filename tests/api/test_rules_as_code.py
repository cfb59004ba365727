"""All rules at once, as a list or as YAML: applied as a whole or not at all."""

import json
from typing import Any

import httpx
import pytest
import yaml

from app.resources import Resources
from app.upkeep.reconcile import reconcile
from tests.service import execute, fetch

DAILY: dict[str, Any] = {
    "name": "daily", "report_type": "balance_change_from_activity.itemized.7", "cadence": "daily", "timezone": "UTC",
    "starts_on": "2026-03-01",
}  # fmt: skip

SUMMARY = "balance.summary.1"


def table(name: str, state: str, report_type: str = DAILY["report_type"]) -> dict[str, Any]:
    return DAILY | {"name": name, "report_type": report_type, "table": {"state": state}}


async def names(res: Resources) -> list[str]:
    return [row["name"] for row in await fetch(res, "select name from rules where deleted_at is null order by name")]


async def apply(api: httpx.AsyncClient, **asked: Any) -> httpx.Response:
    return await api.post("/v1/rules/apply", json=asked)


async def test_rules_are_made_changed_and_pruned_by_a_list(res: Resources, api: httpx.AsyncClient) -> None:
    made = await apply(api, rules=[DAILY, DAILY | {"name": "weekly", "cadence": "weekly"}])
    dry = await apply(api, rules=[DAILY | {"settle_hours": 2}], prune=True, dry_run=True)
    before = await names(res)
    changed = await apply(api, rules=[DAILY | {"settle_hours": 2}], prune=True)

    assert made.status_code == 200, made.text
    assert [step["action"] for step in made.json()["steps"]] == ["created", "created"]
    assert (dry.json(), before) == (changed.json(), ["daily", "weekly"])
    assert [(step["action"], step["name"]) for step in changed.json()["steps"]] == [
        ("removed", "weekly"), ("changed", "daily"),
    ]  # fmt: skip
    assert await names(res) == ["daily"]


async def test_the_audit_names_whose_token_it_was(res: Resources, api: httpx.AsyncClient) -> None:
    await apply(api, rules=[DAILY])

    assert [row["actor"] for row in await fetch(res, "select actor from audit")] == ["admin"]


async def test_applying_an_export_changes_nothing(api: httpx.AsyncClient) -> None:
    await apply(api, rules=[DAILY])
    exported = await api.get("/v1/rules.yaml")

    again = await apply(api, yaml=exported.text, prune=True)

    assert exported.headers["content-type"].startswith("application/yaml")
    assert (again.json()["steps"], again.json()["unchanged"], again.json()["difference"]) == ([], 1, "")


async def test_one_wrong_rule_prevents_all(res: Resources, api: httpx.AsyncClient) -> None:
    wrong = await apply(api, rules=[DAILY, DAILY | {"name": "other", "timezone": "Mars"}])

    assert wrong.status_code == 422
    assert "other: timezone: " in wrong.json()["detail"]
    assert await names(res) == []


@pytest.mark.parametrize("asked", [{}, {"rules": [], "yaml": ""}, {"rules": "daily"}, {"rules": [], "prune": "yes"}])
async def test_rules_to_apply_are_given_in_exactly_one_way(api: httpx.AsyncClient, asked: dict[str, Any]) -> None:
    assert (await apply(api, **asked)).status_code == 422


@pytest.mark.parametrize("table", ["rules", "runs"])
async def test_a_deadlock_with_another_change_applies_nothing_and_says_to_try_again(
    res: Resources, api: httpx.AsyncClient, table: str
) -> None:
    # Rules are written through SQLAlchemy, their runs by the driver itself: two families of errors.
    await reconcile(res)
    await execute(
        res,
        "create function meet() returns trigger language plpgsql as"
        " $$ begin raise exception 'met' using errcode = '40P01'; end $$",
    )
    await execute(res, f"create trigger meet before insert on {table} for each row execute function meet()")

    answer = await apply(api, rules=[DAILY | {"starts_on": "2026-02-20"}])

    assert (answer.status_code, answer.json()["detail"]) == (
        409, "somebody else changed rules at the same time: nothing was applied, try again"
    )  # fmt: skip
    assert await names(res) == []


CONNECT = "connected_account_balance_change_from_activity.itemized.3"
# Rules without `connected`, and what follows for each.
FOLLOWS = [
    (DAILY, "none"),
    (DAILY | {"name": "named", "connected_accounts": ["acct_1"]}, "listed"),
    (DAILY | {"name": "whole", "report_type": CONNECT}, "together"),
    (DAILY | {"name": "whole-named", "report_type": CONNECT, "connected_accounts": ["acct_1"]}, "listed"),
]


@pytest.mark.parametrize("saved", ["left out", "said", "said by an older version"])
async def test_connected_is_written_out_and_saying_it_or_not_makes_no_difference(
    res: Resources, api: httpx.AsyncClient, saved: str
) -> None:
    silent = [rule for rule, _ in FOLLOWS]
    said = [rule | {"connected": connected} for rule, connected in FOLLOWS]
    await apply(api, rules=said if saved == "said" else silent)
    if saved == "said by an older version":
        for rule, connected in FOLLOWS:
            named = {"name": rule["name"], "connected": connected}
            await execute(res, "update rules set connected = :connected where name = :name", **named)
    before = await fetch(res, "select id, version, connected from rules order by id")
    exported = (await api.get("/v1/rules.yaml")).text

    again = [await apply(api, yaml=exported, prune=True), await apply(api, rules=silent), await apply(api, rules=said)]
    for rule, connected in FOLLOWS:
        await api.patch(f"/v1/rules/{rule['name']}", json={"connected": connected})

    assert {one["name"]: one["connected"] for one in yaml.safe_load(exported)["rules"]} == {
        rule["name"]: connected for rule, connected in FOLLOWS
    }
    for answer in again:
        assert answer.status_code == 200, answer.text
        assert (answer.json()["steps"], answer.json()["unchanged"], answer.json()["difference"]) == ([], 4, "")
    assert await fetch(res, "select id, version, connected from rules order by id") == before
    assert {row["action"] for row in await fetch(res, "select action from audit")} == {"rule.created"}

    listed = await api.patch("/v1/rules/daily", json={"connected_accounts": ["acct_2"]})
    assert (listed.status_code, listed.json()["connected"]) == (200, "listed")
    (entry,) = await fetch(res, "select before, after from audit where action = 'rule.changed'")
    assert entry["before"] == {"connected_accounts": [], "connected": "none"}
    assert entry["after"] == {"connected_accounts": ["acct_2"], "connected": "listed"}


async def test_a_file_that_no_longer_says_each_means_what_follows(res: Resources, api: httpx.AsyncClient) -> None:
    rule = DAILY | {"report_type": CONNECT}
    await apply(api, rules=[rule | {"connected": "each"}])

    changed = await apply(api, rules=[rule])

    assert changed.json()["steps"][0]["fields"] == ["connected"]
    assert {"-  connected: each", "+  connected: together"} <= set(changed.json()["difference"].splitlines())
    (entry,) = await fetch(res, "select before, after from audit where action = 'rule.changed'")
    assert dict(entry) == {"before": {"connected": "each"}, "after": {"connected": "together"}}


@pytest.mark.parametrize(("before", "after"), [("a", "z"), ("z", "a")])
async def test_a_file_hands_the_table_from_one_rule_to_another_whatever_their_names(
    api: httpx.AsyncClient, before: str, after: str
) -> None:
    await apply(api, rules=[table(before, "leading"), table(after, "kept")])

    dry = await apply(api, rules=[table(before, "auto"), table(after, "leading")], dry_run=True)
    done = await apply(api, rules=[table(before, "auto"), table(after, "leading")])

    assert (dry.status_code, done.status_code) == (200, 200), (dry.text, done.text)
    assert dry.json() == done.json()
    rules = (await api.get("/v1/rules")).json()["data"]
    assert {rule["name"]: rule["table"]["leads"] for rule in rules} == {before: False, after: True}


@pytest.mark.parametrize("dry_run", [True, False])
async def test_of_two_rules_that_both_say_leading_the_answer_names_one_and_the_other(
    res: Resources, api: httpx.AsyncClient, dry_run: bool
) -> None:
    await apply(api, rules=[table("m", "leading"), table("n", "leading", SUMMARY)])
    text = "\n".join(
        json.dumps({"rules": [one]}) + "\n---"
        for one in (table("a", "leading"), table("m", "auto"), table("z", "leading"), table("o", "leading", SUMMARY))
    )

    refused = await apply(api, yaml=text, file="rules.yaml", dry_run=dry_run)

    both = "both say that they lead this table: one of them must be `kept`"
    assert refused.status_code == 409
    assert refused.json()["detail"].splitlines() == [
        f"rules.yaml:7: o: table.state: rules 'o' and 'n' {both}",
        f"rules.yaml:5: z: table.state: rules 'z' and 'a' {both}",
    ]
    assert await names(res) == ["m", "n"]


async def test_two_rules_outside_of_the_file_that_both_lead_hide_no_other_problem(
    res: Resources, api: httpx.AsyncClient
) -> None:
    # Given a database in which two rules lead a table, which no version writes
    await apply(api, rules=[table("m", "leading"), table("n", "kept"), table("o", "leading", SUMMARY)])
    await execute(res, """update rules set "table" = jsonb_set("table", '{state}', '"leading"') where name = 'n'""")

    refused = await apply(api, rules=[table("a", "auto"), table("z", "leading", SUMMARY)])

    assert refused.status_code == 409
    assert [pair in refused.json()["detail"] for pair in ("rules 'n' and 'm' both", "rules 'z' and 'o' both")] == [
        True, True,
    ], refused.text  # fmt: skip
