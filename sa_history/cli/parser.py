"""The command line: ``sa-history``, or ``python -m sa_history``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    Engine,
    MetaData,
    NullPool,
    create_engine,
    make_url,
)
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from sa_history.cli import commands
from sa_history.cli.commands import FAILURE
from sa_history.exc import CommandError, HistoryError
from sa_history.install.api import explained
from sa_history.install.drift import Problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit status.

    :param arguments: as on the command line.

    Example::

        main(["check", "app.models:Base", "--url", "postgresql:///app"])
    """
    options = _parser().parse_args(arguments)
    try:
        done = int(options.run(options))
        sys.stdout.flush()
        return done
    except DBAPIError as error:
        _complain(explained(error))
    except (HistoryError, SQLAlchemyError) as error:
        _complain(str(error))
    except KeyboardInterrupt:
        _complain("interrupted")
    except BrokenPipeError:
        # Whoever reads has seen enough; nothing is to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception:
        # Python would exit with 1, which says something else.
        traceback.print_exc()
    return FAILURE


def _complain(message: str) -> None:
    print(f"sa-history: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sa-history",
        description="Functions, triggers and views of tracked models in a database.",
        epilog="Exit status: 0, done; 1, check has found something; 2, it could not be "
        "done.",
    )
    subparsers = parser.add_subparsers(required=True, metavar="command")

    def command(
        run: Callable[[argparse.Namespace], int], name: str, text: str
    ) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument(
            "models",
            help="where the models are: module:Base or module:metadata; several are "
            "separated by commas",
        )
        if run is not _ddl:
            added.add_argument(
                "--url", help="of the database; DATABASE_URL, if left out"
            )
        return added

    command(_ls, "ls", "List what belongs in the database, and its state.")
    printing = command(_ddl, "ddl", "Print what create_all would run, in order.")
    printing.add_argument(
        "--without-tables",
        action="store_true",
        help="only functions, triggers, views and the sequence",
    )
    installing = command(_install, "install", "Create or renew what is wrong.")
    installing.add_argument(
        "--prune", action="store_true", help="drop what the models do not have any more"
    )
    command(_uninstall, "uninstall", "Drop the triggers and their functions.")
    checking = command(
        _check, "check", "Exit with 1 where something is not as the models say."
    )
    checking.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PROBLEM",
        choices=[problem.value for problem in Problem],
        help="do not exit with 1 for this problem, one of "
        f"{', '.join(Problem)}; may be repeated",
    )
    hardening = command(
        _harden, "harden", "Leave a role no way to its history but to read it."
    )
    hardening.add_argument(
        "--app-role", required=True, metavar="ROLE", help="the application's role"
    )
    hardening.add_argument(
        "--dry-run", action="store_true", help="only print the statements"
    )
    first = command(_baseline, "baseline", "Give rows without an event their first.")
    first.add_argument("tables", nargs="*", help="names of tables; all, if left out")
    first.add_argument(
        "--batch", type=_positive, default=10_000, help="rows in a transaction (10000)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of rows, got {text!r}")
    return int(text)


def _ls(options: argparse.Namespace) -> int:
    return commands.ls(_engine(options), _metadatas(options))


def _ddl(options: argparse.Namespace) -> int:
    return commands.ddl(_metadatas(options), options.without_tables)


def _install(options: argparse.Namespace) -> int:
    return commands.install(_engine(options), _metadatas(options), options.prune)


def _uninstall(options: argparse.Namespace) -> int:
    return commands.uninstall(_engine(options), _metadatas(options))


def _harden(options: argparse.Namespace) -> int:
    return commands.harden(
        _engine(options), _metadatas(options), options.app_role, options.dry_run
    )


def _check(options: argparse.Namespace) -> int:
    metadatas = _metadatas(options)
    return commands.check(
        _engine(options), metadatas, options.allow, f"sa-history {{}} {options.models}"
    )


def _baseline(options: argparse.Namespace) -> int:
    return commands.baseline(
        _engine(options), _metadatas(options), options.tables, options.batch
    )


def _metadatas(options: argparse.Namespace) -> list[MetaData]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as "python -m" does
    return [_metadata(models) for models in options.models.split(",")]


def _metadata(models: str) -> MetaData:
    module_name, _, name = models.partition(":")
    if not module_name or not name:
        raise CommandError(
            f"{models!r} names no models; write module:Base or module:metadata"
        )
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        # The module may raise anything.
        raise CommandError(
            f"{models!r} cannot be imported: {type(error).__name__}: {error}"
            f"{_where(error)}"
        ) from error
    metadata = getattr(found, "metadata", found)
    if not isinstance(metadata, MetaData):
        raise CommandError(
            f"{models!r} is {found!r}, which is no declarative base and no MetaData"
        )
    return metadata


def _where(error: Exception) -> str:
    """Return where a module raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    known = last.filename == __file__ or last.filename.startswith("<frozen importlib")
    is_python = last.filename == importlib.__file__
    return "" if known or is_python else f" ({last.filename}, line {last.lineno})"


# Those of async drivers are an application's that uses asyncio; nothing here does.
_OTHER_NAMES = (
    "postgres",
    "postgresql",
    "postgresql+asyncpg",
    "postgresql+psycopg_async",
)


def _engine(options: argparse.Namespace) -> Engine:
    given = options.url or os.environ.get("DATABASE_URL")
    if not given:
        raise CommandError("no database; give --url, or set DATABASE_URL")
    try:
        url = make_url(given)
        if url.drivername in _OTHER_NAMES:
            url = url.set(drivername="postgresql+psycopg")
        return create_engine(url, poolclass=NullPool)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise CommandError(
            f"the URL of the database cannot be used: {error}"
        ) from error
