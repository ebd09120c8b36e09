"""``flask history ...``: the commands, inside the application's configuration."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click
import flask
from flask.cli import AppGroup
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sa_history.cli import commands
from sa_history.exc import HistoryError
from sa_history.install.api import explained
from sa_history.install.drift import Problem
from sa_history.install.expected import trackings_in


def history_commands() -> AppGroup:
    """Return the group of commands."""
    group = AppGroup("history", help="History of tracked models in the database.")

    @group.command(help="List what belongs in the database, and its state.")
    def ls() -> None:
        _run(lambda engine, metadata: commands.ls(engine, [metadata]))

    @group.command(help="Exit with 1 where something is not as the models say.")
    @click.option(
        "--allow",
        multiple=True,
        type=click.Choice([problem.value for problem in Problem]),
        help="Do not exit with 1 for this problem; may be repeated.",
    )
    def check(allow: tuple[str, ...]) -> None:
        _run(
            lambda engine, metadata: commands.check(
                engine, [metadata], allow, "flask history {}"
            )
        )

    @group.command(help="Create or renew what is wrong.")
    @click.option("--prune", is_flag=True, help="Drop what the models do not have.")
    def install(prune: bool) -> None:
        _run(lambda engine, metadata: commands.install(engine, [metadata], prune))

    @group.command(help="Give rows without an event their first one.")
    @click.argument("tables", nargs=-1)
    @click.option(
        "--batch",
        type=click.IntRange(1),
        default=10_000,
        show_default=True,
        help="Rows in a transaction.",
    )
    def baseline(tables: tuple[str, ...], batch: int) -> None:
        def write(engine: Engine, metadata: MetaData) -> int:
            own = {tracking.table.fullname for tracking in trackings_in(metadata)}
            named = [name for name in tables if name in own]
            if tables and not named:
                return 0
            return commands.baseline(engine, [metadata], named, batch)

        _run(write, tables)

    @group.command(help="Print what create_all would run, in order.")
    @click.option("--without-tables", is_flag=True, help="Leave out tables.")
    def ddl(without_tables: bool) -> None:
        _run(lambda _, metadata: commands.ddl([metadata], without_tables))

    return group


def _run(
    command: Callable[[Engine, MetaData], int], tables: Sequence[str] = ()
) -> None:
    """Run a command for each database, and exit with the highest status.

    :param tables: the names of tracked tables, in any of the databases.
    """
    state: Any = flask.current_app.extensions["sa_history"]
    try:
        databases = state.databases()
        commands.require_tables([metadata for _, metadata in databases], tables)
        status = max(command(*database) for database in databases)
    except DBAPIError as error:
        click.echo(f"flask history: {explained(error)}", err=True)
    except (HistoryError, SQLAlchemyError) as error:
        click.echo(f"flask history: {error}", err=True)
    except Exception:
        # Python would exit with 1, which says something else.
        traceback.print_exc(file=sys.stderr)
    else:
        raise click.exceptions.Exit(status)
    raise click.exceptions.Exit(commands.FAILURE)
