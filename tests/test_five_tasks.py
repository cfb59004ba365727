"""What people do every day, each in at most two steps: run as written at `/docs`, by curl, command line and pages.

The reports are those of the last whole month and of this one until yesterday, as the examples' October is long past.
"""

import asyncio
import io
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from app.api.openapi.tasks import TASKS
from app.resources import Resources, open_resources
from app.simulator import Simulator
from tests import service
from tests.api.conftest import listening
from tests.cli.command import tallyhook
from tests.days import today
from tests.proofs.announced import SETTINGS
from tests.service import ADMIN_TOKEN, add_rule, unpublished
from tests.targets.receivers import WebReceiver, web_receiver
from tests.targets.stories import send_due
from tests.web.visiting import log_in, visitor

TYPE = "payout_reconciliation.itemized.7"
RULE, SPREADSHEET, PACK, TOLD, SINCE, WHY = TASKS
Run = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Days:
    """Those that the test speaks of: asked when it runs, as it may be another day than when it was collected."""

    today: date

    @property
    def yesterday(self) -> date:
        return self.today - timedelta(days=1)

    @property
    def last(self) -> date:
        """Of the last whole month."""
        return self.today.replace(day=1) - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Doors:
    """How people reach the service: each runs a command as written, and returns what it wrote."""

    curl: Run
    shell: Run
    pages: httpx.AsyncClient


@pytest.fixture
async def res(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    async with open_resources(service.make_settings(database_url, simulator, **SETTINGS)) as res:
        yield res


@pytest.fixture
def days() -> Days:
    return Days(today())


@pytest.fixture
async def receiver() -> AsyncIterator[WebReceiver]:
    async with web_receiver() as receiver:
        yield receiver


@pytest.fixture
async def doors(days: Days, res: Resources, receiver: WebReceiver, tmp_path: Path) -> AsyncIterator[Doors]:
    async with listening(res) as port, visitor(res) as pages:
        url = f"http://127.0.0.1:{port}"
        environ = {"TALLYHOOK_URL": url, "TALLYHOOK_TOKEN": ADMIN_TOKEN}

        async def curl(command: str) -> bytes:
            program, *words = shlex.split(
                _here(command, days, receiver).replace("$URL", url).replace("$TOKEN", ADMIN_TOKEN)
            )
            assert program == "curl"
            process = await asyncio.create_subprocess_exec(program, "--silent", *words, cwd=tmp_path, stdout=-1)
            written, _ = await process.communicate()
            return written

        async def shell(command: str) -> bytes:
            program, *words = shlex.split(_here(command, days, receiver))
            assert program == "tallyhook"
            ended = await tallyhook(*words, "--json", environ=environ, folder=tmp_path)
            assert ended.errors == "" or ended.code == 1, ended
            return (ended.out or ended.errors).encode()

        await log_in(pages)
        yield Doors(curl, shell, pages)


def _here(command: str, days: Days, receiver: WebReceiver) -> str:
    """The command with days of the last month, and a receiver that exists."""
    for shown, meant in {"2026-10-31": f"{days.last}", "2026-10": f"{days.last:%Y-%m}"}.items():
        command = command.replace(shown, meant)
    return command.replace("https://ledger.example.com/hook", receiver.url)


async def publish(res: Resources, simulator: Simulator, until: date) -> None:
    """Stripe's data reaches this midnight, and everything due is done."""
    simulator.advance(TYPE, to=service.at(f"{until}"))
    await service.work_off(res)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the commands are run as written: install curl")
async def test_each_of_the_five_tasks_takes_one_command_or_two_clicks(
    res: Resources, simulator: Simulator, receiver: WebReceiver, doors: Doors, days: Days, tmp_path: Path
) -> None:
    unpublished(simulator, TYPE, until=f"{days.last}")
    await add_rule(res, name="payouts", report_type=TYPE, starts_on=days.last.replace(day=1))
    await service.work_off(res)

    # Why is a report missing? Its data is not there yet, and it says when it will be.
    windows = {_first(one): one for one in json.loads(await doors.shell(WHY.shell))}
    assert {_first(one): one for one in json.loads(await doors.curl(WHY.curl))["data"]} == windows
    assert len(windows) == days.last.day
    assert windows.pop(days.last)["waiting"] == {
        "reason": "availability",
        "until": f"{days.last + timedelta(1)}T00:00:00Z",
    }
    assert {one["state"] for one in windows.values()} == {"stored"}
    assert f"{days.last}" in (await doors.shell(PACK.shell)).decode(), "it says what is missing"
    await doors.curl(PACK.curl)
    assert _taken(tmp_path, "*.zip") == [], "what is refused leaves no file"

    # A bookkeeping system is told at once, by either door
    secret = json.loads(await doors.curl(TOLD.curl))["secret"]
    also = json.loads(await doors.shell(TOLD.shell.replace("ledger --to", "books --to")))["secret"]
    began = datetime.now(UTC)
    await publish(res, simulator, days.today)
    await send_due(res)
    number = (days.today - days.last).days
    assert receiver.types.count("run.stored") == 2 * number
    for one in receiver.received:
        assert any(_verifies(key, one.body, one.headers) for key in (secret, also))

    # New files since a given time
    since = began.isoformat().replace("+00:00", "Z")
    since_then = json.loads(await doors.curl(SINCE.curl.replace("2026-10-01T00:00:00Z", since)))["data"]
    by_shell = json.loads(await doors.shell(SINCE.shell.replace("2026-10-01T00:00:00Z", since)))
    assert [_first(run) for run in since_then] == [_first(run) for run in by_shell]
    assert {_first(run) for run in since_then} == {days.last + timedelta(later) for later in range(number)}

    # Yesterday's payout reconciliation in a spreadsheet
    for run, command in ((doors.curl, SPREADSHEET.curl), (doors.shell, SPREADSHEET.shell)):
        await run(command)
        ((name, sheet),) = _taken(tmp_path, "*.xlsx")
        assert f"{days.yesterday}" in name
        assert zipfile.is_zipfile(io.BytesIO(sheet))

    # All of the month as one ZIP, the same bytes by either door
    await doors.curl(PACK.curl)
    by_curl = _taken(tmp_path, "*.zip")
    await doors.shell(PACK.shell)
    ((_, pack),) = _taken(tmp_path, "*.zip")
    assert [written for _, written in by_curl] == [pack]
    assert _packed(pack) == days.last.day

    await _by_pages(doors.pages, days, pack)


async def _by_pages(pages: httpx.AsyncClient, days: Days, pack: bytes) -> None:
    """The same with a mouse: at most two clicks from Today. Why a report is missing: tests/web/browser."""
    first = await pages.get("/")
    rule = await _click(pages, first, r'href="(/rules/[0-9a-f-]{36})"')
    sheet = await _click(pages, rule, r'href="(/runs/[^"]+/file\?format=xlsx)"')
    assert f"{days.yesterday}" in sheet.headers["content-disposition"]
    assert zipfile.is_zipfile(io.BytesIO(sheet.content))
    month = await _click(pages, first, r'href="(/months)"')
    assert (await _click(pages, month, r'href="(/months/[^"]+/pack\.zip)"')).content == pack
    target = await _click(pages, await _click(pages, first, r'href="(/targets)"'), r'href="(/targets/new)"')
    assert 'name="url"' in target.text
    runs = await _click(pages, first, r'href="(/runs)"')
    assert runs.text.count('href="/runs/') > 1


async def _click(pages: httpx.AsyncClient, page: httpx.Response, link: str) -> httpx.Response:
    found = re.search(link, page.text)
    assert found, (link, page.text)
    answer = await pages.get(found[1], follow_redirects=True)
    assert answer.status_code == 200, answer.text
    return answer


def _taken(folder: Path, pattern: str) -> list[tuple[str, bytes]]:
    """The files of this kind, by name; the folder is empty of them then."""
    found = [(path.name, path.read_bytes()) for path in folder.glob(pattern)]
    for name, _ in found:
        (folder / name).unlink()
    return found


def _first(one: dict[str, Any]) -> date:
    return date.fromisoformat(one["window"]["first"])


def _packed(pack: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return len(json.loads(archive.read("manifest.json"))["files"])


def _verifies(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def test_the_documents_have_the_same_commands() -> None:
    """`/docs` shows TASKS; the page about the command line is for people who read on GitHub."""
    page = (Path(__file__).parents[1] / "docs/howto/command-line.md").read_text()

    assert [task.shell for task in TASKS if f"`{task.shell}`" not in page] == []
