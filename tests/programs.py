"""Programs that some tests need and that no wheel brings: Chromium and PgBouncer.

``python -m tests.programs`` installs the missing ones by apt-get. It does nothing
unless it is run by root, on Debian or one of its relatives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A program that is looked for in PATH.

    :param package: the package of Debian that has it.
    :param names: what its file may be called.
    """

    package: str
    names: tuple[str, ...]

    def find(self) -> str | None:
        """The path of the program, or None if it is not installed."""
        # Debian puts servers where the PATH of an ordinary user does not lead.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
        found = (shutil.which(name, path=path) for name in self.names)
        return next(filter(None, found), None)


CHROMIUM = Program("chromium", ("chromium", "chromium-browser", "google-chrome"))
CHROMEDRIVER = Program("chromium-driver", ("chromedriver",))
PGBOUNCER = Program("pgbouncer", ("pgbouncer",))

# What is installed together. Ubuntu has no package of Chromium, but one of PgBouncer.
_GROUPS = [(PGBOUNCER,), (CHROMIUM, CHROMEDRIVER)]


def install() -> None:
    """Install the missing programs, if that is possible without a question."""
    groups = [
        [program.package for program in group]
        for group in _GROUPS
        if not all(program.find() for program in group)
    ]
    if not groups or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print("Installing by apt-get:", *(name for names in groups for name in names))
    _apt_get("update")
    for names in groups:
        command = ("install", "-y", "--no-install-recommends", *names)
        # The time limit is for the download: to end apt-get later does harm.
        if _apt_get(*command, "--download-only"):
            _apt_get(*command, seconds=None)


def _apt_get(*arguments: str, seconds: float | None = 300) -> bool:
    """Run apt-get, say what went wrong if it fails, and return whether it did well."""
    command = ["apt-get", "-qq", "-o", "Acquire::Retries=3", *arguments]
    try:
        subprocess.run(
            [*command, "-o", "DPkg::Lock::Timeout=120"],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired:
        print(f"{' '.join(command)}: ended after {seconds} seconds", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(command)}: {error.stderr.strip()}", file=sys.stderr)
    else:
        return True
    return False


if __name__ == "__main__":
    install()
