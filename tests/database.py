"""Databases for tests: where the server comes from, and one fresh database after the other.

The server is the embedded PostgreSQL, one for all workers of a run, or the one that TEST_DATABASE_URL names (its
role must be allowed to create databases). A run's own folder is locked while the run lives, so that the next run
finds and clears what a killed one left.
"""

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from app.db.embedded.server import EmbeddedPostgres

FOLDER_VARIABLE = "TALLYHOOK_TEST_FOLDER"
FOLDER_PREFIX = "tallyhook-tests-"
# A database is 300 files, and every test makes one: a disk's file system spends up to 0.3 s of processor time on a
# copy, memory 0.01 s. A run needs less than 2 GiB.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 * 2**30


class PostgresServer(Protocol):
    """A server with databases."""

    def url(self, database: str = ...) -> str:
        """The URL of one of its databases."""


@dataclass(frozen=True, slots=True)
class GivenServer:
    """The server of TEST_DATABASE_URL."""

    given_url: str

    def url(self, database: str = "postgres") -> str:
        return make_url(self.given_url).set(database=database).render_as_string(hide_password=False)


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """The server of this run, started or joined."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield GivenServer(given)
        return
    with EmbeddedPostgres(Path(os.environ[FOLDER_VARIABLE]) / "postgres", fast_unsafe=True) as server:
        yield server


@contextmanager
def fresh_database(server: PostgresServer, *, template: str | None = None) -> Iterator[str]:
    """The name of a new database, empty or a copy of `template`; dropped afterwards, even while somebody is
    connected."""
    name = f"tallyhook_test_{uuid.uuid4().hex}"
    if template is None:
        _execute(server, sql.SQL("create database {}").format(sql.Identifier(name)))
    else:
        # A copy of the files is ten times as fast as a copy through the log.
        copy = sql.SQL("create database {} template {} strategy file_copy")
        _execute(server, copy.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield name
    finally:
        _execute(server, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def run_folder() -> Iterator[Path]:
    """A folder of this run, which root's lent account may pass through; pytest's own is closed to it.

    It is in memory if there is enough, unless TMPDIR says where.
    """
    parent = _parent()
    _clear_left_folders(parent)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
    folder.chmod(0o711)
    with _owner_lock(folder) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
        _clear(folder)


def _parent() -> Path:
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
        return MEMORY
    return Path(tempfile.gettempdir())


def _clear_left_folders(parent: Path) -> None:
    for folder in parent.glob(FOLDER_PREFIX + "*"):
        # Runs beside this one come and go: their folders are locked, or gone by now.
        with suppress(BlockingIOError, FileNotFoundError):
            _clear_if_left(folder)


def _clear_if_left(folder: Path) -> None:
    found = folder.stat()
    # A young one may belong to a run that has not locked it yet.
    if found.st_uid != os.geteuid() or time.time() - found.st_mtime < 60:
        return
    with _owner_lock(folder) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _clear(folder)


def _clear(folder: Path) -> None:
    if (folder / "postgres" / "postmaster.pid").exists():
        # Its users were killed: join it, so that we are the last one out.
        EmbeddedPostgres(folder / "postgres", fast_unsafe=True).acquire().release()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _owner_lock(folder: Path) -> Iterator[int]:
    lock = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


def _execute(server: PostgresServer, statement: sql.Composed) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(statement)
