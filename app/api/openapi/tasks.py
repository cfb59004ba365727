"""What people come to `/docs` for, each in one command; tests/test_five_tasks.py runs them."""

from dataclasses import dataclass

_AUTHORIZED = '-H "Authorization: Bearer $TOKEN"'


@dataclass(frozen=True, slots=True)
class Task:
    """Something that people want, in words, and how: with curl, on the command line, and on the pages (with at most
    two clicks). `$URL` and `$TOKEN` are set in the shell."""

    title: str
    about: str
    curl: str
    shell: str
    pages: str


TASKS = (
    Task(
        "The first rule",
        "A rule says which report is owed, how often, and in which zone. `GET /v1/report-guide` says which to use;"
        " due reports are requested at once, and `asks_for` says how many.",
        f"curl {_AUTHORIZED} -H 'Content-Type: application/json' \"$URL/v1/rules\" -d '"
        '{"name": "payouts", "report_type": "payout_reconciliation.itemized.latest", "cadence": "daily",'
        ' "timezone": "America/Los_Angeles", "parameters": {"timezone": "America/Los_Angeles"}}\'',
        "tallyhook rules apply rules.yaml",
        "Rules, New rule…",
    ),
    Task(
        "Yesterday's payout reconciliation in a spreadsheet",
        "The newest stored file of a rule, by the rule's name; for another day its date instead of `latest`.",
        f'curl {_AUTHORIZED} -fOJ "$URL/v1/rules/payouts/files/latest?format=xlsx"',
        "tallyhook runs download payouts latest --format xlsx",
        "Today, the rule, as Excel",
    ),
    Task(
        "All of October as one ZIP",
        "With a manifest of rows, sizes and hashes; refused, with what is missing, until the month is complete.",
        f'curl {_AUTHORIZED} -fOJ "$URL/v1/packs/2026-10.zip"',
        "tallyhook pack 2026-10",
        "Months, Download the pack",
    ),
    Task(
        "Notify a bookkeeping system at once",
        "It gets a signed message when a report is stored; the answer shows the secret to verify it with.",
        f"curl {_AUTHORIZED} -H 'Content-Type: application/json' \"$URL/v1/targets\" -d '"
        '{"name": "ledger", "kind": "webhook", "url": "https://ledger.example.com/hook",'
        ' "message_types": ["run.stored", "month.complete"]}\'',
        "tallyhook targets create ledger --to https://ledger.example.com/hook"
        " --message-type run.stored --message-type month.complete",
        "Targets, New target…",
    ),
    Task(
        "New files since a given time",
        "Oldest first; ask again with the last `stored_at` that you have seen.",
        f'curl {_AUTHORIZED} "$URL/v1/runs?stored_after=2026-10-01T00:00:00Z&order=stored"',
        "tallyhook runs list --stored-after 2026-10-01T00:00:00Z",
        "Runs: the newest come first",
    ),
    Task(
        "Why a report is missing",
        "Every window that the rule owes, with its state, what it waits for, and until when.",
        f'curl {_AUTHORIZED} "$URL/v1/rules/payouts/coverage?from=2026-10-01&through=2026-10-31"',
        "tallyhook rules coverage payouts --from 2026-10-01 --through 2026-10-31",
        "Today says why; the rule's page does for every day",
    ),
)
