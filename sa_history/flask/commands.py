"""``flask history ...``: the commands, inside the application's configuration."""

from __future__ import annotations

from typing import Any

import click
import flask
from flask.cli import AppGroup, with_appcontext

from sa_history.cli.commands import (
    COMMANDS,
    Argument,
    Command,
    Database,
    Kind,
    exit_status,
    run_command,
)

_PROGRAM = "flask history"


def history_commands() -> AppGroup:
    """Return the group of commands; they are those of ``sa-history``."""
    group = AppGroup("history", help="History of tracked models in the database.")
    for command in COMMANDS:
        group.add_command(_as_click(command))
    return group


def _as_click(command: Command) -> click.Command:
    @with_appcontext
    def callback(**options: Any) -> None:
        def run() -> int:
            state: Any = flask.current_app.extensions["sa_history"]
            databases = [
                Database(
                    [metadata],
                    f"{_PROGRAM} {{}}",
                    engine,
                    [state.name_of(metadata)],
                    may_track_nothing=state.is_configured,
                )
                for engine, metadata in state.databases()
            ]
            return run_command(command, databases, options)

        raise click.exceptions.Exit(exit_status(_PROGRAM, run))

    return click.Command(
        command.name,
        callback=callback,
        params=[_parameter(argument) for argument in command.arguments],
        help=command.help,
    )


def _parameter(argument: Argument) -> click.Parameter:
    """Return an argument of a command as click has it."""
    names, kind = [argument.name], argument.kind
    if kind is Kind.NAMES:
        return click.Argument(names, nargs=-1)
    options: dict[Kind, dict[str, Any]] = {
        Kind.FLAG: {"is_flag": True},
        Kind.TEXT: {"required": True},
        Kind.COUNT: {
            "type": click.IntRange(1),
            "default": argument.default,
            "show_default": True,
        },
        Kind.CHOICES: {"multiple": True, "type": click.Choice(argument.choices)},
    }
    return click.Option(
        names, help=argument.help, metavar=argument.metavar, **options[kind]
    )
