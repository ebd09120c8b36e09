"""The command line: ``sa-history``, or ``python -m sa_history``."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from sqlalchemy import URL, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from sa_history.cli.command import (
    Argument,
    Command,
    Database,
    Kind,
    ModelChoice,
    exit_status,
    run_command,
)
from sa_history.cli.commands import COMMANDS
from sa_history.cli.models import load, metadatas_of, selected_model
from sa_history.exc import CommandError

PROGRAM = "sa-history"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit status.

    :param arguments: as on the command line; ``sys.argv``, if left out.
    :return: 0, done; 1, ``check`` or ``verify`` has found something; 2, it could not be
        done.
    :raises SystemExit: with 2, the arguments are not those of a command; with 0, all
        that was asked for is help, the version or a script for completion.

    Example::

        main(["check", "app.models:Base", "--url", "postgresql:///app"])
    """
    options = vars(_parser().parse_args(arguments))
    command: Command = options.pop("command")
    models: str = options.pop("models")
    url: str | None = options.pop("url", None)

    def run() -> int:
        loaded = load(models)
        database = Database(
            metadatas_of(loaded),
            f"{PROGRAM} {{}} {models}",
            _engine(url) if command.needs_database else None,
            list(loaded),
            model=selected_model(command, loaded),
        )
        return run_command(PROGRAM, command, [database], options)

    with _interrupted_by_sigterm():
        return exit_status(PROGRAM, run)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does, which cancels the statement that runs.

    Containers and services are stopped by it. Python would end at once, and the server
    would go on: a statement that waits for a lock has all others wait behind it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="History of tracked models in a database, and what records it.",
        epilog="Exit status: 0, done; 1, check or verify has found something; 2, it "
        "could not be done.",
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="show the version, and exit",
        **_NO_VALUE,
    )
    parser.add_argument(
        "--completion",
        action=_Completion,
        choices=_SHELLS,
        **_NO_VALUE,
        help="print a script by which this shell completes arguments, and exit",
    )
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        added = subparsers.add_parser(
            command.name, help=command.help, description=command.help
        )
        added.set_defaults(command=command)
        added.add_argument("models", help=_MODELS[command.models])
        if command.needs_database:
            added.add_argument(
                "--url", help="of the database; DATABASE_URL, if left out"
            )
        for argument in command.arguments:
            added.add_argument(argument.name, **_as_argparse(argument))
    return parser


# These actions end the program, so the command is given nothing of them.
_NO_VALUE: dict[str, Any] = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}

_SEVERAL = "module:Base or module:metadata; several are separated by commas"
_MODELS = {
    ModelChoice.ALL: f"where the models are: {_SEVERAL}",
    ModelChoice.ONE_OR_ALL: f"one model, as module:Class, or all: {_SEVERAL}",
    ModelChoice.ONE: "one model, as module:Class",
}


class _Version(argparse.Action):
    """Prints the version."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(PROGRAM, version("sa_history"))
        parser.exit()


_SHELLS = ("bash", "zsh", "fish")


class _Completion(argparse.Action):
    """Prints a script for the completion of a shell."""

    def __call__(
        self, parser: argparse.ArgumentParser, _: Any, shell: Any, *__: Any
    ) -> None:
        try:
            import shtab
        except ImportError:
            parser.error(
                "completion needs shtab, which is not installed; run pip install "
                '"sa_history[completion]"'
            )

        def show() -> int:
            print(shtab.complete(parser, shell))
            return 0

        parser.exit(exit_status(PROGRAM, show))


def _as_argparse(argument: Argument) -> dict[str, Any]:
    """Return the options of ``add_argument`` for an argument of a command."""
    texts = {"help": argument.help, "metavar": argument.metavar}
    options: dict[Kind, dict[str, Any]] = {
        Kind.FLAG: {"action": "store_true", "help": argument.help},
        Kind.TEXT: {"required": True, **texts},
        Kind.OPTIONAL_TEXT: texts,
        Kind.TEXTS: {"action": "append", "default": [], **texts},
        Kind.PAIR: {"nargs": 2, **texts},
        Kind.COUNT: {"type": _positive, "default": argument.default, **texts},
        Kind.CHOICES: {
            "action": "append",
            "default": [],
            "choices": argument.choices,
            **texts,
        },
        Kind.NAME: texts,
        # Without a default argparse says that they have to be given.
        Kind.NAMES: {"nargs": "*", "default": [], **texts},
    }
    found = options[argument.kind]
    if argument.default is not None:
        found["help"] = f"{argument.help} ({argument.default})"
    return found


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on, got {text!r}")
    return int(text)


# Those of async drivers are an application's that uses asyncio; nothing here does.
_OTHER_NAMES = (
    "postgres",
    "postgresql",
    "postgresql+asyncpg",
    "postgresql+psycopg_async",
)


_OPTIONS_OF_ASYNCPG = (
    "async_fallback",
    "command_timeout",
    "max_cacheable_statement_size",
    "max_cached_statement_lifetime",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "statement_cache_size",
)
"""Options of a URL that are about how asyncpg works, and not about where to connect."""

_NAMES_OF_LIBPQ = {"ssl": "sslmode"}
"""What libpq calls options of asyncpg; their values are the same."""


def _for_libpq(url: URL) -> URL:
    """Return the URL of any driver with the options that libpq has."""
    if url.drivername != "postgresql+asyncpg":
        return url
    query = {
        _NAMES_OF_LIBPQ.get(name, name): value
        for name, value in url.query.items()
        if name not in _OPTIONS_OF_ASYNCPG
    }
    return url.set(query=query)


def _engine(url_text: str | None) -> Engine:
    given = url_text or os.environ.get("DATABASE_URL")
    if not given:
        raise CommandError(
            "no database; give --url, or set DATABASE_URL, such as "
            "postgresql://user:password@host/database"
        )
    try:
        url = make_url(given)
        if url.drivername in _OTHER_NAMES:
            url = _for_libpq(url).set(drivername="postgresql+psycopg")
        return create_engine(url, poolclass=NullPool)
    except ImportError as error:
        # That of psycopg without libpq has a line for each thing it has tried.
        raise CommandError(
            f"the driver of the database cannot be imported: "
            f"{' '.join(str(error).split())}; install it, such as psycopg[binary]"
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise CommandError(
            f"the URL of the database cannot be used: {error}; write it as "
            "postgresql://user:password@host/database"
        ) from error
