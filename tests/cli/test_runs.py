"""`tallyhook runs` and `tallyhook events`: list, retry, download, replay; on the database of a service."""

import hashlib
import os
import uuid
from pathlib import Path

import pytest

from app import handlers
from app.resources import Resources
from app.simulator import Simulator
from tests.cli.conftest import Command
from tests.files import stored as files
from tests.service import add_rule, at, execute, fetch, only_run, unpublished, work_off

ALL = "connected_account_balance_change_from_activity.itemized.3"
SHOPS = ["acct_1ShopA", "acct_1ShopB"]


@pytest.fixture
async def stored(res: Resources, simulator: Simulator) -> str:
    """The id of a run whose file is stored, of the rule `daily`."""
    unpublished(simulator, until="2026-03-02")
    await add_rule(res, name="daily")
    await work_off(res)
    return str((await only_run(res))["id"])


@pytest.fixture
async def failed(res: Resources, simulator: Simulator) -> str:
    """The id of a run that failed, of the rule `daily`."""
    simulator.inject("status", status=400, times=None, match={"method": "POST"}, message="no such column")
    unpublished(simulator, until="2026-03-02")
    await add_rule(res, name="daily")
    await work_off(res)
    return str((await only_run(res))["id"])


def original(simulator: Simulator) -> bytes:
    (file,) = simulator.files
    return b"".join(file.content.chunks())


async def test_runs_are_listed_plainly_in_a_pipe(command: Command, stored: str) -> None:
    plain = await command("runs", "list", "--rule", "daily", "--state", "stored")
    for_programs = await command("runs", "list", "--json")
    none = await command("runs", "list", "--state", "failed")

    headings, row = (line.split("\t") for line in plain.out.splitlines())
    assert dict(zip(headings, row, strict=True))["window"] == "2026-03-01"
    assert row[:3] == [stored, "stored", "daily"]
    (run,) = for_programs.json()
    assert (run["id"], run["file"]["sha256"] != "") == (stored, True)
    assert len(none.out.splitlines()) == 1


async def test_one_run_is_shown_with_its_history(command: Command, stored: str) -> None:
    plain, for_programs = await command("runs", "show", stored), await command("runs", "show", stored, "--json")

    assert [line.split()[1] for line in plain.out.split("history:\n")[1].splitlines()] == [
        "planned",
        "requested",
        "ready",
        "stored",
    ]
    assert [move["to_state"] for move in for_programs.json()["history"]] == ["planned", "requested", "ready", "stored"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("runs", "show", "no-uuid"), 2, "RUN_ID"),
        (("runs", "show", uuid.UUID(int=7)), 1, "there is no run"),
        (("runs", "list", "--rule", "nobody"), 1, "there is no rule nobody"),
        (("runs", "list", "--state", "lost"), 2, "lost"),
        (("runs", "retry"), 2, "--failed"),
        (("runs", "retry", uuid.UUID(int=7), "--failed"), 2, "--failed"),
        (("runs", "retry", uuid.UUID(int=7)), 1, "there is no run"),
        (("runs", "download", uuid.UUID(int=7)), 1, "there is no run"),
        (("events", "replay", "evt_none"), 1, "there is no event evt_none"),
    ],
)
async def test_an_impossible_command_is_one_clear_line(
    command: Command, arguments: tuple[object, ...], code: int, said: str
) -> None:
    ended = await command(*arguments)

    assert ended.code == code
    assert said in ended.errors
    assert "Traceback" not in ended.errors
    assert code == 2 or len(ended.errors.splitlines()) == 1


async def test_a_failed_run_is_tried_again_and_its_history_says_by_whom(
    command: Command, res: Resources, simulator: Simulator, failed: str
) -> None:
    simulator.clear_faults()

    ended, again = await command("runs", "retry", failed), await command("runs", "retry", failed)
    await work_off(res)

    assert (ended.code, ended.out) == (0, "1 run will be retried\n")
    assert (again.code, "is planned: only a failed or cancelled one" in again.errors) == (1, True)
    assert (await only_run(res))["state"] == "stored"
    reasons = [move["reason"] for move in await fetch(res, "select reason from run_moves")]
    assert any(reason.startswith("retried by cli:") for reason in reasons)


async def test_all_failed_runs_that_match_are_tried_again(command: Command, res: Resources, failed: str) -> None:
    other = await command("runs", "retry", "--failed", "--report-type", "balance.summary.1", "--json")
    assert (other.json(), (await only_run(res))["state"]) == ({"retried": 0}, "failed")

    mine = await command("runs", "retry", "--failed", "--rule", "daily", "--json")
    assert (mine.json(), (await only_run(res))["state"]) == ({"retried": 1}, "planned")


async def test_retrying_several_is_all_or_none(command: Command, res: Resources, failed: str) -> None:
    ended = await command("runs", "retry", failed, uuid.UUID(int=7))

    assert ended.code == 1
    assert (await only_run(res))["state"] == "failed"


async def test_a_file_is_downloaded_under_its_own_name(
    command: Command, simulator: Simulator, stored: str, tmp_path: Path
) -> None:
    ended = await command("runs", "download", stored, "--json")

    (name,) = os.listdir(tmp_path)
    content = (tmp_path / name).read_bytes()
    assert content == original(simulator)
    digest = hashlib.sha256(content).hexdigest()
    assert ended.json() == {"path": name, "size": len(content), "sha256": digest}


async def test_a_file_that_is_there_is_replaced_only_by_force(
    command: Command, simulator: Simulator, stored: str, tmp_path: Path
) -> None:
    (tmp_path / "report.csv").write_text("mine")

    kept = await command("runs", "download", stored, "-o", "report.csv")
    assert (kept.code, (tmp_path / "report.csv").read_text()) == (1, "mine")

    replaced = await command("runs", "download", stored, "-o", "report.csv", "--force")
    assert (replaced.code, (tmp_path / "report.csv").read_bytes()) == (0, original(simulator))


async def test_a_file_that_is_not_what_it_was_is_not_written(
    command: Command, res: Resources, stored: str, tmp_path: Path
) -> None:
    await execute(res, "update files set sha256 = repeat('0', 64)")

    ended = await command("runs", "download", stored)

    assert ended.code == 1
    assert "do not match the server's SHA-256: download it again" in ended.errors
    assert os.listdir(tmp_path) == []


async def test_lines_of_one_account_are_downloaded_by_run_and_by_date(
    command: Command, remote: Command, res: Resources, simulator: Simulator, tmp_path: Path
) -> None:
    for shop in SHOPS:
        simulator.connect_account(shop, created=at("2026-01-01"))
    unpublished(simulator, ALL, until="2026-03-02")
    await add_rule(res, name="all", report_type=ALL, parameters={"columns": ["connected_account", "net"]})
    await work_off(res)
    header, *lines = original(simulator).splitlines(keepends=True)
    wanted = header + b"".join(line for line in lines if SHOPS[1].encode() in line)
    run_id = (await only_run(res))["id"]

    for ask, of in ((command, (run_id,)), (remote, (run_id,)), (command, ("all", "latest"))):
        ended = await ask("runs", "download", *of, "--connected-account", SHOPS[1], "-o", "b.csv", "--force")
        assert (ended.code, (tmp_path / "b.csv").read_bytes()) == (0, wanted), ended
        (tmp_path / "b.csv").unlink()


_LATE = "where raw_start > 2000000"


@pytest.mark.parametrize(
    "damage",
    [
        f"delete from file_chunks {_LATE}",
        "delete from file_chunks",
        f"update file_chunks set data = 'no frame' {_LATE}",
        "update file_chunks set data = 'no frame'",
        f"update file_chunks set data = substr(data, 1, octet_length(data) - 9) {_LATE}",
    ],
)
@pytest.mark.parametrize("over_http", [True, False])
async def test_a_damaged_file_is_one_clear_line_and_not_written(
    command: Command, remote: Command, res: Resources, stored: str, tmp_path: Path, over_http: bool, damage: str
) -> None:
    ask = remote if over_http else command
    lines = b"".join(b"%s,%d,%s\n" % (shop.encode(), net, os.urandom(4).hex().encode())
                     for shop in SHOPS for net in range(70_000))  # fmt: skip
    await execute(res, "delete from files")
    (rule,) = await fetch(res, "select id from rules")
    await files.store(res, uuid.UUID(stored), b"connected_account,net,noise\n" + lines, rule_id=rule["id"])
    await execute(res, damage)

    for asked in (
        ("runs", "download", stored),
        ("runs", "download", stored, "--connected-account", SHOPS[0]),
        ("pack", "2026-03", "--incomplete"),
    ):
        ended = await ask(*asked)

        assert (ended.code, len(ended.errors.splitlines()), os.listdir(tmp_path)) == (1, 1, []), (asked, ended)
        told = "restore it from a backup" in ended.errors
        assert told or (over_http and "cannot be reached: peer closed" in ended.errors), (asked, ended)


async def test_a_folder_that_is_not_there_is_one_clear_line(command: Command, stored: str) -> None:
    ended = await command("runs", "download", stored, "-o", "nowhere/report.csv")

    assert (ended.code, len(ended.errors.splitlines())) == (1, 1)
    assert "nowhere/report.csv cannot be written" in ended.errors


async def test_a_run_without_a_file_says_so(command: Command, failed: str) -> None:
    ended = await command("runs", "download", failed)

    assert (ended.code, "has no file: it is failed" in ended.errors) == (1, True)


async def keep_event(res: Resources, status: str) -> None:
    await execute(
        res,
        "insert into events (account, stripe_event_id, type, object_id, payload, payload_sha256, status, reason) "
        "values ('default', 'evt_1', 'reporting.report_type.updated', 'x', '{}', '', :status, 'why')",
        status=status,
    )


async def test_events_are_listed_and_handled_again(command: Command, res: Resources) -> None:
    await keep_event(res, "failed")

    listed = await command("events", "list", "--status", "failed")
    others = await command("events", "list", "--type", "charge.succeeded", "--json")
    replayed = await command("events", "replay", "evt_1")

    assert listed.out.splitlines()[1].split("\t")[1] == "evt_1"
    assert others.json() == []
    assert (replayed.code, "will be replayed" in replayed.out) == (0, True)
    assert (await fetch(res, "select status from events"))[0]["status"] == "pending"
    assert await handlers.drain(res) == 1


async def test_an_event_that_is_not_for_us_is_not_handled_again(command: Command, res: Resources) -> None:
    await keep_event(res, "ignored")

    ended = await command("events", "replay", "evt_1", "--json")

    assert (ended.code, "there is nothing to replay" in ended.errors) == (1, True)
    assert (await fetch(res, "select status from events"))[0]["status"] == "ignored"
