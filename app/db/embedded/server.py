"""The embedded PostgreSQL: every process of the service starts or joins it when DATABASE_URL is not set.

A start: join a server that answers; otherwise find the binaries, create the data directory, remove what a dead server
left, start, wait. Why this is safe with any number of processes, `kill -9` and reused process ids: `locks`.
"""

import errno
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import structlog

from app.db.embedded.account import OTHER_CHOICES, Account, account_for, account_name
from app.db.embedded.binaries import Binaries, copy_where_closed, find_binaries
from app.db.embedded.cluster import (
    PORT,
    check_reachable,
    check_socket_folder,
    last_words,
    make_cluster,
    make_socket_folder,
    no_room,
    remove_pid_files,
    server_settings,
    socket_folder_for,
)
from app.db.embedded.locks import POLL_SECONDS, Locks, lock_alone, pause
from app.db.embedded.ping import ANSWER_SECONDS, Answer, ping
from app.errors import EmbeddedPostgresError

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

# A server that runs but does not listen is starting or dying, and both take moments.
SILENT_SECONDS = 60
# We promise that a process exits within 15 s, this server included; calls in flight may take 8 of them.
STOP_SECONDS = 5

log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """The server of one data directory, for any number of processes; the first one creates and starts it."""

    def __init__(self, data: Path, *, fast_unsafe: bool = False, folders: Iterable[Path] | None = None) -> None:
        """`fast_unsafe` is for tests: no fsync. `folders` limits where to look for binaries."""
        self.data = Path(data).resolve()
        self.socket_folder = socket_folder_for(self.data)
        self._fast_unsafe = fast_unsafe
        self._folders = folders
        self._locks = Locks(self.data)
        self._use: int | None = None
        self._released = threading.Event()

    def url(self, database: str = "postgres") -> str:
        """The URL of a database of this server, as libpq takes it; the port is given because PGPORT may be set."""
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self.socket_folder))}&port={PORT}"

    def acquire(self) -> Self:
        """Join the server or start it; call it again every few seconds, from any thread, to restart a dead one.

        Waits for a crash recovery as long as that takes. Raises `EmbeddedPostgresError`, also once it is released.
        """
        if self._use is not None and self._ping() is Answer.READY:
            return self
        try:
            self._make_parent()
            with self._locks.start(unless=self._released):
                self._acquire_locked()
        except OSError as error:
            raise self._explained(error) from error
        return self

    def release(self) -> None:
        """Leave the server for good; the last process to leave stops it. Makes an `acquire` under way give up."""
        self._released.set()
        if self._use is None:
            return
        try:
            with self._locks.start(at_most=STOP_SECONDS):
                self._leave()
        except OSError:
            # A process that holds the lock for so long waits for a recovery. It uses the server, so we are not the last
            # one. Or the folder is gone, lock files and all: the server notices that itself.
            self._forget()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _acquire_locked(self) -> None:
        first = self._use is None
        if first:
            self._use = self._locks.use()
        try:
            self._ensure_running()
        except BaseException:
            if first:
                self._leave()
            raise

    def _ensure_running(self) -> None:
        started = False
        patience = time.monotonic() + SILENT_SECONDS
        # Read after `_use` was set; `release` does it in the other order, so that one of the two notices.
        pause(self._released)
        while (answer := self._ping()) is not Answer.READY:
            if answer is Answer.NOT_YET:
                patience = time.monotonic() + SILENT_SECONDS
            elif self._locks.server_lives():
                self._check_silence(too_long=time.monotonic() > patience)
            else:
                self._start(again=started)
                started = True
            pause(self._released)
        log.info("postgres.started" if started else "postgres.joined", data=str(self.data))

    def _start(self, *, again: bool) -> None:
        if again:
            said = last_words(self.data, self._locks.beside("start.log"))
            raise EmbeddedPostgresError(f"PostgreSQL did not start in {self.data}; it said: {said}")
        account = account_for(self.data)
        check_reachable(self.data.parent, account)
        binaries = find_binaries(self.data, folders=self._folders)
        binaries = copy_where_closed(binaries, account=account, copy=self._locks.beside("binaries"))
        make_cluster(self.data, binaries=binaries, account=account, fast_unsafe=self._fast_unsafe)
        if self.socket_folder != self.data:
            make_socket_folder(self.socket_folder, account)
        remove_pid_files(self.data, self.socket_folder)
        self._spawn(binaries, account)

    def _spawn(self, binaries: Binaries, account: Account) -> None:
        settings = server_settings(self.socket_folder, fast_unsafe=self._fast_unsafe)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [binaries.folder / "postgres", "-D", self.data, *options]
        lock = self._locks.take_for_server()
        try:
            with os.fdopen(self._locks.open("start.log"), "wb") as start_log:
                start_log.truncate()
                server = account.spawn(command, log=start_log, inherited=lock)
        finally:
            # Ours only: the server's copy of the descriptor keeps the lock.
            os.close(lock)
        # Reaped whenever it dies, so that it never remains as a zombie.
        threading.Thread(target=server.wait, name="postgres-reaper", daemon=True).start()

    def _leave(self) -> None:
        try:
            if self._use is not None and lock_alone(self._use):
                self._stop()
        finally:
            self._forget()

    def _forget(self) -> None:
        use, self._use = self._use, None
        if use is not None:
            os.close(use)

    def _stop(self) -> None:
        """Ask the server to stop, cutting connections, and wait a while; it stops by itself if that takes longer."""
        server = self._server_process()
        if server is None:
            return
        # A server that hangs will stop once it runs again, not while we wait.
        patience = STOP_SECONDS if self._ping() is not Answer.NONE else 0
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGINT)
        deadline = time.monotonic() + patience
        while self._locks.server_lives():
            if time.monotonic() > deadline:
                log.warning("postgres.still_stopping", data=str(self.data))
                return
            time.sleep(POLL_SECONDS)
        if self.socket_folder != self.data:
            self.socket_folder.rmdir()
        log.info("postgres.stopped", data=str(self.data))

    def _server_process(self) -> int | None:
        """The process that listens on the socket, according to the kernel; None if no process that we can see does."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_SECONDS)  # a server that hangs takes no more connections once its queue is full
            try:
                self._check_socket_folder()
                client.connect(str(self.socket_folder / f".s.PGSQL.{PORT}"))
            except (OSError, EmbeddedPostgresError):
                return None
            if not hasattr(socket, "SO_PEERCRED"):
                # macOS has no process namespaces, and the pid file of a server that answers is right.
                return int((self.data / "postmaster.pid").read_text().partition("\n")[0])
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        process: int = struct.unpack("3i", credentials)[0]
        # 0 is a server in another container: out of our sight, and not ours to stop.
        return process or None

    def _ping(self) -> Answer:
        """What the server answers on its socket, which is used only in a folder that is private to it."""
        try:
            self._check_socket_folder()
        except FileNotFoundError:
            return Answer.NONE
        return ping(self.socket_folder / f".s.PGSQL.{PORT}")

    def _check_socket_folder(self) -> None:
        if self.socket_folder != self.data:
            check_socket_folder(self.socket_folder, account_for(self.data))

    def _check_silence(self, *, too_long: bool) -> None:
        self._locks.check_server_is_here()
        if too_long:
            raise EmbeddedPostgresError(
                f"processes of the PostgreSQL in {self.data} are still running, but it does not answer: "
                f"look at {self.data / 'log'}, and end them if they stay"
            )

    def _make_parent(self) -> None:
        if self.data.parent.exists():
            return
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # The lent account may pass through; the data directory itself stays closed to all others.
            self.data.parent.chmod(0o711)

    def _explained(self, error: OSError) -> EmbeddedPostgresError:
        # Copying many files collects their errors in one text, without an errno.
        if error.errno == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
            return no_room(self.data.parent)
        where = Path(error.filename or self.data)
        existing = next(path for path in (where, *where.parents) if os.path.lexists(path))
        owner, me = account_name(existing.lstat().st_uid), account_name(os.geteuid())
        whose = (
            "" if owner == me else f" ({existing} belongs to {owner}, and this process runs as {me}; run as {owner})"
        )
        return EmbeddedPostgresError(f"cannot use {where}: {error.strerror or error}{whose}: {OTHER_CHOICES}")
