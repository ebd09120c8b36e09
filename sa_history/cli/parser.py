"""The command line: ``sa-history``, or ``python -m sa_history``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, MetaData, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from sa_history.cli.commands import (
    COMMANDS,
    Argument,
    Command,
    Database,
    Kind,
    exit_status,
    run_command,
)
from sa_history.exc import CommandError

PROGRAM = "sa-history"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit status.

    :param arguments: as on the command line; ``sys.argv``, if left out.
    :return: 0, done; 1, ``check`` has found something; 2, it could not be done.

    Example::

        main(["check", "app.models:Base", "--url", "postgresql:///app"])
    """
    options = vars(_parser().parse_args(arguments))
    command: Command = options.pop("command")
    models: str = options.pop("models")
    url: str | None = options.pop("url", None)

    def run() -> int:
        metadatas = _metadatas(models)
        engine = _engine(url) if command.needs_database else None
        command_line = f"{PROGRAM} {{}} {models}"
        database = Database(metadatas, command_line, engine, models.split(","))
        return run_command(command, [database], options)

    return exit_status(PROGRAM, run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Functions, triggers and views of tracked models in a database.",
        epilog="Exit status: 0, done; 1, check has found something; 2, it could not be "
        "done.",
    )
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        added = subparsers.add_parser(
            command.name, help=command.help, description=command.help
        )
        added.set_defaults(command=command)
        added.add_argument(
            "models",
            help="where the models are: module:Base or module:metadata; several are "
            "separated by commas",
        )
        if command.needs_database:
            added.add_argument(
                "--url", help="of the database; DATABASE_URL, if left out"
            )
        for argument in command.arguments:
            added.add_argument(argument.name, **_as_argparse(argument))
    return parser


def _as_argparse(argument: Argument) -> dict[str, Any]:
    """Return the options of ``add_argument`` for an argument of a command."""
    metavar = {"help": argument.help, "metavar": argument.metavar}
    if argument.kind is Kind.FLAG:
        return {"action": "store_true", "help": argument.help}
    if argument.kind is Kind.TEXT:
        return {"required": True, **metavar}
    if argument.kind is Kind.COUNT:
        default, text = argument.default, f"{argument.help} ({argument.default})"
        return {"type": _positive, "default": default, "help": text}
    if argument.kind is Kind.CHOICES:
        choices = argument.choices
        return {"action": "append", "default": [], "choices": choices, **metavar}
    return {"nargs": "*", **metavar}


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of rows, got {text!r}")
    return int(text)


def _metadatas(models: str) -> list[MetaData]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as "python -m" does
    return [_metadata(name) for name in models.split(",")]


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
    """Return the file and the line where a module raised an error."""
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


def _engine(url_text: str | None) -> Engine:
    given = url_text or os.environ.get("DATABASE_URL")
    if not given:
        raise CommandError("no database; give --url, or set DATABASE_URL")
    try:
        url = make_url(given)
        if url.drivername in _OTHER_NAMES:
            url = url.set(drivername="postgresql+psycopg")
        return create_engine(url, poolclass=NullPool)
    except ImportError as error:
        # That of psycopg without libpq has a line for each thing it has tried.
        raise CommandError(
            f"the driver of the database cannot be imported: "
            f"{' '.join(str(error).split())}; install it, such as psycopg[binary]"
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise CommandError(
            f"the URL of the database cannot be used: {error}"
        ) from error
