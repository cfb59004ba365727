"""What benchmarks run on: a PostgreSQL of their own with fsync on, fresh databases, and the service as a process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from app.db.embedded.server import EmbeddedPostgres
from app.db.migrate import migrate

ROOT = Path(__file__).parents[1]
ADMIN_TOKEN = "a-token-for-benchmarks-of-40-characters!"
SECRET = "whsec_for_benchmarks"
KEY = "sk_test_simulator_default"
START_SECONDS = 30


@dataclass
class Stage:
    """One for all benchmarks of a run; `short` asks for quick and rough figures, `profile` for hints."""

    short: bool = False
    profile: bool = False
    folder: Path = field(init=False)
    server: EmbeddedPostgres = field(init=False)

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="tallyhook-bench-"))
        self.folder.chmod(0o711)  # root's lent account passes through
        self.server = EmbeddedPostgres(self.folder / "postgres").acquire()
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            # Loaded, but counts nothing until a database is told to.
            connection.execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
            connection.execute("alter system set pg_stat_statements.track = 'none'")
        self.server.release()
        self.server = EmbeddedPostgres(self.folder / "postgres").acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def _template(self) -> str:
        self._execute(sql.SQL("create database template"))
        migrate(self.server.url("template"))
        return "template"

    @contextmanager
    def database(self, *, empty: bool = False, count_statements: bool = False) -> Iterator[str]:
        """The URL of a fresh database, with the schema unless `empty`; dropped afterwards."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        template = "template1" if empty else self._template
        made = sql.SQL("create database {} template {} strategy file_copy")
        self._execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        if count_statements:
            self._execute(
                sql.SQL("alter database {} set pg_stat_statements.track = 'top'").format(sql.Identifier(name))
            )
            with psycopg.connect(self.server.url(name), autocommit=True) as connection:
                connection.execute("create extension pg_stat_statements")
        try:
            yield self.server.url(name)
        finally:
            self._execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
            # So that writes left over from one round do not slow down the next.
            self._execute(sql.SQL("checkpoint"))

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def service(
        self, *arguments: str, url: str, stripe: str = "http://127.0.0.1:9", root: Path | None = None, **more: object
    ) -> Iterator["Process"]:
        """`python -m app <arguments>` on the database at `url`, up; ended cleanly afterwards.

        `root` is where its code is: elsewhere for another commit (`before`).
        """
        environ = {
            "DATABASE_URL": url,
            "STRIPE_API_KEY": KEY,
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "STRIPE_API_BASE": stripe,
            "STRIPE_FILES_BASE": stripe,
            "TALLYHOOK_ADMIN_TOKEN": ADMIN_TOKEN,
            "TALLYHOOK_REQUESTS_PER_SECOND": "0",
            **{name: str(value) for name, value in more.items()},
        }
        program = ["benchmarks.profiled", str(self.folder / "profile")] if self.profile else ["app"]
        command = [sys.executable, "-m", *program, *arguments]
        with running(command, environ=environ, folder=self.folder, root=root or ROOT) as process:
            process.url = process.wait_for("service.started")["url"]
            yield process


class Process:
    """A process beside the benchmark, what it logs, and what it has cost so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid
        self.url: str = ""

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first log line of this event."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for line in self._log.read_text().splitlines():
                if f'"{event}"' in line:
                    found: dict[str, Any] = json.loads(line)
                    return found
            if self._process.poll() is not None:
                raise RuntimeError(f"the process ended by itself:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.005)
        raise RuntimeError(f"no {event} within {START_SECONDS} s:\n{self._log.read_text()[-2000:]}")

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        return cpu_seconds(self.pid)

    def resident_mib(self) -> float:
        """Its resident memory, shared libraries included."""
        return _status_kib(self.pid, "VmRSS") / 1024

    def peak_mib(self) -> float:
        """Its peak resident memory."""
        return _status_kib(self.pid, "VmHWM") / 1024


@contextmanager
def running(
    command: list[str], *, environ: Mapping[str, str], folder: Path, cwd: Path | None = None, root: Path = ROOT
) -> Iterator[Process]:
    """A process with these variables and no others of ours; SIGTERM in the end. It logs into `folder`."""
    log = folder / f"{uuid.uuid4().hex[:8]}.log"
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "HOME": str(folder)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=cwd or folder, env={**environ, **paths}, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield Process(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(pid: int, *, with_children: bool = False) -> float:
    """Processor time of a process; with what its ended children used, if asked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    counted = fields[11:15] if with_children else fields[11:13]
    return sum(map(int, counted)) / os.sysconf("SC_CLK_TCK")


def _status_kib(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def postgres_cpu_seconds(stage: Stage) -> float:
    """Processor time of the whole database server, ended backends included."""
    postmaster = int((stage.folder / "postgres" / "postmaster.pid").read_text().partition("\n")[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return cpu_seconds(postmaster, with_children=True) + sum(_cpu_if_there(int(child)) for child in children)


def _cpu_if_there(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except FileNotFoundError:
        return 0.0
