"""`tallyhook rules`: export, diff and apply, on the database of a service."""

from pathlib import Path

import pytest

from app.api.as_code.applied import Outcome
from app.api.as_code.apply import apply
from app.api.as_code.file import read_file
from app.errors import RuleFileError
from app.resources import Resources
from app.simulator import Simulator
from tests.cli.command import tallyhook
from tests.cli.conftest import Command
from tests.runs.strangers import stranger
from tests.service import REPORT_TYPE, add_rule, fetch, make_environ, unpublished, work_off

DAILY = f"""
rules:
- name: daily
  report_type: {REPORT_TYPE}
  cadence: daily
  starts_on: 2026-03-01
"""
WEEKLY = f"""
- name: weekly
  report_type: {REPORT_TYPE}
  cadence: weekly
  starts_on: 2026-03-02
  parameters: {{timezone: Etc/UTC}}
"""


async def applied(res: Resources, text: str, *, prune: bool = False, dry_run: bool = False) -> Outcome:
    wanted = read_file(text, file="rules.yaml")
    return await apply(res, wanted, file="rules.yaml", by="cli:test", prune=prune, dry_run=dry_run)


def actions(outcome: Outcome) -> list[tuple[str, str]]:
    return [(step.action, step.name) for step in outcome.steps]


async def names(res: Resources) -> list[str]:
    return [rule["name"] for rule in await fetch(res, "select name from rules where deleted_at is null order by name")]


async def test_rules_survive_the_way_from_file_to_database_to_file(command: Command, tmp_path: Path) -> None:
    # Given a file with two rules
    (tmp_path / "rules.yaml").write_text(DAILY + WEEKLY)

    # When it is compared, applied, exported and compared again
    before = await command("rules", "diff", "rules.yaml")
    tried = await command("rules", "apply", "rules.yaml", "--dry-run")
    done = await command("rules", "apply", "rules.yaml")
    exported = await command("rules", "export")
    (tmp_path / "exported.yaml").write_text(exported.out)
    after = await command("rules", "diff", "rules.yaml")
    exported_after = await command("rules", "diff", "exported.yaml")

    # Then the exit codes say whether there was a difference, and the export says the same as the file
    assert before.code == 3, before
    assert {"+- name: daily", "+- name: weekly", "--- database", "+++ rules.yaml"} <= set(before.out.splitlines())
    assert tried.out.splitlines() == ["would be created: daily", "would be created: weekly", "0 unchanged"]
    assert (done.code, done.out.splitlines()) == (0, ["created: daily", "created: weekly", "0 unchanged"])
    assert [(ended.code, ended.out, ended.errors) for ended in (after, exported_after)] == [(0, "", "")] * 2


async def test_json_is_there_for_programs(command: Command) -> None:
    dry = await command("rules", "apply", "--dry-run", "--json", "-", stdin=DAILY)
    different = await command("rules", "diff", "--json", "-", stdin=DAILY)
    done = await command("rules", "apply", "--json", "-", stdin=DAILY)
    exported = await command("rules", "export", "--json")

    assert (dry.json()["applied"], done.json()["applied"]) == (False, True)
    assert [step["name"] for step in dry.json()["steps"]] == ["daily"]
    assert (different.code, different.json()["different"]) == (3, True)
    assert [(rule["name"], rule["starts_on"]) for rule in exported.json()["rules"]] == [("daily", "2026-03-01")]


async def test_a_wrong_file_is_reported_line_by_line_and_changes_nothing(command: Command, res: Resources) -> None:
    text = DAILY + WEEKLY.replace("weekly", "fortnightly") + "  colour: red\n"

    for verb in ("diff", "apply"):
        ended = await command("rules", verb, "-", stdin=text)
        assert ended.code == 1
        assert "standard input:10: fortnightly: cadence: must be" in ended.errors
        assert "standard input:13: fortnightly: colour: is unknown: use one of `account`, `cadence`" in ended.errors
        assert "Traceback" not in ended.errors
    assert await names(res) == []


async def test_a_file_that_is_not_there_is_bad_usage(command: Command) -> None:
    assert (await command("rules", "apply", "nowhere.yaml")).code == 2


async def test_reading_neither_creates_nor_migrates_a_database(
    tmp_path: Path, simulator: Simulator, empty_database_url: str
) -> None:
    environ = {**make_environ("", simulator), "TALLYHOOK_DATA_DIR": str(tmp_path / "data")}

    nowhere = await tallyhook("rules", "export", environ=environ, folder=tmp_path)
    behind = await tallyhook(
        "rules", "export", environ={**environ, "DATABASE_URL": empty_database_url}, folder=tmp_path
    )

    assert (nowhere.code, behind.code) == (1, 1)
    assert "there is no database in" in nowhere.errors
    assert behind.errors.count("tallyhook migrate") == 1
    assert not (tmp_path / "data").exists()


async def test_a_database_that_is_away_is_one_line(tmp_path: Path, simulator: Simulator) -> None:
    environ = make_environ("postgresql://u:pw-canary@127.0.0.1:1/none", simulator)

    ended = await tallyhook("rules", "export", environ=environ, folder=tmp_path)

    assert ended.code == 1
    assert len(ended.errors.splitlines()) == 1
    assert "pw-canary" not in ended.errors


async def test_applying_plans_at_once_and_says_how_much(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-04")
    await work_off(res)

    outcome = await applied(res, DAILY)

    (step,) = outcome.steps
    assert (step.action, step.runs_planned) == ("created", 3)
    assert [run["state"] for run in await fetch(res, "select state from runs")] == ["planned"] * 3


async def test_the_audit_says_what_the_command_line_did(res: Resources) -> None:
    await applied(res, DAILY)
    await applied(res, DAILY + "  settle_hours: 6\n", dry_run=True)
    await applied(res, DAILY + "  settle_hours: 6\n")
    await applied(res, "rules: []", prune=True)

    entries = await fetch(res, "select actor, action from audit order by id")
    assert [entry["action"] for entry in entries] == ["rule.created", "rule.changed", "rule.deleted"]
    assert {entry["actor"].partition(":")[0] for entry in entries} == {"cli"}


async def test_a_dry_run_says_the_same_and_does_nothing(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-04")
    await work_off(res)

    would, did = await applied(res, DAILY, dry_run=True), await applied(res, DAILY)

    assert would == did
    assert await names(res) == ["daily"]
    assert len(await fetch(res, "select 1 from runs")) == 3


async def test_applying_twice_changes_nothing_the_second_time(res: Resources) -> None:
    await applied(res, DAILY)
    before = await fetch(res, "select version, updated_at from rules")

    outcome = await applied(res, DAILY)

    assert (outcome.steps, outcome.unchanged, outcome.difference) == ([], 1, "")
    assert await fetch(res, "select version, updated_at from rules") == before


async def test_only_differences_are_changed_and_omitted_fields_get_their_defaults(res: Resources) -> None:
    await applied(res, DAILY + "  settle_hours: 6\n  retention_days: 30\n")

    outcome = await applied(res, DAILY + "  retention_days: 31\n")

    assert [(step.action, step.fields) for step in outcome.steps] == [("changed", ["retention_days", "settle_hours"])]
    assert "-  settle_hours: 6" in outcome.difference.splitlines()
    (rule,) = await fetch(res, "select settle_hours, retention_days from rules")
    assert (rule["settle_hours"], rule["retention_days"]) == (0, 31)


async def test_a_start_that_is_left_out_stays_as_it_was(res: Resources) -> None:
    await applied(res, DAILY)

    assert (await applied(res, DAILY.replace("  starts_on: 2026-03-01\n", ""))).steps == []


async def test_rules_that_are_not_in_the_file_stay_unless_pruned(res: Resources, command: Command) -> None:
    await add_rule(res, name="by hand")

    kept = await command("rules", "apply", "-", stdin=DAILY)
    assert await names(res) == ["by hand", "daily"]
    assert "not in the file, and kept (--prune removes them): by hand" in kept.errors
    assert "a rule with a new name is a new rule" in kept.errors

    pruned = await applied(res, DAILY, prune=True)
    assert actions(pruned) == [("removed", "by hand")]
    assert await names(res) == ["daily"]


async def test_a_rule_under_another_name_is_removed_and_created(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-04")
    await work_off(res)
    await applied(res, DAILY)

    outcome = await applied(res, DAILY.replace("daily\n", "renamed\n", 1), prune=True)

    assert actions(outcome) == [("removed", "daily"), ("created", "renamed")]
    assert [step.runs_cancelled for step in outcome.steps] == [3, 0]
    assert outcome.may_rename


async def test_apply_does_all_or_nothing_and_reports_every_problem(res: Resources, simulator: Simulator) -> None:
    # Given a rule that has runs, whose cadence is fixed from then on
    unpublished(simulator, until="2026-03-04")
    await work_off(res)
    await applied(res, DAILY)

    # When a file changes it, and brings a good rule and two that can never work
    text = DAILY.replace("cadence: daily", "cadence: weekly") + WEEKLY
    text += f"- {{name: nowhere, report_type: {REPORT_TYPE}, cadence: daily, timezone: Mars/Olympus, account: mars}}\n"
    text += "- {name: ours, report_type: a.b, cadence: daily, parameters: {interval_end: 1}}\n"
    with pytest.raises(RuleFileError) as caught:
        await applied(res, text)

    # Then each is reported at its place, and nothing was done
    assert [line.split(": ", 3)[:3] for line in str(caught.value).splitlines()] == [
        ["rules.yaml:3", "daily", "cadence cannot change once the rule has runs"],
        ["rules.yaml:13", "nowhere", "account"],
        ["rules.yaml:13", "nowhere", "timezone"],
        ["rules.yaml:14", "ours", "parameters.interval_end"],
    ]
    assert await names(res) == ["daily"]


async def test_a_probable_mistake_is_a_warning(command: Command) -> None:
    text = DAILY + "  timezone: Europe/Berlin\n"

    ended = await command("rules", "apply", "-", stdin=text)

    assert ended.code == 0
    assert "warning: daily: parameters/timezone: the times in the file will be in UTC" in ended.errors


async def test_stripe_is_never_called(database_url: str, simulator: Simulator, tmp_path: Path) -> None:
    async with stranger() as stripe:
        environ = {**make_environ(database_url, simulator), "STRIPE_API_BASE": stripe.url}

        ended = await tallyhook("rules", "apply", "-", environ=environ, folder=tmp_path, stdin=DAILY)

    assert (ended.code, stripe.requests) == (0, [])
