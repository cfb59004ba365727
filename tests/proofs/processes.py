"""The service as processes of their own, and a Stripe that reports its calls: for killing them.

They are forked from a process that has imported everything: the proofs start dozens, and importing takes longer than
what is proved. A process of another version is started the usual way.
"""

import asyncio
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.resources import Resources
from app.simulator import Simulator
from app.simulator.faults import CALL_FAULTS, Fault, FaultBook, Subject
from tests.proofs.stage import REPORTS_UNDER_WAY
from tests.service import fetch
from tests.until import until

CODE = os.pathsep.join([str(Path(__file__).parents[2]), sysconfig.get_path("purelib")])
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.proofs.ready"])


class Forked:
    """`python -m <module> <arguments>`, without the imports; used like a `Popen`."""

    def __init__(self, command: list[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self._process = FORKS.Process(target=_become, args=(command, str(cwd), dict(env), str(log)), daemon=True)
        self._process.start()

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def wait(self) -> None:
        """Until it has ended."""
        self._process.join()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _become(command: list[str], cwd: str, env: dict[str, str], log: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


class ServiceProcess:
    """`python -m app <arguments>`, with these variables and no others; what it logs goes to a file in `folder`."""

    def __init__(
        self,
        *arguments: str,
        environ: Mapping[str, str],
        folder: Path,
        module: str = "app",
        code: str = CODE,
    ) -> None:
        self._module = module
        self.kills = 0
        self.up = False
        self._arguments = arguments
        self._environ = {**environ, "PATH": os.environ["PATH"], "PYTHONPATH": code, "PYTHONDONTWRITEBYTECODE": "1"}
        self._is_ours = code == CODE
        self._folder = folder
        self._log = folder / "log.jsonl"
        self._process: Forked | subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether there is a process; `up` says whether it has started working."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> str | None:
        """Start it, and wait until it works (or was killed); the URL that it answers at, if it has a web server."""
        self._folder.mkdir(exist_ok=True)
        self._log.write_bytes(b"")
        self._process = await asyncio.to_thread(self._spawn)
        kills = self.kills
        await until(lambda: self._has_started(kills), "the process has started")
        self.up = self.kills == kills
        return self._started()[0]["url"] if self.up else None

    def _spawn(self) -> "Forked | subprocess.Popen[bytes]":
        command = [self._module, *self._arguments]
        if self._is_ours:
            return Forked(command, cwd=self._folder, env=self._environ, log=self._log)
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self._folder, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def _has_started(self, kills: int) -> bool:
        if not self.running and self.kills == kills:
            raise AssertionError(f"the process ended by itself:\n{self._log.read_text()}")
        return self.kills > kills or bool(self._started())

    def _started(self) -> list[dict[str, str]]:
        return [line for line in self.lines() if line["event"] == "service.started"]

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged so far. The last line may be half written yet."""
        whole = self._log.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]

    def kill(self) -> None:
        """SIGKILL: it does nothing more."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.up = False
        self.kills += 1

    async def killed(self, what: str) -> None:
        """Wait until somebody has killed it."""

        async def was_killed() -> bool:
            return not self.running

        await until(was_killed, what)

    async def end(self) -> int:
        """SIGTERM, and its exit code."""
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGTERM)

        async def has_ended() -> bool:
            return process.poll() is not None

        await until(has_ended, "the process has ended")
        code = process.poll()
        assert code is not None
        return code


@asynccontextmanager
async def cleared_away(*processes: ServiceProcess) -> AsyncIterator[None]:
    """However the test ends, none of the processes stays."""
    try:
        yield
    finally:
        for process in processes:
            if process.running:
                process.kill()


async def has_settled(res: Resources, *, runs: int) -> bool:
    """Whether there are so many runs in the database, and none is under way any more; messages may be."""
    made = await fetch(res, "select count(*) as runs from runs")
    return bool(made[0]["runs"] >= runs) and not await fetch(res, REPORTS_UNDER_WAY)


class Tripwire(FaultBook):
    """Calls `arrived` with each API call (as `GET /v1/…`) before anything is done about it."""

    def __init__(self, simulator: Simulator, arrived: Callable[[str], None]) -> None:
        super().__init__()
        self._arrived = arrived
        self.add(Fault("slow", times=0))  # never strikes; without any rule nothing would look at the calls
        simulator.world.faults = self

    def strike(self, kinds: frozenset[str], subject: Subject) -> dict[str, Fault]:
        if kinds is CALL_FAULTS:
            self._arrived(f"{subject.method} {subject.path}")
        return super().strike(kinds, subject)
