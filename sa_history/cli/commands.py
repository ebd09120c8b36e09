"""The commands: what they are called, what they take, do and print.

``sa-history`` and ``flask history`` make their parsers of :data:`COMMANDS`, so that
both have a command that is added here. What a command does to a database is in
``install`` or ``writing``; what it reads of the catalog is in ``ddl.catalog``.
"""

from __future__ import annotations

import enum
import os
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, MetaData, create_mock_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sa_history.ddl.elements import Statement
from sa_history.ddl.fingerprint import SetComment
from sa_history.exc import CommandError, HistoryError
from sa_history.install import api as installation
from sa_history.install.drift import Problem
from sa_history.install.expected import has_objects, objects_of, trackings_in
from sa_history.install.survey import explained
from sa_history.writing.baseline import baseline as write_baseline

DRIFT, FAILURE = 1, 2
"""Exit statuses: something is not as the models say; it could not be done."""


@dataclass(frozen=True)
class Database:
    """A database, and the models that have tables in it.

    :param metadatas: the models.
    :param command: how a command is called, with braces for its name, such as
        ``"flask history {}"``.
    :param url_engine: the engine, None for a command that needs no database.
    :param targets: what messages call the models, one for each MetaData.
    :param may_track_nothing: True if a configuration lists the database, which need not
        be one with tracked models; False if the models were given for it.
    """

    metadatas: Sequence[MetaData]
    command: str
    url_engine: Engine | None
    targets: Sequence[str]
    may_track_nothing: bool = False

    @property
    def engine(self) -> Engine:
        """The engine, of a command that needs a database."""
        assert self.url_engine is not None
        return self.url_engine

    @property
    def without_objects(self) -> list[str]:
        """The targets that track nothing, and have no triggers or views either."""
        pairs = zip(self.targets, self.metadatas, strict=True)
        return [target for target, metadata in pairs if not has_objects(metadata)]


class Kind(enum.Enum):
    """What an argument takes."""

    FLAG = "nothing; True if it is given"
    TEXT = "a text; it has to be given"
    COUNT = "a number from 1 on"
    CHOICES = "one of some values; it may be given several times"
    NAMES = "any number of names, by their position"


@dataclass(frozen=True)
class Argument:
    """An argument of a command.

    :param name: such as ``"--dry-run"``; the function's parameter is ``dry_run``.
    :param kind: what it takes.
    :param help: what it means.
    :param metavar: the name of its value in a usage, None for a flag.
    :param choices: the values of ``Kind.CHOICES``.
    :param default: the value of ``Kind.COUNT`` if it is left out.
    """

    name: str
    kind: Kind
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    default: int | None = None


@dataclass(frozen=True)
class Command:
    """A command.

    :param run: the function, which is given a :class:`Database` and a keyword for each
        argument, and returns an exit status.
    :param help: a line about it.
    :param arguments: what it takes beside the models and the database.
    :param needs_database: False if it reads models only.
    :param shows_unclaimed: True if it prints what is in the database, so that it shows
        what no model claims before it refuses models that track nothing.
    """

    run: Callable[..., int]
    help: str
    arguments: tuple[Argument, ...] = ()
    needs_database: bool = True
    shows_unclaimed: bool = False

    @property
    def name(self) -> str:
        """The name, which is that of the function."""
        return self.run.__name__


def exit_status(program: str, run: Callable[[], int]) -> int:
    """Run something, and return an exit status, whatever happens.

    :param program: the name that is printed before an error.
    :param run: returns the exit status if all goes well.
    """
    try:
        status = run()
        sys.stdout.flush()
        return status
    except DBAPIError as error:
        message = explained(error)
    except (HistoryError, SQLAlchemyError) as error:
        message = str(error)
    except KeyboardInterrupt:
        message = "interrupted"
    except BrokenPipeError:
        # Whoever reads has seen enough; nothing is to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception:
        # Python would exit with 1, which says something else.
        traceback.print_exc()
        return FAILURE
    print(f"{program}: {message}", file=sys.stderr)
    return FAILURE


def run_command(
    command: Command, databases: Sequence[Database], options: Mapping[str, Any]
) -> int:
    """Run a command for each database, and return the highest exit status.

    :param options: the values of its arguments, by the names of parameters.
    :raises CommandError: models track nothing, or ``tables`` names a table that no
        model tracks.
    """
    databases = _with_objects(command, databases, options)
    _require_tables(databases, options.get("tables", ()))
    return max(command.run(database, **options) for database in databases)


def ls(database: Database) -> int:
    """Print what belongs in the database, and its state."""
    for state in installation.status(database.engine, *database.metadatas):
        print(state)
    return 0


def check(database: Database, allow: Collection[str]) -> int:
    """Print what is not as the models say, each with what mends it.

    :param allow: problems that are no reason to fail.
    """
    found = installation.check(database.engine, *database.metadatas)
    if not found:
        print("all is as the models say")
    for finding in found:
        print(finding.message(database.command))
    return DRIFT if any(f.problem not in allow for f in found) else 0


def install(database: Database, prune: bool) -> int:
    """Create or renew what is wrong, and print what was done."""
    done = installation.install(database.engine, *database.metadatas, prune=prune)
    print("\n".join(done) or "nothing to do")
    return 0


def uninstall(database: Database) -> int:
    """Drop triggers and functions, and print what was done."""
    done = installation.uninstall(database.engine, *database.metadatas)
    print("\n".join(done) or "nothing to do")
    return 0


def ddl(database: Database, without_tables: bool) -> int:
    """Print what create_all would run.

    :param without_tables: print only functions, triggers, views and the sequence.
    """

    def show(statement: Any, *_: Any, **__: Any) -> None:
        print(f"{str(statement.compile(dialect=dialect)).strip()};\n")

    engine = create_mock_engine("postgresql+psycopg://", show)
    dialect: Any = engine.dialect
    # Nothing is sent by the driver, so no percent sign is to be doubled for it.
    dialect.paramstyle = "named"
    dialect.identifier_preparer._double_percents = False
    # SQLAlchemy 2.0 doubles backslashes for a server that it has not met.
    dialect._backslash_escapes = False
    for metadata in database.metadatas:
        if not without_tables:
            metadata.create_all(engine, checkfirst=False)
            continue
        for expected in objects_of(metadata):
            show(Statement(expected.definition.create()))
            show(Statement(SetComment(expected.definition)))
    return 0


def harden(database: Database, app_role: str, dry_run: bool) -> int:
    """Revoke what a role could touch its history with, and print the statements."""
    for statement in installation.harden(
        database.engine, *database.metadatas, role=app_role, dry_run=dry_run
    ):
        print(f"{statement};")
    return 0


def baseline(database: Database, tables: Sequence[str], batch: int) -> int:
    """Give rows without an event their first one, and print how many.

    :param tables: the names of tracked tables; all, if there are none. Those that are
        in another database are left out.
    :param batch: rows in a transaction.
    """
    for tracking in (t for m in database.metadatas for t in trackings_in(m)):
        name = tracking.event_table.fullname
        if tables and tracking.table.fullname not in tables:
            continue

        def report(events: int, name: str = name) -> None:
            print(f"{name}: {events} so far", file=sys.stderr)

        written = write_baseline(
            database.engine,
            tracking.table,
            events=tracking.options.events,
            batch=batch,
            progress=report,
        )
        print(f"{name}: {written} first events")
    return 0


COMMANDS = (
    Command(
        ls, "List what belongs in the database, and its state.", shows_unclaimed=True
    ),
    Command(
        ddl,
        "Print what create_all would run, in order.",
        (
            Argument(
                "--without-tables",
                Kind.FLAG,
                "only functions, triggers, views and the sequence",
            ),
        ),
        needs_database=False,
    ),
    Command(
        install,
        "Create or renew what is wrong.",
        (Argument("--prune", Kind.FLAG, "drop what the models do not have any more"),),
    ),
    Command(uninstall, "Drop the triggers and their functions."),
    Command(
        check,
        "Exit with 1 where something is not as the models say.",
        (
            Argument(
                "--allow",
                Kind.CHOICES,
                "do not exit with 1 for this problem, one of "
                f"{', '.join(Problem)}; may be repeated",
                metavar="PROBLEM",
                choices=tuple(problem.value for problem in Problem),
            ),
        ),
        shows_unclaimed=True,
    ),
    Command(
        harden,
        "Leave a role no way to its history but to read it.",
        (
            Argument("--app-role", Kind.TEXT, "the application's role", metavar="ROLE"),
            Argument("--dry-run", Kind.FLAG, "only print the statements"),
        ),
    ),
    Command(
        baseline,
        "Give rows without an event their first.",
        (
            Argument("tables", Kind.NAMES, "names of tables; all, if left out"),
            Argument("--batch", Kind.COUNT, "rows in a transaction", default=10_000),
        ),
    ),
)
"""The commands, in the order in which a usage lists them."""


def _with_objects(
    command: Command, databases: Sequence[Database], options: Mapping[str, Any]
) -> list[Database]:
    """Return the databases without those that need not track anything, and do not.

    ``check`` refuses such a database as well if it has what no model claims, unless
    that is allowed: another application may have a history there.

    :raises CommandError: models track nothing, most likely since nobody has imported
        them; all would seem to be well then. If the command shows what is in the
        database, what no model claims was printed.
    """
    idle = [d for d in databases if d.without_objects]
    optional = [d for d in idle if d.may_track_nothing]
    used = [d for d in databases if d not in optional]
    refused = [d for d in idle if d not in optional] if used else idle
    if command.shows_unclaimed:
        metadatas = [m for d in databases for m in d.metadatas]
        seen: set[Engine] = set()
        for database in idle:
            if database.engine in seen:
                continue
            seen.add(database.engine)
            found = installation.unclaimed(database.engine, *metadatas)
            for finding in found:
                print(finding)
            is_fault = Problem.ORPHANED not in options.get("allow", Problem)
            if found and is_fault and database in optional and used:
                refused.append(database)
    targets = [target for d in refused for target in d.without_objects]
    if targets:
        verb, their = ("tracks", "its") if len(targets) == 1 else ("track", "their")
        raise CommandError(
            f"{', '.join(targets)} {verb} nothing; import {their} models, or name a "
            "module that imports them"
        )
    # Tables that nobody tracks are a part of what create_all runs.
    return used if command.needs_database else list(databases)


def _require_tables(databases: Sequence[Database], tables: Sequence[str]) -> None:
    """Refuse names of tables that are not tracked in any of the databases."""
    known = {
        tracking.table.fullname
        for database in databases
        for metadata in database.metadatas
        for tracking in trackings_in(metadata)
    }
    unknown = [name for name in tables if name not in known]
    if unknown:
        raise CommandError(
            f"there is no tracked table {', '.join(unknown)}; there is "
            f"{', '.join(sorted(known)) or 'none at all'}"
        )
