"""What a command is, and how one is run; the commands themselves are in ``commands``.

``sa-history`` and ``flask history`` both make their parsers of these values, and both
run a command by :func:`run_command` within :func:`exit_status`.
"""

from __future__ import annotations

import enum
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sa_history.cli.output import print_finding, print_heading, print_json
from sa_history.exc import CommandError, HistoryError
from sa_history.install import api as installation
from sa_history.install.drift import Problem
from sa_history.install.expected import has_objects
from sa_history.install.survey import explained
from sa_history.tracking.registry import trackings_in

FOUND, FAILURE = 1, 2
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
    :param model: the mapped class or table that the command is about, None for all.
    :param is_one_of_several: True if the command is done in others, too.
    """

    metadatas: Sequence[MetaData]
    command: str
    url_engine: Engine | None
    targets: Sequence[str]
    may_track_nothing: bool = False
    model: Any | None = None
    is_one_of_several: bool = False

    def print_json(self, **fields: Any) -> None:
        """Print an object of JSON on a line, with the database if there are several.

        :param fields: as of the function of this name.
        """
        print_json(**self.named, **fields)

    @property
    def named(self) -> dict[str, str]:
        """The field of JSON that tells the database; none if there is only one."""
        return {"database": self.name} if self.is_one_of_several else {}

    @property
    def engine(self) -> Engine:
        """The engine, of a command that needs a database."""
        assert self.url_engine is not None
        return self.url_engine

    @property
    def name(self) -> str:
        """What messages call it."""
        return ", ".join(self.targets)

    @property
    def tables(self) -> set[str]:
        """The names of the tracked tables."""
        trackings = trackings_in(*self.metadatas)
        return {tracking.table.fullname for tracking in trackings}

    @property
    def without_objects(self) -> list[str]:
        """The targets that track nothing, and have no triggers or views either."""
        pairs = zip(self.targets, self.metadatas, strict=True)
        return [target for target, metadata in pairs if not has_objects(metadata)]


class Kind(enum.Enum):
    """What an argument takes."""

    FLAG = "nothing; True if it is given"
    TEXT = "a text; it has to be given"
    OPTIONAL_TEXT = "a text; None if it is left out"
    TEXTS = "a text; it may be given several times"
    PAIR = "two texts; None if it is left out"
    COUNT = "a number from 1 on"
    CHOICES = "one of some values; it may be given several times"
    NAME = "a name, by its position; it has to be given"
    NAMES = "any number of names, by their position"


@dataclass(frozen=True)
class Argument:
    """An argument of a command.

    :param name: such as ``"--dry-run"``; the function's parameter is ``dry_run``.
    :param kind: what it takes.
    :param help: what it means.
    :param metavar: the name of its value in a usage, None for the argument's own.
    :param choices: the values of ``Kind.CHOICES``.
    :param default: the value of ``Kind.COUNT`` if it is left out.
    """

    name: str
    kind: Kind
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    default: int | None = None


class ModelChoice(enum.Enum):
    """The models that a command is about."""

    ALL = "all models of a declarative base or a MetaData"
    ONE_OR_ALL = "one model if it is named, or else all"
    ONE = "one model, which has to be named"


@dataclass(frozen=True)
class Command:
    """A command.

    :param run: the function, which is given a :class:`Database` and a keyword for each
        argument, and returns an exit status.
    :param help: a line about it.
    :param arguments: what it takes beside the models and the database.
    :param models: the models that it is about.
    :param needs_database: False if it reads models only.
    :param shows_unclaimed: True if it prints what is in the database, so that it shows
        what no model claims before it refuses models that track nothing.
    :param applies_to: returns True for the MetaData that it has something to do for;
        None if it has for all. Databases without one are left out, unless all are.
    :param of_one_database: the names of arguments that are about a single database,
        such as a file that the command writes.
    """

    run: Callable[..., int]
    help: str
    arguments: tuple[Argument, ...] = ()
    models: ModelChoice = ModelChoice.ALL
    needs_database: bool = True
    shows_unclaimed: bool = False
    applies_to: Callable[[MetaData], bool] | None = None
    of_one_database: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name, which is that of the function with hyphens."""
        return self.run.__name__.replace("_", "-")


def exit_status(program: str, run: Callable[[], int]) -> int:
    """Run something, and return an exit status, whatever happens.

    :param program: the name that is printed before an error.
    :param run: returns the exit status if all goes well.
    """
    try:
        status = run()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
    except BrokenPipeError:
        # Whoever reads has seen enough; nothing is to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        # Python would exit with 1, which says something else.
        _print_error(program, error)
    return FAILURE


def _print_error(program: str, error: Exception) -> None:
    """Print what an error says; a traceback, if nobody has foreseen it."""
    if isinstance(error, DBAPIError):
        message = explained(error)
    elif isinstance(error, (HistoryError, SQLAlchemyError)):
        message = str(error)
    else:
        traceback.print_exception(error)
        return
    print(f"{program}: {message}", file=sys.stderr)


def run_command(
    program: str,
    command: Command,
    databases: Sequence[Database],
    options: Mapping[str, Any],
) -> int:
    """Run a command for each database, and return an exit status.

    If it cannot be done in one of several, it is done in the others all the same. What
    it has found in one counts more than that it could not be done in another.

    :param program: the name that is printed before an error.
    :param options: the values of its arguments, by the names of parameters.
    :raises CommandError: models track nothing; ``tables`` names a table that no model
        tracks; or an argument is about one database, and there are several.
    """
    databases = _with_objects(command, databases, options)
    _require_tables(databases, options.get("tables", ()))
    concerned = [d for d in databases if _is_concerned(command, d, options)]
    if len(concerned) > 1:
        _refuse_several(command, concerned, options)
    databases = concerned or databases
    if len(databases) == 1:
        return command.run(databases[0], **options)
    statuses = []
    for database in (replace(d, is_one_of_several=True) for d in databases):
        print_heading(database.name, options)
        try:
            statuses.append(command.run(database, **options))
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except Exception as error:
            _print_error(f"{program}: {database.name}", error)
            statuses.append(FAILURE)
    return FOUND if FOUND in statuses else max(statuses)


def _is_concerned(
    command: Command, database: Database, options: Mapping[str, Any]
) -> bool:
    """Return True if a command has something to do in a database."""
    applies_to, tables = command.applies_to, options.get("tables")
    if applies_to is not None and not any(map(applies_to, database.metadatas)):
        return False
    return not tables or not database.tables.isdisjoint(tables)


def _refuse_several(
    command: Command, databases: Sequence[Database], options: Mapping[str, Any]
) -> None:
    for name in command.of_one_database:
        if options[name] is not None:
            names = ", ".join(database.name for database in databases)
            raise CommandError(
                f"--{name} is for one database, and {command.name} would be done in "
                f"{len(databases)} of them: {names}; call "
                f"sa_history.{command.name}(engine, models, ...) for each"
            )


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
    if options.get("tracks_nothing"):
        return list(databases)
    idle = [d for d in databases if d.without_objects]
    optional = [d for d in idle if d.may_track_nothing]
    used = [d for d in databases if d not in optional]
    refused = [d for d in idle if d not in optional] if used else idle
    if command.shows_unclaimed:
        metadatas = [m for d in databases for m in d.metadatas]
        seen: set[Engine] = set()
        for database in idle:
            named = replace(database, is_one_of_several=len(databases) > 1).named
            if database.engine in seen:
                continue
            seen.add(database.engine)
            found = installation.unclaimed(database.engine, *metadatas)
            if found and len(databases) > 1:
                print_heading(database.name, options)
            allow = options.get("allow", Problem)
            for finding in found:
                print_finding(
                    finding, database.command, allow, options["json"], **named
                )
            is_fault = Problem.ORPHANED not in allow
            if found and is_fault and database in optional and used:
                refused.append(database)
    targets = [target for d in refused for target in d.without_objects]
    if targets:
        verb, their = ("tracks", "its") if len(targets) == 1 else ("track", "their")
        advice = ""
        if options.get("prune"):
            advice = (
                "; if all are imported and nothing is tracked any more, give "
                "--tracks-nothing"
            )
        raise CommandError(
            f"{', '.join(targets)} {verb} nothing; import {their} models, or name a "
            f"module that imports them{advice}"
        )
    # Tables that nobody tracks are a part of what create_all runs.
    return used if command.needs_database else list(databases)


def _require_tables(databases: Sequence[Database], tables: Sequence[str]) -> None:
    """Refuse names of tables that are not tracked in any of the databases."""
    known = {name for database in databases for name in database.tables}
    unknown = [name for name in tables if name not in known]
    if unknown:
        raise CommandError(
            f"there is no tracked table {', '.join(unknown)}; there is "
            f"{', '.join(sorted(known)) or 'none at all'}"
        )
