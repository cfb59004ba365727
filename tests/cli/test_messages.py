"""What people get wrong on the command line and in rules files, and every word that they read."""

from pathlib import Path

import pytest

from app.api.as_code.file import read_file
from app.errors import RuleFileError
from tests.cli.command import tallyhook

THERE = ("--url", "http://127.0.0.1:1", "--token", "x")
CADENCES = "'every_update', 'daily', 'weekly', 'monthly', 'quarterly', 'yearly' or 'every_payout'"

COMMANDS: list[tuple[tuple[str, ...], int, str]] = [
    (("rule", "list"), 2, "No such command 'rule'. Did you mean 'rules'?"),
    (("rules", "lst"), 2, "No such command 'lst'. Did you mean 'list'?"),
    (("rules", "show"), 2, "Missing argument 'RULE'."),
    (("tables", "list", "--jsn"), 2, "No such option: --jsn (Possible options: --json)"),
    (
        ("rules", "list"), 1,
        "tallyhook: there is no database in .tallyhook yet: `tallyhook migrate` or `serve` creates it, or point"
        " DATABASE_URL or TALLYHOOK_DATA_DIR to it",
    ),
    (
        ("runs", "list", "--url", "reports.example.com"), 1,
        "tallyhook: --url must be a server's address like https://reports.example.com, not 'reports.example.com'",
    ),
    (
        ("runs", "list", "--url", "https://reports.example.com"), 1,
        "tallyhook: --url needs a token: give --token, or set TALLYHOOK_TOKEN",
    ),
    (("runs", "list", *THERE), 1, "tallyhook: http://127.0.0.1:1 cannot be reached: All connection attempts failed"),
    (
        ("runs", "show", "daily"), 2,
        "Invalid value for 'RUN_ID': daily is not a run's id: `tallyhook runs list --rule daily` shows those of a rule",
    ),
    (("rules", "diff", "none.yaml", *THERE), 2, "Invalid value for FILE: none.yaml cannot be read: No such file or"
     " directory"),
    (("pack", "october", *THERE), 2, "Invalid value for MONTH: october is not a month: write it like 2026-10"),
    (
        ("rules", "backfill", "daily", *THERE), 2,
        "Invalid value: give --from, and --to (not included) or --through (included)",
    ),
    (
        ("runs", "list", "--limit", "many", *THERE), 2,
        "Invalid value for '--limit': many is not a whole number from 1 to 10000",
    ),
    (
        ("runs", "list", "--state", "lost"), 2,
        "Invalid value for '--state': lost is not one of planned, requested, ready, stored, failed, cancelled",
    ),
    (("demo", "--days", "61"), 2, "Invalid value for '--days': 61 is not a whole number from 1 to 60"),
    (("serve", "--port", "80.5"), 2, "Invalid value for '--port': 80.5 is not a whole number from 0 to 65535"),
    (
        ("runs", "diff", "01a1fe99-9c76-7009-9691-f1e842565f45", "--against", "0"), 2,
        "Invalid value for '--against': 0 is not a whole number from 1 on",
    ),
    (
        ("targets", "rotate", "ledger", "--overlap-hours", "nan"), 2,
        "Invalid value for '--overlap-hours': nan is not a number from 0 on",
    ),
    (
        ("checks", "show", "activity_total"), 2,
        "Invalid value for 'CHECK_ID': activity_total is not a verdict's id: `tallyhook checks list` shows them",
    ),
    (("export", "parquet"), 2, "Missing option '--to'."),
    (
        ("doctor", "--fix"), 2,
        "Invalid value for --fix: needs --url, the URL that the endpoint should point to",
    ),
]  # fmt: skip


async def test_a_wrong_command_says_what_to_do(tmp_path: Path) -> None:
    """Without any settings, in an empty folder; one test, because each command is a separate process."""
    for arguments, code, message in COMMANDS:
        ended = await tallyhook(*arguments, environ={"COLUMNS": "300"}, folder=tmp_path)

        assert ended.code == code, (arguments, ended)
        assert message in [line.strip(" │") for line in ended.errors.splitlines()], (arguments, ended.errors)


FILES: list[tuple[str, str]] = [
    ("rules: daily", "1: must be a list: begin each entry with `- name: …`"),
    ("rules:\n- daily", "2: is not a rule: it needs `name: …`"),
    ("rules:\n  daily: {cadence: daily}", "2: must be a list: begin each entry with `- name: …`"),
    ("rules: []\nruels: []", "2: next to `rules:` and `targets:` only keys that begin with `x-` are allowed"),
    ("rules:\n- name: a\n  name: b", "3: name is a duplicate: remove one of them"),
    ("rules:\n- {name: a, report_type: a.b.1, cadence: dayly}", f"2: a: cadence: must be {CADENCES}"),
    ("rules:\n- {name: a, report_type: a.b.1}", "2: a: cadence: is missing"),
    (
        "rules:\n- name: a\n  report_type: balance summary\n  cadence: daily",
        "3: a: report_type: must be a report type as Stripe writes it, like balance.summary.1:"
        " see GET /v1/report-guide",
    ),
    (
        "rules:\n- name: a\n  type: a.b.1\n  report_type: a.b.1\n  cadence: daily",
        "3: a: type: is unknown: use one of `account`, `cadence`, `connected`, `connected_accounts`, `enabled`,"
        " `except`, `name`, `parameters`, `recheck_days`, `report_type`, `retention_days`, `settle_hours`, `starts_on`,"
        " `table`, `timezone`",
    ),
    (
        "rules:\n- name: a\n  report_type: a.b.1\n  cadence: daily\n  timezon: UTC",
        "5: a: timezon: is unknown: did you mean `timezone`?",
    ),
    (
        "rules:\n- name: a\n  report_type: a.b.1\n  cadence: daily\n  enabled: yes",
        "5: a: enabled: must be true or false, without quotes",
    ),
    (
        "rules:\n- name: a\n  report_type: a.b.1\n  cadence: daily\n  starts_on: 1.10.2026",
        "5: a: starts_on: must be a date like 2026-10-01",
    ),
    (
        "rules:\n- name: a\n  report_type: a.b.1\n  cadence: daily\n  parameters:\n    columns: net, fee",
        "6: a: parameters.columns: must be a list of names",
    ),
    (
        "rules:\n- {name: a, report_type: a.b.1, cadence: daily}\n- {name: a, report_type: a.b.1, cadence: weekly}",
        "3: a: name: this rule name is already used on line 2",
    ),
    ("targets:\n- {name: t, kind: mail}", "2: t: kind: must be 'webhook', 'email', 'slack' or 'folder'"),
    (
        "targets:\n- name: t\n  kind: email\n  recipient: a@b.c",
        "4: t: recipient: is unknown: did you mean `recipients`?",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FILES, ids=[one[1] for one in FILES])
def test_a_wrong_file_says_what_to_do_by_line(text: str, message: str) -> None:
    with pytest.raises(RuleFileError) as caught:
        read_file(text, file="rules.yaml")

    assert str(caught.value) == f"rules.yaml:{message}"
