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
    create_mock_engine,
    make_url,
)
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from sa_history.baseline import baseline
from sa_history.ddl import Statement
from sa_history.drift import Problem
from sa_history.exc import CommandError, HistoryError
from sa_history.install import check, explained, install, status, uninstall
from sa_history.marks import Mark
from sa_history.objects import objects_of, trackings_in

DRIFT, FAILURE = 1, 2
"""Exit statuses: something is not as the models say; it could not be done."""


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
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        run: Callable[[argparse.Namespace], int], name: str, text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
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
    for state in status(_engine(options), *_metadatas(options)):
        print(state)
    return 0


def _ddl(options: argparse.Namespace) -> int:
    def show(statement: Any, *_: Any, **__: Any) -> None:
        print(f"{str(statement.compile(dialect=engine.dialect)).strip()};\n")

    engine = create_mock_engine("postgresql+psycopg://", show)
    # Nothing is sent by the driver, so no percent sign is to be doubled for it.
    engine.dialect.paramstyle = "named"
    engine.dialect.identifier_preparer._double_percents = False
    for metadata in _metadatas(options):
        if not options.without_tables:
            metadata.create_all(engine, checkfirst=False)
            continue
        for owned in objects_of(metadata):
            show(Statement(owned.made.create()))
            show(Statement(Mark(owned.made)))
    return 0


def _install(options: argparse.Namespace) -> int:
    done = install(_engine(options), *_metadatas(options), prune=options.prune)
    print("\n".join(done) or "nothing to do")
    return 0


def _uninstall(options: argparse.Namespace) -> int:
    done = uninstall(_engine(options), *_metadatas(options))
    print("\n".join(done) or "nothing to do")
    return 0


def _check(options: argparse.Namespace) -> int:
    found = check(_engine(options), *_metadatas(options))
    if not found:
        print("all is as the models say")
    for finding in found:
        print(f"{finding} {options.models}" if finding.command else finding)
    return DRIFT if any(f.problem not in options.allow for f in found) else 0


def _baseline(options: argparse.Namespace) -> int:
    engine = _engine(options)
    trackings = [t for m in _metadatas(options) for t in trackings_in(m)]
    known = {tracking.table.fullname for tracking in trackings}
    unknown = [name for name in options.tables if name not in known]
    if unknown:
        raise CommandError(
            f"there is no tracked table {', '.join(unknown)}; there is "
            f"{', '.join(sorted(known)) or 'none at all'}"
        )
    for tracking in trackings:
        name = tracking.event_table.fullname
        if options.tables and tracking.table.fullname not in options.tables:
            continue

        def report(events: int, name: str = name) -> None:
            print(f"{name}: {events} so far", file=sys.stderr)

        written = baseline(
            engine,
            tracking.table,
            events=tracking.options.events,
            batch=options.batch,
            progress=report,
        )
        print(f"{name}: {written} first events")
    return 0


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
