"""Every table on a terminal of 80 columns: nothing is cut, nothing overflows, and what belongs together is aligned."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.cli.output import table_lines
from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.tables import loading
from tests import service
from tests.api.conftest import client_of, listening
from tests.cli.command import tallyhook
from tests.proofs.announced import SETTINGS
from tests.proofs.post import Post
from tests.service import ADMIN_TOKEN, REPORT_TYPE, execute, fetch, unpublished
from tests.tables.stored import load_all
from tests.targets.receivers import web_receiver
from tests.targets.stories import send_due

COLUMNS = 80
IRISH = "payouts of the Irish subsidiary"
HOOK = "https://ledger.example.com/hooks/a-rather-long-path-of-somebody/tallyhook"
# What stands in each table, whole; `{run}` and the like are ids of the story.
TABLES: list[tuple[tuple[str, ...], list[str]]] = [
    (("rules", "list"), ["daily-activity", IRISH, REPORT_TYPE, "America/Los_Angeles", "2026-03-01"]),
    (
        ("rules", "coverage", "daily-activity", "--to", "2026-03-03"),
        ["{run}", "2026-03-01", "stored", "availability until 2026-"],
    ),
    (("rules", "preview", "daily-activity"), ["2026-03-02", "availability until 2026-"]),
    (("runs", "list"), ["{run}", "{failed}", "daily-activity", IRISH, "2026-03-01", REPORT_TYPE, "no_such_column"]),
    (("report-types",), [REPORT_TYPE, "2026-03-02T08:00:00Z"]),
    (("audit",), ["{rule}", "rule.created", "target.created", IRISH]),
    (("events", "list"), ["{event}", "reporting.report_type.updated", REPORT_TYPE, "handled"]),
    (("targets", "list"), ["ledger", "{target}", HOOK, "run.stored, run.failed, month.complete"]),
    (("targets", "deliveries"), ["{message}", "run.stored", "500"]),
    (("tables", "list"), ["balance_change_from_activity_itemized"]),
    (
        ("tables", "show", "balance_change_from_activity_itemized"),
        ["balance_transaction_id", "reporting_category", "changed:", "daily-activity", "2026-03-01", "shoe_size"],
    ),
    (("connected-accounts", "list"), ["acct_1OabcdefGHIJKLMN", "A marketplace seller with a rather long name", "US"]),
    (("checks", "list", "--run", "{run}"), ["row_net", "key_unique", "agrees", "2026-03-01"]),
]


@pytest.fixture
async def res(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    async with open_resources(service.make_settings(database_url, simulator, **SETTINGS)) as res:
        yield res
        await loading.end_child(res)


async def of_all_kinds(res: Resources, simulator: Simulator) -> dict[str, str]:
    """Something for every table; returns the ids."""
    unpublished(simulator, REPORT_TYPE)
    rule = {
        "report_type": REPORT_TYPE,
        "cadence": "daily",
        "timezone": "America/Los_Angeles",
        "starts_on": "2026-03-01",
    }
    async with client_of(res) as api, web_receiver() as receiver:
        receiver.always = 500
        made = (await api.post("/v1/rules", json={**rule, "name": "daily-activity"})).json()
        wrong = {**rule, "name": IRISH, "parameters": {"columns": ["no_such_column"]}}
        (await api.post("/v1/rules", json=wrong)).raise_for_status()
        target = {"name": "ledger", "kind": "webhook", "message_types": ["run.stored", "run.failed", "month.complete"]}
        ledger = (await api.post("/v1/targets", json={**target, "url": receiver.url})).json()
        simulator.advance(REPORT_TYPE, to=service.at("2026-03-02T08:00"))
        await Post(simulator).deliver_all(res.intake)
        await service.work_off(res)
        await load_all(res)
        await send_due(res)
        await execute(res, "update loads set added_columns = '{shoe_size}', removed_columns = '{}'")
        (await api.patch(f"/v1/targets/{ledger['id']}", json={"url": HOOK})).raise_for_status()
    await execute(
        res,
        "insert into connected_accounts (account, id, name, country, stripe_created_at, seen_at, source) values"
        " ('default', 'acct_1OabcdefGHIJKLMN', 'A marketplace seller with a rather long name', 'US', now(), now(),"
        " 'list')",
    )
    runs = {row["state"]: row["id"] for row in await fetch(res, "select id, state from runs")}
    (message,) = await fetch(res, "select id from messages where type = 'run.stored'")
    event = (await fetch(res, "select stripe_event_id as id from events"))[0]
    ids = {"run": runs["stored"], "failed": runs["failed"], "rule": made["id"], "target": ledger["id"]}
    return {name: str(one) for name, one in {**ids, "message": message["id"], "event": event["id"]}.items()}


async def test_every_table_is_whole_on_a_terminal_of_80_columns(
    res: Resources, simulator: Simulator, tmp_path: Path
) -> None:
    ids = await of_all_kinds(res, simulator)

    async with listening(res) as port:
        environ = {"TALLYHOOK_URL": f"http://127.0.0.1:{port}", "TALLYHOOK_TOKEN": ADMIN_TOKEN}
        for arguments, wanted in TABLES:
            given = [one.format(**ids) for one in arguments]
            ended = await tallyhook(*given, environ=environ, folder=tmp_path, columns=COLUMNS)

            shown = re.sub(r"\x1b\[[0-9;]*m", "", ended.out)
            assert ended.code == 0, shown
            assert [line for line in shown.splitlines() if len(line) > COLUMNS] == [], shown
            words = " ".join(shown.split())
            assert [one for one in wanted if one.format(**ids) not in words] == [], shown
        run = await tallyhook("runs", "show", ids["run"], environ=environ, folder=tmp_path)

    verdicts = [line.split("\t")[1:4] for line in run.out[run.out.index("checks:") :].splitlines()[2:]]
    assert sorted(verdicts)[:2] == [["agrees", "key_unique", "2026-03-01"], ["agrees", "row_net", "2026-03-01"]]


def test_what_does_not_fit_beside_the_others_stands_in_the_next_line() -> None:
    rows = [["1", "daily", "a sentence that says at length what went wrong"], ["22", "", ""], ["3", "日報", "short"]]

    lines = table_lines(["id", "rule", "about"], rows, width=24)

    assert lines == [
        ["id  rule", "  about"],
        ["1   daily", "  a sentence that says", "  at length what went", "  wrong"],
        ["22"],
        ["3   日報", "  short"],
    ]
    assert table_lines(["id", "rule", "about"], rows, width=80)[3] == ["3   日報   short"]
    assert table_lines(["id", "none"], [["1", ""]], width=80) == [["id"], ["1"]], "a column without a value is left out"
    assert table_lines(["id", "none"], [], width=80) == [["id  none"]]
