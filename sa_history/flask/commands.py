"""``flask history ...``: the commands, inside the application's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import flask
from flask.cli import AppGroup, with_appcontext

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
from sa_history.cli.models import tracked_model

_PROGRAM = "flask history"


def history_commands() -> AppGroup:
    """Return the group of commands; they are those of ``sa-history``."""
    group = AppGroup("history", help="History of tracked models in the database.")
    for command in COMMANDS:
        group.add_command(_as_click(command))
    return group


def _as_click(command: Command) -> click.Command:
    @with_appcontext
    def callback(model: str | None = None, **options: Any) -> None:
        def run() -> int:
            databases = _databases(model)
            return run_command(_PROGRAM, command, databases, options)

        raise click.exceptions.Exit(exit_status(_PROGRAM, run))

    params = [_parameter(argument) for argument in command.arguments]
    if command.models is not ModelChoice.ALL:
        is_required = command.models is ModelChoice.ONE
        params.insert(0, click.Argument(["model"], required=is_required))
    return click.Command(
        command.name, callback=callback, params=params, help=command.help
    )


def _databases(model: str | None) -> Sequence[Database]:
    """Return the databases of the application; that of a model, if one is named."""
    state: Any = flask.current_app.extensions["sa_history"]
    pairs = state.databases()
    wanted, selected = None, None
    if model is not None:
        wanted, selected = tracked_model(model, [metadata for _, metadata in pairs])
    return [
        Database(
            [metadata],
            f"{_PROGRAM} {{}}",
            engine,
            [state.name_of(metadata)],
            may_track_nothing=state.is_configured,
            model=selected,
        )
        for engine, metadata in pairs
        if wanted is None or metadata is wanted
    ]


def _parameter(argument: Argument) -> click.Parameter:
    """Return an argument of a command as click has it."""
    names, kind = [argument.name], argument.kind
    if kind is Kind.NAME:
        return click.Argument(names)
    if kind is Kind.NAMES:
        return click.Argument(names, nargs=-1)
    options: dict[Kind, dict[str, Any]] = {
        Kind.FLAG: {"is_flag": True},
        Kind.TEXT: {"required": True},
        Kind.OPTIONAL_TEXT: {},
        Kind.TEXTS: {"multiple": True},
        Kind.PAIR: {"nargs": 2},
        Kind.COUNT: {
            "type": click.IntRange(1),
            "default": argument.default,
            "show_default": argument.default is not None,
        },
        Kind.CHOICES: {"multiple": True, "type": click.Choice(argument.choices)},
    }
    return click.Option(
        names, help=argument.help, metavar=argument.metavar, **options[kind]
    )
