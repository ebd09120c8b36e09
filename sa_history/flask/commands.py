"""``flask history ...``: the commands, inside the application's configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import flask
from flask.cli import AppGroup
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import DBAPIError

from sa_history import commands
from sa_history.drift import Problem
from sa_history.exc import HistoryError
from sa_history.install import explained


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
        _run(
            lambda engine, metadata: commands.baseline(
                engine, [metadata], tables, batch
            )
        )

    @group.command(help="Print what create_all would run, in order.")
    @click.option("--without-tables", is_flag=True, help="Leave out tables.")
    def ddl(without_tables: bool) -> None:
        _run(lambda _, metadata: commands.ddl([metadata], without_tables))

    return group


def _run(command: Callable[[Engine, MetaData], int]) -> None:
    """Run a command for each database, and exit with the highest status."""
    state: Any = flask.current_app.extensions["sa_history"]
    try:
        status = max(command(*database) for database in state.databases())
    except HistoryError as error:
        message = str(error)
    except DBAPIError as error:
        message = explained(error)
    else:
        raise click.exceptions.Exit(status)
    click.echo(f"flask history: {message}", err=True)
    raise click.exceptions.Exit(commands.FAILURE)
