"""`tallyhook doctor` as a command: exit codes, both forms of output, and no secret in either."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli import app
from app.cli.doctor.view import command_of
from app.health.results import Link, LinkKind
from app.resources import Resources
from app.simulator import Simulator
from tests.cli.command import tallyhook
from tests.cli.conftest import Command
from tests.cli.examined import URL, make_healthy
from tests.runs.stories import days_due
from tests.service import ADMIN_TOKEN, READ_TOKEN, WEBHOOK_SECRET, execute, make_environ

KEY = "sk_test_simulator_default"


async def test_exit_code_0_where_nothing_fails(res: Resources, simulator: Simulator, command: Command) -> None:
    await make_healthy(res, simulator)

    ended = await command("doctor", "--url", URL)

    assert ended.code == 0, ended
    assert ended.errors == ""
    assert {line.split()[0] for line in ended.out.splitlines()} == {"ok"}


async def test_exit_code_1_where_something_fails_with_advice_below(
    res: Resources, simulator: Simulator, command: Command
) -> None:
    await make_healthy(res, simulator)
    await execute(res, "delete from workers")

    plain, for_programs = await command("doctor"), await command("doctor", "--json")

    assert (plain.code, for_programs.code) == (1, 1)
    assert "→ start `tallyhook worker`, or `tallyhook serve` without --no-worker" in plain.out
    assert for_programs.json()["status"] == "failing"
    assert [one["name"] for one in for_programs.json()["findings"] if one["status"] == "failing"] == ["workers"]


async def test_a_finding_names_the_command_that_shows_what_it_is_about(
    res: Resources, simulator: Simulator, command: Command
) -> None:
    await make_healthy(res, simulator)
    await days_due(res, simulator, 1)
    await execute(res, "update runs set state = 'failed'")

    plain, for_programs = await command("doctor"), await command("doctor", "--json")

    assert "→ tallyhook runs list --state failed" in plain.out
    found = {one["name"]: one["command"] for one in for_programs.json()["findings"]}
    assert found["failed_runs"] == "tallyhook runs list --state failed"


@pytest.mark.parametrize(
    "link",
    [
        *map(Link, set(LinkKind) - {LinkKind.ACCOUNTS}),
        Link(LinkKind.CHECKS, {"verdict": "differs"}),
        Link(LinkKind.EVENTS, {"status": "pending"}),
        Link(LinkKind.LOADS, {"state": "failed"}),
        Link(LinkKind.RUNS, {"state": "failed"}),
    ],
    ids=lambda link: f"{link.kind} {dict(link.filter)}",
)
def test_every_link_of_a_check_is_a_command_that_there_is(link: Link) -> None:
    _, *words = str(command_of(link)).split()
    names, options = [word for word in words if word[0] != "-"], [word for word in words if word[0] == "-"]

    found: Any = typer.main.get_command(app)
    while names and hasattr(found, "commands"):
        found = found.commands[names.pop(0)]

    assert set(options) <= {name for option in found.params for name in option.opts}


async def test_bad_usage_is_exit_code_2(tmp_path: Path) -> None:
    without_url = await tallyhook("doctor", "--fix", environ={}, folder=tmp_path)
    wrong_url = await tallyhook("doctor", "--url", "https://reports.example.com", environ={}, folder=tmp_path)

    assert (without_url.code, wrong_url.code) == (2, 2)


async def test_settings_that_are_wrong_are_a_finding_and_no_crash(tmp_path: Path) -> None:
    ended = await tallyhook("doctor", "--json", environ={"STRIPE_API_KEY": "ä"}, folder=tmp_path)

    assert ended.code == 1
    assert [one["name"] for one in ended.json()["findings"]] == ["settings"]


async def test_no_secret_is_printed_but_the_new_one_under_fix_and_that_once(
    simulator: Simulator, tmp_path: Path, empty_database_url: str, command: Command
) -> None:
    # Given whatever may go wrong: a refused key, a database that is away, one without a schema, a malformed setting
    away = make_environ("postgresql://someone:password-canary@127.0.0.1:1/none", simulator)
    malformed = {**away, "TALLYHOOK_MAX_RUN_ATTEMPTS": "many", "STRIPE_ACCOUNTS": '{"key-canary": 1}'}
    refused = {**make_environ(empty_database_url, simulator), "STRIPE_API_KEY": "rk_live_key_canary_51Ab"}

    written = [
        await tallyhook("doctor", *form, environ=environ, folder=tmp_path)
        for environ in (away, malformed, refused)
        for form in ((), ("--json",))
    ]
    fixed = await command("doctor", "--fix", "--url", URL)

    # Then none of it shows
    (endpoint,) = simulator.world.account(None).endpoints.values()
    new = endpoint.secrets[0].value
    everything = "".join(ended.out + ended.errors for ended in [*written, fixed])
    assert everything.count(new) == 1
    for canary in (KEY, "rk_live", "key-canary", "password-canary", WEBHOOK_SECRET, ADMIN_TOKEN, READ_TOKEN):
        assert canary not in everything.replace(new, "")
    assert "put it into STRIPE_WEBHOOK_SECRET" in fixed.out


async def test_a_new_secret_is_in_the_json_too(simulator: Simulator, command: Command) -> None:
    ended = await command("doctor", "--fix", "--json", "--url", URL)

    (endpoint,) = simulator.world.account(None).endpoints.values()
    (fixed,) = ended.json()["fixed"]
    assert (fixed["action"], fixed["secret"]) == ("registered", endpoint.secrets[0].value)


async def test_a_stop_signal_ends_it_with_one_line(database_url: str, simulator: Simulator, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    # Given a Stripe that takes the call and does not answer
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        environ = {**make_environ(database_url, simulator), "STRIPE_API_BASE": url}

        # When the doctor is told to stop while it waits
        ended = await tallyhook("doctor", environ=environ, folder=tmp_path, until=asked)

    # Then it ends
    assert (ended.code, ended.errors) == (1, "tallyhook: stopped before the end\n")
