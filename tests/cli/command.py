"""Runs `tallyhook` as users do: a process of its own, in a folder of its own, with nothing but the given settings."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


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
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", *(str(argument) for argument in arguments)),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": str(folder), **environ},
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    if until is not None:
        await until.wait()
        process.terminate()
    out, errors = await process.communicate(None if stdin is None else stdin.encode())
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), errors.decode())
