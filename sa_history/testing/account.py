"""Decide as whom a throw-away PostgreSQL runs: it refuses to run as root."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sa_history.testing.errors import EmbeddedPostgresError

# In this order: "nobody" has no power over the files of a real PostgreSQL.
BORROWED = ("nobody", "postgres")


@dataclass(frozen=True)
class Account:
    """A user to start programs as; by default the one we are.

    :param name: what to call the user in messages.
    :param uid: the user id to switch to; None to stay who we are.
    :param gid: the group id that goes with it.
    :param prefix: a command to put before each program.
    """

    name: str = "the current user"
    uid: int | None = None
    gid: int | None = None
    prefix: tuple[str, ...] = ()

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a short program to its end and return what it printed."""
        return subprocess.run(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=self.extra_groups,
        )

    def own(self, path: Path) -> None:
        """Give *path* to the account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_tree(self, top: Path) -> None:
        """Give *top* and all below it to the account, readable."""
        for path in (top, *top.rglob("*")):
            self.own(path)
            if not path.is_symlink():
                needed = stat.S_IRUSR | (stat.S_IXUSR if path.is_dir() else 0)
                path.chmod(path.stat().st_mode | needed)

    def can_enter(self, directory: Path) -> bool:
        """Tell if the account can reach *directory* through all its parents."""
        # Not by cwd=: subprocess changes the directory before it changes the user.
        enter = self.run("/bin/sh", "-c", 'cd "$1"', "sh", directory)
        return enter.returncode == 0

    @property
    def extra_groups(self) -> list[int] | None:
        """Further groups to run programs with: none of ours."""
        return None if self.uid is None else []

    def command(self, *command: str | Path) -> list[str]:
        """Return what to execute in order to run *command*."""
        return [*self.prefix, *map(str, command)]


def choose_account() -> Account:
    """Return an account that PostgreSQL agrees to run as.

    That is ourselves, unless we are root or a user id without a passwd entry; root
    switches to an account of no power that every system has. Where switching is not
    possible (root of a user namespace), we look like that account in a nested one.
    """
    if sys.platform == "win32":
        raise EmbeddedPostgresError(
            "a throw-away PostgreSQL needs a POSIX system, this is Windows;"
            " set DATABASE_URL to a server you have started"
        )
    uid = os.geteuid()
    if uid != 0 and _has_entry(uid):
        return Account()
    switched = _borrowed(uid)
    mapping = (f"--map-user={switched.uid}", f"--map-group={switched.gid}")
    nested = Account(switched.name, prefix=("unshare", "--user", *mapping, "--"))
    for account in [nested] if uid else [switched, nested]:
        problem = _problem(account)
        if problem is None:
            return account
    raise EmbeddedPostgresError(
        f"user id {uid} cannot run PostgreSQL, nor can it in a user namespace as"
        f" {nested.name!r} ({problem}); run as a user that has a passwd entry, or"
        " set DATABASE_URL"
    )


def _has_entry(uid: int) -> bool:
    import pwd

    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _borrowed(uid: int) -> Account:
    import pwd

    for name in BORROWED:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        f"user id {uid} cannot run PostgreSQL, and of the accounts {BORROWED!r} none"
        " exists to run it as; run as an ordinary user, or set DATABASE_URL"
    )


def _problem(account: Account) -> str | None:
    """Return None if programs can be started as *account*, else why not."""
    try:
        result = account.run("/bin/sh", "-c", ":")
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if result.returncode == 0 else result.stderr.strip()
