"""Commands end cleanly on SIGTERM, Ctrl-C, or when their terminal is closed."""

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from app.db.migrate import MIGRATION_LOCK
from tests.until import PATIENCE_SECONDS, until

ROOT = Path(__file__).parents[2]
HALF_BODY = (
    "POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nStripe-Signature: t={now},v1="
    + "0" * 64
    + "\r\n\r\nhalf"
)
ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that root's lent account may pass through."""
    made = Path(tempfile.mkdtemp(prefix="tallyhook-ending-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@asynccontextmanager
async def command(
    folder: Path, *arguments: str, before: str = "", **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m app …` with its own folder for all that it makes; killed if it does not end."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    environ |= {"PYTHONPATH": str(ROOT), "TALLYHOOK_DATA_DIR": str(folder / "data"), **more}
    shell = f'{before} exec "{sys.executable}" -m app "$@"'
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", shell, "sh", *arguments,
        cwd=folder, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def says(process: asyncio.subprocess.Process, words: bytes, *, times: int = 1) -> bytes:
    """Wait until the command has written these words `times` times; returns all that it has written."""
    assert process.stdout is not None
    written = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while written.count(words) < times:
            piece = await process.stdout.read(1000)
            assert piece, written.decode()
            written += piece
    return written


def left_in(folder: Path) -> list[Path]:
    """What the demo left behind."""
    return list(folder.glob("tallyhook-demo-*"))


def processes_in(folder: Path) -> list[str]:
    """The command lines of living processes that name this folder."""
    lines = [_line_of(process) for process in Path("/proc").iterdir() if process.name.isdecimal()]
    return [line for line in lines if str(folder) in line]


def _line_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


# In the middle of the story; at its end: test_demo.py, with SIGHUP, by a terminal that is closed.
@pytest.mark.slow
@pytest.mark.parametrize(("number", "advances"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])  # of two in a day
async def test_the_demo_leaves_no_process_and_no_folder(folder: Path, number: signal.Signals, advances: int) -> None:
    async with command(folder, "demo", "--days", "1", "--port", "0") as process:
        await says(process, b"Stripe has data until", times=advances)
        process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.communicate()

    assert process.returncode == 0
    assert left_in(folder) == []
    assert processes_in(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["serve", "--port", "0"], ["worker"]], ids=["serve", "worker"])
async def test_a_closed_terminal_takes_the_embedded_server_down_too(folder: Path, arguments: list[str]) -> None:
    async with command(folder, *arguments) as process:
        await says(process, b"service.started")
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.communicate()

    assert process.returncode == 0
    assert processes_in(folder) == []


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
async def test_the_simulator_ends_too(folder: Path, number: signal.Signals) -> None:
    async with command(folder, "simulator", "--port", "0") as process:
        await says(process, b"Ctrl+C stops it")
        process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.communicate()

    assert process.returncode == 0


async def test_a_migration_that_waits_ends_too_and_says_that_it_did_not_finish(
    folder: Path, empty_database_url: str
) -> None:
    asked = "select 1 from pg_stat_activity where datname = current_database() and query like '%try_advisory%'"
    async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as other:

        async def waits() -> bool:
            return (await other.execute(f"{asked} and state = 'idle in transaction'")).rowcount > 0

        await other.execute("select pg_advisory_lock(%s)", [MIGRATION_LOCK])
        async with command(folder, "migrate", DATABASE_URL=empty_database_url) as process:
            await until(waits)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_SECONDS):
                said, _ = await process.communicate()

    assert said.decode().splitlines()[-1] == "tallyhook: stopped before the end"
    assert process.returncode == 1


@pytest.mark.slow
async def test_clients_that_stay_connected_do_not_delay_the_end(folder: Path) -> None:
    patient = {f"TALLYHOOK_{what}_SECONDS": "3600" for what in ("HEADER", "BODY", "IDLE")}
    async with command(folder, "serve", "--port", "0", STRIPE_WEBHOOK_SECRET="whsec_1", **patient) as process:
        port = re.search(rb"http://127.0.0.1:(\d+)", await says(process, b"worker_id"))
        assert port is not None
        halves = [b"", b"GET / HT", HALF_BODY.format(now=int(time.time())).encode()]
        strangers = [await asyncio.open_connection("127.0.0.1", int(port[1])) for _ in halves]
        for (_, writer), half in zip(strangers, halves, strict=True):
            writer.write(half)
            await writer.drain()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.communicate()
        for _, writer in strangers:
            writer.close()

    assert process.returncode == 0
    assert processes_in(folder) == []


async def test_nohup_lets_it_outlive_the_terminal(folder: Path) -> None:
    async with command(folder, "simulator", "--port", "0", before="trap '' HUP;") as process:
        await says(process, b"Ctrl+C stops it")
        ignored = int(_status_of(process.pid)["SigIgn"], 16)
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert ignored & (1 << (signal.SIGHUP - 1))


def _status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
