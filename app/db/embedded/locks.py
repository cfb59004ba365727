"""Who uses the embedded PostgreSQL, and whether it is running: three lock files beside the data directory.

The kernel drops each lock with the process that holds it, however that process ends, so no lock can be left over:

* `start`   held by the process that is looking, starting or stopping: one at a time;
* `users`   shared by every process that uses the server: a process that gets it alone is the last one, and stops the
server;
* `server`  held by the server and all its children, who inherit it: if it is free, no process of the server is left,
whatever its pid file says. Its text names the machine.

The same lock tells a server on another machine (with a shared file system) from a dead one, as a socket answers only on
its own machine. If it answers: join, even if the host's name has changed. If it is silent and the lock is free: no
server is running, so start one; a container that returns with a new host name is not locked out. If it is silent and
the lock is held: the server is starting or dying, so wait; but if the text names another machine (by its boot id, as
containers on one machine have different names), refuse and name the host.
"""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import EmbeddedPostgresError

POLL_SECONDS = 0.03


class Locks:
    """The lock files of one data directory, and the other files beside it under its name."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def beside(self, name: str) -> Path:
        """The path of one of our files beside the data directory, whose inside belongs to PostgreSQL."""
        return self._data.with_name(f".{self._data.name}.{name}")

    def open(self, name: str) -> int:
        """Open one of our files, private to us; root never follows a link that somebody may have planted."""
        return os.open(self.beside(name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    @contextmanager
    def start(self, *, unless: threading.Event | None = None, at_most: float | None = None) -> Iterator[None]:
        """Hold `start`. Raises `EmbeddedPostgresError` once `unless` is set, `TimeoutError` after `at_most` seconds."""
        lock = self.open("start.lock")
        deadline = None if at_most is None else time.monotonic() + at_most
        try:
            while not lock_alone(lock):
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError
                pause(unless)
            yield
        finally:
            os.close(lock)

    def use(self) -> int:
        """Become a user of the server, until the returned descriptor is closed."""
        lock = self.open("users.lock")
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def take_for_server(self) -> int:
        """Take `server` and write this machine's name into it; the server inherits the descriptor."""
        lock = self.open("server.lock")
        if not lock_alone(lock):
            os.close(lock)
            raise EmbeddedPostgresError(f"processes of a PostgreSQL in {self._data} are still running")
        os.ftruncate(lock, 0)
        os.write(lock, f"{socket.gethostname()}\n{_this_boot()}".encode())
        return lock

    def server_lives(self) -> bool:
        """Whether any process of the server or its children is running anywhere on this file system."""
        lock = self.open("server.lock")
        try:
            return not lock_alone(lock)
        finally:
            os.close(lock)

    def check_server_is_here(self) -> None:
        """Raise if the running server was started on another machine."""
        host, _, boot = self.beside("server.lock").read_text().partition("\n")
        if boot != _this_boot():
            raise EmbeddedPostgresError(
                f"the database in {self._data} is in use by the host {host}: stop Tallyhook there first, "
                "or let both use one PostgreSQL with DATABASE_URL"
            )


def lock_alone(lock: int) -> bool:
    """Take the lock exclusively, at once or not at all."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def pause(unless: threading.Event | None) -> None:
    """Wait for a moment; raises when `unless` is set."""
    if unless is None:
        time.sleep(POLL_SECONDS)
    elif unless.wait(POLL_SECONDS):
        raise EmbeddedPostgresError("the database was released while it was being started")


def _this_boot() -> str:
    """Identifies this boot of this machine; its containers share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
