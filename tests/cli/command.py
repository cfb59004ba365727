"""Runs `tallyhook` as users do: a process of its own, in a folder of its own, with nothing but the given settings.

Each process is forked from one that has done the imports, which saves two seconds a command.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["app.cli.doctor.view", "app.cli.doctor.stripe", "app.api.rule_apply", "app.cli.in_process", "app.serving"]
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
) -> Ended:
    """Run one command to its end; `until` is when it is told to stop."""
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), **environ}
    with tempfile.TemporaryDirectory() as streams:
        _write(streams, "0", stdin or "")
        process = _PROCESSES.Process(
            target=_run, args=([str(argument) for argument in arguments], given, str(folder), streams)
        )
        process.start()
        if until is not None:
            await until.wait()
            process.terminate()
        await asyncio.to_thread(process.join)
        assert process.exitcode is not None
        return Ended(process.exitcode, _read(streams, "1"), _read(streams, "2"))


def _write(streams: str, number: str, text: str) -> None:
    Path(streams, number).write_text(text, encoding="utf-8")


def _read(streams: str, number: str) -> str:
    return Path(streams, number).read_text(encoding="utf-8")


def _run(arguments: list[str], environ: dict[str, str], folder: str, streams: str) -> None:
    """In the new process: what the console script does, on streams of its own."""
    from app.cli import main

    for number in (0, 1, 2):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
        opened = os.open(f"{streams}/{number}", flags)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.stdin = os.fdopen(0, encoding="utf-8")  # multiprocessing has put nothing there
    sys.argv = ["tallyhook", *arguments]
    main()
