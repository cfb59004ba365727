"""The data directory of the embedded PostgreSQL, created completely or not at all; its settings; its private socket."""

import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
from itertools import takewhile
from pathlib import Path

from app.db.embedded.account import OTHER_CHOICES, Account, account_name
from app.db.embedded.binaries import Binaries
from app.errors import EmbeddedPostgresError

# Only names the socket's file: the server listens on no network.
PORT = 5432
# `sockaddr_un` holds 104 bytes on macOS and 108 on Linux; the socket's own name and a NUL take 15 of them.
LONGEST_SOCKET_FOLDER = 85

# Each number has its reason beside it; everything else is PostgreSQL's own default.
SETTINGS = {
    # Only processes on this machine that may enter the socket's folder.
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    # Several processes with a pool and a listener each, and psql.
    "max_connections": "100",
    # The rows that matter are few; the files' bytes stream through and are cached by the kernel.
    "shared_buffers": "128MB",
    # Pages are mostly text: compression leaves a third of the log's volume for little work.
    "wal_compression": "on",
    # A file per weekday, overwritten after a week: bounded without log rotation.
    "logging_collector": "on",
    "log_filename": "pg-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
# After a crash, sync the whole file system in one call, instead of opening each file of a large database.
LINUX_SETTINGS = {"recovery_init_sync_method": "syncfs"}
# For tests only: a crash of the machine loses everything, a crash of the server nothing.
UNSAFE_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


def server_settings(socket_folder: Path, *, fast_unsafe: bool) -> dict[str, str]:
    """All settings of the server, by name."""
    settings = SETTINGS | {"unix_socket_directories": str(socket_folder)}
    if sys.platform == "linux":
        settings |= LINUX_SETTINGS
    return settings | UNSAFE_SETTINGS if fast_unsafe else settings


def socket_folder_for(data: Path) -> Path:
    """The data directory itself, or a folder in /tmp if its path is too long for a socket, or would need quoting.

    /tmp and not TMPDIR: every process must derive the same name. libpq and the server split at commas.
    """
    if len(os.fsencode(data)) <= LONGEST_SOCKET_FOLDER and re.fullmatch(r"[\w./-]+", str(data)):
        return data
    return Path("/tmp", f"tallyhook-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}")  # noqa: S108  ownership is checked


def make_socket_folder(folder: Path, account: Account) -> None:
    """Make the folder private to the account (and root); refuse one that somebody else created."""
    try:
        folder.mkdir(mode=0o700)
        account.give(folder)
    except FileExistsError:
        check_socket_folder(folder, account)


def check_socket_folder(folder: Path, account: Account) -> None:
    """Raise unless the folder is private to the account and not a link: a socket anywhere else could be anybody's."""
    found = folder.lstat()
    if found.st_uid != account.user_id or found.st_mode & 0o170077 != 0o040000:
        raise EmbeddedPostgresError(
            f"{folder} is needed for the database's socket, but is not a private folder of {account.name} "
            f"(it belongs to {account_name(found.st_uid)}): remove it, or {OTHER_CHOICES}"
        )


def check_reachable(folder: Path, account: Account) -> None:
    """Raise if a lent account cannot enter `folder`: we never open the folders above the data to others."""
    if not account.lent:
        return
    ancestors = [*reversed(folder.parents), folder]
    closed = account.run("/bin/sh", "-c", 'for p; do test -x "$p" || { echo "$p"; exit; }; done', "sh", *ancestors)
    if closed.stdout:
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses to run as root, so it runs as {account.name}, which cannot enter "
            f"{closed.stdout.strip()}: set TALLYHOOK_DATA_DIR to a folder that this account can reach, such as "
            "/var/lib/tallyhook, run as an ordinary user, or set DATABASE_URL"
        )


def make_cluster(data: Path, *, binaries: Binaries, account: Account, fast_unsafe: bool) -> None:
    """Create the data directory if there is none; a half-made one is never mistaken for a complete one.

    Raises `EmbeddedPostgresError` with what `initdb` said.
    """
    if (data / "PG_VERSION").exists():
        return
    if data.exists() and any(data.iterdir()):
        raise EmbeddedPostgresError(f"{data} contains files that are not a PostgreSQL database: move them away")
    for interrupted in data.parent.glob(f".{data.name}.init-*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{data.name}.init-", dir=data.parent))
    try:
        account.give(unfinished)
        _initdb(unfinished, binaries=binaries, account=account, fast_unsafe=fast_unsafe)
        unfinished.rename(data)
        _sync_folder(data.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_pid_files(data: Path, socket_folder: Path) -> None:
    """Remove what a dead server left; the caller knows that no server lives.

    PostgreSQL mistakes any process with the number in the file for a running server: a zombie or, after a restart of
    the container, an unrelated process.
    """
    for left in (data / "postmaster.pid", socket_folder / f".s.PGSQL.{PORT}.lock"):
        left.unlink(missing_ok=True)


def no_room(folder: Path) -> EmbeddedPostgresError:
    """The error for a full disk."""
    return EmbeddedPostgresError(
        f"there is no room for a database in {folder}: free some space (100 MB to begin with), or {OTHER_CHOICES}"
    )


def last_words(data: Path, start_log: Path) -> str:
    """The last fatal line of a server that did not start, with its detail and hint; otherwise its last line."""
    lines = start_log.read_text(errors="replace").splitlines()
    if any("redirecting log output" in line for line in lines):
        newest = max((data / "log").glob("*.log"), key=lambda log: log.stat().st_mtime)
        lines = newest.read_text(errors="replace").rpartition("starting PostgreSQL")[2].splitlines()
    fatal = [number for number, line in enumerate(lines) if "FATAL" in line or "PANIC" in line]
    if not fatal:
        return (lines or ["nothing"])[-1]
    more = takewhile(_goes_on, lines[fatal[-1] + 1 :])
    return " ".join([lines[fatal[-1]], *(line.strip() for line in more)])


def _goes_on(line: str) -> bool:
    return line.startswith("\t") or re.search(r"\b(DETAIL|HINT|CONTEXT):  ", line) is not None


def _initdb(data: Path, *, binaries: Binaries, account: Account, fast_unsafe: bool) -> None:
    # Trust is enough: the mode of the socket's folder lets in only this account and root.
    result = account.run(
        *(binaries.folder / "initdb", "--pgdata", data, "--username", "postgres", "--encoding", "UTF8"),
        *("--locale", "C", "--data-checksums", "--auth-local", "trust", "--auth-host", "reject"),
        *(["--no-sync"] if fast_unsafe else []),
    )
    if result.returncode == 0:
        return
    if os.strerror(errno.ENOSPC) in result.stdout:
        raise no_room(data.parent)
    said = " ".join(re.findall(r"error: .*", result.stdout)) or result.stdout[-1000:].strip()
    raise EmbeddedPostgresError(f"PostgreSQL could not create a database in {data.parent} ({said}): {OTHER_CHOICES}")


def _sync_folder(folder: Path) -> None:
    """Make the rename durable: a database with commits must not vanish in a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
