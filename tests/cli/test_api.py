"""Commands say the same over the database and over HTTP, where they need no database."""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.resources import Resources
from app.simulator import Simulator
from tests import service
from tests.cli.command import tallyhook
from tests.cli.conftest import Command
from tests.service import READ_TOKEN, only_run


@pytest.fixture
async def stored(res: Resources, simulator: Simulator) -> str:
    """A rule `daily`, whose only window is stored: the last day of March."""
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-04-01"))
    await service.add_rule(res, name="daily", starts_on=service.at("2026-03-31").date())
    await service.work_off(res)
    await service.execute(
        res,
        "insert into connected_accounts (account, id, stripe_created_at, source, seen_at)"
        " values ('default', 'acct_1Shop', now(), 'list', now())",
    )
    return str((await only_run(res))["id"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "list"),
        ("runs", "list", "--rule", "daily", "--from", "2026-03-31", "--through", "2026-03-31", "--latest", "--json"),
        ("rules", "list"),
        ("rules", "show", "daily"),
        ("rules", "export"),
        ("rules", "coverage", "daily", "--to", "2026-04-01"),
        ("rules", "backfill", "daily", "--from", "2026-03-31", "--through", "2026-03-31", "--rerun", "--dry-run"),
        ("report-types",),
        ("events", "list"),
        ("targets", "list"),
        ("tables", "list"),
        ("tables", "show", "--dbt"),
        ("checks", "list", "--rule", "daily"),
        ("connected-accounts", "list", "--present"),
        ("connected-accounts", "show", "acct_1Shop"),
    ],
    ids=" ".join,
)
async def test_a_command_says_the_same_over_the_database_and_over_http(
    command: Command, remote: Command, stored: str, arguments: tuple[str, ...]
) -> None:
    here, there = await command(*arguments), await remote(*arguments)

    assert (here.code, here.errors) == (0, "")
    assert (there.code, there.out, there.errors) == (0, here.out, "")


async def test_commands_show_what_a_rule_owes_and_what_comes_next(remote: Command, stored: str) -> None:
    coverage = (await remote("rules", "coverage", "daily", "--to", "2026-04-01", "--json")).json()
    preview = await remote("rules", "preview", "daily")

    assert [(one["state"], one["run_id"]) for one in coverage] == [("stored", stored)]
    assert preview.out.startswith("0 reports would be requested now; next:\n")
    assert "2026-04-01\t\tavailability until 2026-04-02T00:00:00Z" in preview.out


async def test_a_file_is_found_by_its_rule_and_date(
    remote: Command, simulator: Simulator, stored: str, tmp_path: Path
) -> None:
    by_date = await remote("runs", "download", "daily", "2026-03-31", "-o", "report.csv", "--json")
    latest = await remote("runs", "download", "daily", "latest", "-o", "-")
    nothing = await remote("runs", "download", "daily", "2026-03-30")
    no_id = await remote("runs", "download", "daily")

    content = b"".join(simulator.files[0].content.chunks())
    assert (tmp_path / "report.csv").read_bytes() == content
    assert by_date.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert latest.out.encode() == content
    assert nothing.errors == (
        "tallyhook: rule 'daily' owes no window that contains 2026-03-30: it starts on 2026-03-31\n"
    )
    assert (no_id.code, "with a rule, also give a DATE or `latest`" in _joined(no_id)) == (2, True)


@pytest.mark.parametrize("over_http", [True, False])
async def test_a_month_is_packed_into_one_file(
    command: Command, remote: Command, stored: str, tmp_path: Path, over_http: bool
) -> None:
    run = remote if over_http else command

    packed = await run("pack", "2026-03", "--json")

    assert packed.json()["path"] == "reports_2026-03.zip"
    with zipfile.ZipFile(tmp_path / "reports_2026-03.zip") as archive:
        (file,) = json.loads(archive.read("manifest.json"))["files"]
        assert hashlib.sha256(archive.read(file["filename"])).hexdigest() == file["sha256"]


async def test_an_incomplete_month_says_what_is_missing(
    res: Resources, remote: Command, stored: str, tmp_path: Path
) -> None:
    await service.execute(res, "update runs set state = 'failed'")

    refused, partly = await remote("pack", "2026-03"), await remote("pack", "2026-03", "--incomplete")
    no_month = await remote("pack", "March")

    assert refused.errors.startswith(
        "tallyhook: 2026-03 lacks 1 of its reports: daily 2026-03-31: failed. incomplete=true"
    )
    assert (refused.code, partly.code, no_month.code) == (1, 0, 2)
    assert (tmp_path / "reports_2026-03_incomplete.zip").exists()


async def test_rules_are_compared_and_applied_as_code_over_http(
    command: Command, remote: Command, stored: str, tmp_path: Path
) -> None:
    exported = await remote("rules", "export")
    (tmp_path / "rules.yaml").write_text(exported.out.replace("cadence: daily", "cadence: daily\n  settle_hours: 2"))
    (tmp_path / "wrong.yaml").write_text("rules:\n- name: daily\n  cadence: hourly\n")

    same, here = await remote("rules", "diff", "rules.yaml"), await command("rules", "diff", "rules.yaml")
    applied = await remote("rules", "apply", "rules.yaml")
    nothing = await remote("rules", "diff", "rules.yaml")
    wrong = await remote("rules", "apply", "wrong.yaml")
    reader = await remote("rules", "apply", "rules.yaml", TALLYHOOK_TOKEN=READ_TOKEN)

    assert (same.code, same.out) == (3, here.out)
    assert "+  settle_hours: 2" in same.out
    assert applied.out == "changed: daily (settle_hours)\n0 unchanged\n"
    assert (nothing.code, nothing.out) == (0, "")
    assert (wrong.code, "wrong.yaml:3: daily: cadence: " in wrong.errors) == (1, True)
    assert reader.code == 1


async def test_a_run_is_made_and_cancelled_without_a_rule(res: Resources, remote: Command) -> None:
    times = ("--start", "2026-03-01T00:00:00Z", "--end", "2026-03-02T00:00:00Z")
    made = await remote("runs", "create", "balance.summary.1", *times, "-p", "currency=usd", "--json")
    run = made.json()

    cancelled = await remote("runs", "cancel", run["id"])
    again = await remote("runs", "retry", run["id"])

    assert run["parameters"]["currency"] == "usd"
    assert cancelled.out == f"run {run['id']} is cancelled\n"
    assert again.out == "1 run will be retried\n"


async def test_the_audit_names_who_acts_over_the_database(command: Command, stored: str) -> None:
    await command("rules", "backfill", "daily", "--from", "2026-03-31", "--through", "2026-03-31", "--rerun")

    (entry, *_) = (await command("audit", "--action", "rule.backfilled", "--json")).json() or [None]

    assert entry is not None
    assert entry["actor"].startswith("cli:")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TALLYHOOK_TOKEN": "wrong"}, "this token is not known"),
        ({"TALLYHOOK_TOKEN": ""}, "--url needs a token: give --token, or set TALLYHOOK_TOKEN"),
        ({"TALLYHOOK_URL": "reports.example.com"}, "--url must be a server's address like https://"),
        ({"TALLYHOOK_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
    ],
)
async def test_a_server_that_cannot_be_asked_is_one_clear_line(
    remote: Command, environ: dict[str, str], said: str
) -> None:
    ended = await remote("rules", "list", **environ)

    assert (ended.code, said in ended.errors, len(ended.errors.splitlines())) == (1, True, 1)


async def test_a_read_only_token_is_refused_with_a_reason(remote: Command, stored: str) -> None:
    refused = await remote("runs", "retry", stored, TALLYHOOK_TOKEN=READ_TOKEN)

    assert refused.errors == "tallyhook: this token may only read; use one with role admin to write\n"


async def test_the_version_needs_no_setting(tmp_path: Path) -> None:
    ended = await tallyhook("--version", environ={}, folder=tmp_path)

    assert (ended.code, ended.out.split()[0]) == (0, "tallyhook")


def test_help_needs_no_large_library() -> None:
    """`--help` stays under 0.4 s of processor time: what takes longest to import is what must not be."""
    import subprocess
    import sys

    heavy = {"fastapi", "sqlalchemy", "psycopg", "httpx", "stripe", "uvicorn", "alembic", "yaml"}
    shown = "import sys; from app.cli import app; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True).stdout.split()

    assert heavy & set(found) == set()


def _joined(ended: Any) -> str:
    """The text of a framed error, in one line."""
    return " ".join(ended.errors.replace("│", " ").split())


async def test_a_login_link_comes_from_the_server_when_it_is_asked_with_a_token(remote: Command) -> None:
    link = await remote("login-link", "--name", "anna", "--role", "read")

    assert link.code == 0, link
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/login\?link=\S+\n", link.out)
