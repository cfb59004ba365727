"""Runs `tallyhook` as users do: in its own process, in its own folder, with only the given settings.

Each process is forked from one that has done the imports, which saves two seconds a command.
"""

import asyncio
import fcntl
import json
import multiprocessing
import os
import struct
import sys
import tempfile
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["app.cli.doctor.view", "app.cli.doctor.stripe", "app.api.as_code.apply", "app.cli.in_process", "app.serving"]
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    errors: str

    def json(self) -> Any:
        return json.loads(self.out)


async def tallyhook(
    *arguments: object,
    environ: Mapping[str, str],
    folder: Path,
    stdin: str | None = None,
    until: asyncio.Event | None = None,
    columns: int | None = None,
) -> Ended:
    """Run one command to its end; `until` is when it is told to stop. With `columns`, on a terminal so wide: all that
    it writes is in `out`."""
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), **environ}
    with tempfile.TemporaryDirectory() as streams:
        _write(streams, "0", stdin or "")
        shown = None if columns is None else _Terminal(columns)
        process = _PROCESSES.Process(
            target=_run,
            args=([str(argument) for argument in arguments], given, str(folder), streams, shown and shown.name),
        )
        process.start()
        if until is not None:
            await until.wait()
            process.terminate()
        reading = None if shown is None else asyncio.create_task(asyncio.to_thread(shown.read))
        await asyncio.to_thread(process.join)
        assert process.exitcode is not None
        if shown is not None and reading is not None:
            shown.close()
            return Ended(process.exitcode, await reading, "")
        return Ended(process.exitcode, _read(streams, "1"), _read(streams, "2"))


class _Terminal:
    """A pseudo-terminal with this many columns."""

    def __init__(self, columns: int) -> None:
        self._ours, self._theirs = os.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.name = os.ttyname(self._theirs)

    def read(self) -> str:
        """Everything that is written, until nobody has it open for writing."""
        written = b""
        try:
            while piece := os.read(self._ours, 65536):
                written += piece
        except OSError:  # so Linux says that the other end is closed
            pass
        os.close(self._ours)
        return written.decode().replace("\r\n", "\n")

    def close(self) -> None:
        """We do not write."""
        os.close(self._theirs)


def _write(streams: str, number: str, text: str) -> None:
    Path(streams, number).write_text(text, encoding="utf-8")


def _read(streams: str, number: str) -> str:
    return Path(streams, number).read_text(encoding="utf-8")


def _run(arguments: list[str], environ: dict[str, str], folder: str, streams: str, terminal: str | None) -> None:
    """In the new process: what the console script does, on streams of its own."""
    from app.cli import main

    for number in (0, 1, 2):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
        opened = os.open(f"{streams}/{number}" if terminal is None or number == 0 else terminal, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.stdin = os.fdopen(0, encoding="utf-8")  # multiprocessing has put nothing there
    sys.argv = ["tallyhook", *arguments]
    main()
