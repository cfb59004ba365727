"""The account that runs the embedded PostgreSQL: PostgreSQL refuses to run as root, so root lends it an unprivileged
one."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.errors import EmbeddedPostgresError

# Packages of PostgreSQL create an account of the first name; the second exists everywhere.
UNPRIVILEGED_ACCOUNTS = ("postgres", "nobody")
OTHER_CHOICES = "set TALLYHOOK_DATA_DIR to another folder, or DATABASE_URL to a PostgreSQL of your own"


@dataclass(frozen=True, slots=True)
class Account:
    """The account that the server and its tools run as; `lent` when it is not our own."""

    name: str
    user_id: int
    group_id: int
    home: str
    lent: bool

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this account; output and errors come back as one text."""
        return subprocess.run(  # noqa: S603  the programs are PostgreSQL's own, found by us, without a shell
            command,
            check=False,
            cwd="/",
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            user=self.user_id if self.lent else None,
            group=self.group_id if self.lent else None,
            extra_groups=[] if self.lent else None,
        )

    def spawn(self, command: Sequence[str | Path], *, log: IO[bytes], inherited: int) -> subprocess.Popen[bytes]:
        """Start a server as this account, out of reach of the terminal's Ctrl-C; it inherits one open file."""
        return subprocess.Popen(  # noqa: S603  as above
            command,
            cwd="/",
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[inherited],
            user=self.user_id if self.lent else None,
            group=self.group_id if self.lent else None,
            extra_groups=[] if self.lent else None,
        )

    def give(self, path: Path) -> None:
        """Give what we just created to the account."""
        if self.lent:
            os.chown(path, self.user_id, self.group_id)

    def _environment(self) -> dict[str, str]:
        # Nothing from our environment: the user's PGDATA, PGOPTIONS or LC_MESSAGES would change what the tools do and
        # say.
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": self.home}


def account_for(data: Path) -> Account:
    """The account to run the server of `data`: our own or, for root, the owner of the data or an unprivileged account.

    Raises `EmbeddedPostgresError` when the data belongs to somebody else, or root finds no account to lend.
    """
    me = os.geteuid()
    found = data.stat() if data.exists() else None
    if me != 0:
        if found and found.st_uid != me:
            owner = account_name(found.st_uid)
            raise EmbeddedPostgresError(
                f"the database in {data} belongs to {owner}, and this process runs as {account_name(me)}: "
                f"run as {owner} or root, or {OTHER_CHOICES}"
            )
        return _account(me, os.getegid(), lent=False)
    if found and found.st_uid != 0:
        return _account(found.st_uid, found.st_gid, lent=True)
    for name in UNPRIVILEGED_ACCOUNTS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _account(entry.pw_uid, entry.pw_gid, lent=True)
    raise EmbeddedPostgresError(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody` for it to run as: "
        "create one, run as an ordinary user, or set DATABASE_URL"
    )


def account_name(user_id: int) -> str:
    """The name of a user id, or the number if it has none."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _account(user_id: int, group_id: int, *, lent: bool) -> Account:
    try:
        home = pwd.getpwuid(user_id).pw_dir
    except KeyError:
        home = "/"
    return Account(name=account_name(user_id), user_id=user_id, group_id=group_id, home=home, lent=lent)
