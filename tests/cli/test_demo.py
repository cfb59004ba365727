"""The demo as people see it: in a terminal of 80 columns and 24 lines, which is closed, and without one."""

import asyncio
import fcntl
import io
import os
import re
import socket
import sys
import termios
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from app.cli.demo.story import LINES as STORY_LINES
from app.cli.demo.story import Story
from app.resources import Resources
from tests.cli.test_ending import ROOT, command, folder, left_in, processes_in
from tests.until import PATIENCE_SECONDS

__all__ = ["folder"]

LINES, COLUMNS = 24, 80
# Sequences that move the cursor and colour the text.
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
# How rich redraws a picture: back to its first line.
_REDRAWN = re.compile(rb"(?:\x1b\[1A\x1b\[2K)+")


@pytest.fixture
def taken_port() -> Iterator[int]:
    """The demo's usual port, in use: by us, or by somebody else on this machine."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 8000))
            listener.listen()
        except OSError:
            pass
        yield 8000


async def _in_terminal(folder: Path, *arguments: str) -> tuple[asyncio.subprocess.Process, int]:
    """The command as the leader of a session in a terminal of its own, and that terminal's other end."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (LINES, COLUMNS))
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "TERM": "xterm-256color"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", *arguments,
        cwd=folder, env={**environ, "PYTHONPATH": str(ROOT)}, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def _read_until(terminal: int, words: bytes) -> bytes:
    """Everything that was written, up to these words."""
    written = b""
    while words not in written:
        written += os.read(terminal, 65_536)
    return written


async def test_the_newest_line_of_the_story_is_drawn_however_long_those_before_are(res: Resources) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=COLUMNS, height=LINES)

    with Story(console, res) as story:
        for number in range(STORY_LINES):
            story.tell(
                f"  webhook    reporting.report_type.updated {'balance_change_from_activity.itemized.' * 2}{number}"
            )
        story.tell("PROBLEM: a worker is killed [/while] it works")

    assert "PROBLEM: a worker is killed [/while] it works" in screen.getvalue()


@pytest.mark.slow
async def test_the_demo_fits_a_terminal_and_ends_when_that_is_closed(folder: Path, taken_port: int) -> None:
    process, terminal = await _in_terminal(folder, "demo", "--days", "2")
    async with asyncio.timeout(PATIENCE_SECONDS):
        written = await asyncio.to_thread(_read_until, terminal, b"Ctrl-C ends the demo")
    os.close(terminal)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await process.wait()

    pictures = _REDRAWN.findall(written)
    assert pictures
    assert max(picture.count(b"\x1b[1A") for picture in pictures) < LINES
    while_it_runs = written[: written.rindex(pictures[-1])]
    lines = _ESCAPES.sub(b"", _REDRAWN.sub(b"\n", while_it_runs)).decode().replace("\r", "").split("\n")
    assert [line for line in lines if len(line) > COLUMNS] == []
    assert "Watch it in a browser" in "".join(lines)
    assert b"what happens" in written
    for problem in (b"webhook is lost", b"Stripe fails to make", b"download breaks off", b"worker is killed"):
        assert problem in written
    assert re.search(rb"Look at it: http://127\.0\.0\.1:(\d+)/login\?link=\S+#go", written)
    assert f":{taken_port}/".encode() not in written
    assert left_in(folder) == []
    assert processes_in(folder) == []


@pytest.mark.slow
async def test_a_demo_that_ends_by_itself_prints_money_what_differs_and_no_address_that_is_dead_by_then(
    folder: Path,
) -> None:
    async with command(folder, "demo", "--once", "--days", "3", "--port", "0") as process:
        async with asyncio.timeout(PATIENCE_SECONDS):
            written, _ = await process.communicate()

    assert process.returncode == 0, written.decode()
    assert b"files stored" in written
    assert b"http://" not in written
    nets = re.findall(r"^│ (\w{3}) +│ +(-?[\d,.]+) │$", written.decode(), re.MULTILINE)
    assert len(nets) > 1
    assert "usd" in dict(nets)
    # The row that the last problem removes from a report is missing from its currency's sum, and from no other.
    assert b"PROBLEM: a row is missing" in written
    differ = r"activity_total of \d{4}-\d\d-\d\d, \w{3}: (\S+) and (\S+) differ by (\S+)"
    ((of_balance, of_rows, difference),) = re.findall(differ, written.decode())
    assert Decimal(of_balance) - Decimal(of_rows) == Decimal(difference) != 0
    assert re.search(rb"checks +\d+ agree, 1 differs ", written)
    assert left_in(folder) == []
    assert processes_in(folder) == []
