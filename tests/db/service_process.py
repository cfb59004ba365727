"""A process of a service that uses the embedded PostgreSQL, to be killed, and perhaps run as another user."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import psycopg

SOURCE = """
import sys
from pathlib import Path
from app.db.embedded.server import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), fast_unsafe=True) as server:
    print(server.url(), flush=True)
    sys.stdin.read()
"""
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(Path(psycopg.__file__).parents[1])]),
    "PYTHONDONTWRITEBYTECODE": "1",
}


class ServiceProcess:
    """Acquires the server of `data` at once, and holds it until it is told to leave, or is killed."""

    def __init__(self, data: Path, *, python: str = sys.executable, user: str | None = None) -> None:
        self._process = subprocess.Popen(
            [python, "-c", SOURCE, data],
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            group=None if user is None else "nogroup",
            extra_groups=None if user is None else [],
        )

    def url(self) -> str:
        """Wait for the server; its URL. To be asked once."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("postgresql://"):
                return line.strip()
        raise AssertionError(self.last_line())

    def is_running(self) -> bool:
        return self._process.poll() is None

    def leave(self) -> None:
        """Exit cleanly."""
        self._process.communicate()
        assert self._process.returncode == 0

    def last_line(self) -> str:
        """The last line of a process that failed."""
        _, errors = self._process.communicate()
        return errors.strip().splitlines()[-1]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@cache
def ordinary_python() -> str | None:
    """An interpreter that the account `nobody` may run with our packages; None for an ordinary user, or without one."""
    if os.geteuid() != 0:
        return None
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            tried = subprocess.run(
                [python, "-c", "import app.db.embedded.server"],
                cwd="/",
                env=ENVIRONMENT,
                user="nobody",
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return python
    return None
