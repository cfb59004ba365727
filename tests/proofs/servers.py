"""Two PostgreSQL servers in streaming replication, made of the embedded binaries, and what a fail-over needs: the
primary is killed, the standby promoted, and everybody's connections lead to it.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psycopg

from app.db.embedded.account import account_for
from app.db.embedded.binaries import find_binaries
from app.db.embedded.cluster import make_cluster, server_settings
from tests.database import FOLDER_VARIABLE
from tests.ports import held_port

STANDBY = "standby"
_TRUST = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"


class Server:
    """A server on the port of this machine that it is given; its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.port = 0
        folder.mkdir()
        self._account = account_for(self.data)
        self._account.give(folder)
        self._binaries = find_binaries(self.data)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """An empty cluster that the other one may copy."""
        make_cluster(self.data, binaries=self._binaries, account=self._account, fast_unsafe=True)
        (self.data / "pg_hba.conf").write_text(_TRUST)

    def copy_of(self, primary_port: int) -> None:
        """A standby of the server that listens there."""
        connection = f"host=127.0.0.1 port={primary_port} user=postgres application_name={STANDBY}"
        command = (self._binaries.folder / "pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast")
        done = self._account.run(*command, "--no-sync", "-d", connection)
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        settings = server_settings(self.data, fast_unsafe=True) | {
            "listen_addresses": "127.0.0.1", "port": str(self.port), "logging_collector": "off",
            "wal_receiver_status_interval": "1s", "wal_retrieve_retry_interval": "200ms",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        kept, other = os.pipe()
        with (self.data.parent / "log").open("wb") as log:
            command: list[str | Path] = [self._binaries.folder / "postgres", "-D", self.data, *options]
            self._process = self._account.spawn(command, log=log, inherited=kept)
        os.close(kept)
        os.close(other)
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.data.parent / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, "the server never answered"
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL for it and all its processes, and for nobody else's."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        ours = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        for child in ours:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        process.wait()

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


class Forwarder:
    """A port that leads to another one: what a load balancer or a service of Kubernetes does."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Forwarder"]:
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def pause(self) -> None:
        """Pass on nothing more, and break nothing off: a lagging network."""
        self._flows.clear()

    def lead_to(self, target: int) -> None:
        """Break off what is open; new connections lead there."""
        self.target = target
        self.cut()

    def cut(self) -> None:
        for writer in self._open:
            writer.close()
        self._open.clear()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._open.add(back)
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer), return_exceptions=True)
        self._open -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


class Pair:
    """A primary, its standby behind a line that can lag, and the port that clients connect to."""

    def __init__(self, folder: Path) -> None:
        self.primary, self.standby = Server(folder / "one"), Server(folder / "other")
        self.clients, self.line = Forwarder(0), Forwarder(0)

    @asynccontextmanager
    async def running(self, *, synchronous: bool) -> AsyncIterator["Pair"]:
        with held_port() as one, held_port() as other:
            self.primary.port, self.standby.port = one, other
            try:
                await asyncio.to_thread(self.primary.make)
                await asyncio.to_thread(self.primary.start)
                self.clients.target = self.line.target = self.primary.port
                async with self.clients.running(), self.line.running():
                    await asyncio.to_thread(self.standby.copy_of, self.line.port)
                    await asyncio.to_thread(self.standby.start)
                    if synchronous:
                        self.primary.execute(f"alter system set synchronous_standby_names = '{STANDBY}'")
                        self.primary.execute("select pg_reload_conf()")
                    yield self
            finally:
                self.primary.kill()
                self.standby.kill()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.clients.port}/postgres"

    def replication(self) -> tuple[str, int] | None:
        """How the standby follows (`sync` or `async`), and how many bytes it is behind."""
        found = self.primary.execute(
            "select sync_state, cast(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) as int) from pg_stat_replication"
        )
        return None if not found else (str(found[0][0]), int(str(found[0][1] or 0)))

    async def fail_over(self) -> None:
        """The primary dies; the standby is promoted, and clients are led to it."""
        await asyncio.to_thread(self.primary.kill)
        await asyncio.to_thread(self.standby.execute, "alter system reset synchronous_standby_names")
        await asyncio.to_thread(self.standby.execute, "select pg_reload_conf()")
        await asyncio.to_thread(self.standby.execute, "select pg_promote(true, 60)")
        self.clients.lead_to(self.standby.port)


@contextmanager
def servers_folder() -> Iterator[Path]:
    """A folder that the servers' account may enter."""
    folder = Path(os.environ[FOLDER_VARIABLE]) / f"pair-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
