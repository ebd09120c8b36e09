"""The commands for what is installed: list it, check it, make it, take it away."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby
from typing import Any

from sqlalchemy import create_mock_engine
from sqlalchemy.schema import CreateIndex

from sa_history.cli.command import FOUND, Database
from sa_history.cli.output import (
    GREEN,
    RED,
    colored,
    print_finding,
    printable,
)
from sa_history.ddl.elements import Statement
from sa_history.ddl.fingerprint import SetComment
from sa_history.install import api as installation
from sa_history.install.expected import objects_of


def ls(database: Database, json: bool) -> int:
    """Print what belongs in the database, and its state."""
    for state in installation.status(database.engine, *database.metadatas):
        if json:
            found = state.problem.value if state.problem else "installed"
            database.print_json(state=found, kind=state.kind, name=state.name)
            continue
        status, rest = str(state)[:10], printable(str(state)[10:])
        print(f"{colored(status, RED if state.problem else GREEN)}{rest}")
    return 0


def check(database: Database, allow: Collection[str], json: bool) -> int:
    """Print what is not as the models say, each with what mends it.

    :param allow: problems that are no reason to fail.
    """
    found = installation.check(database.engine, *database.metadatas)
    if not found and not json:
        print("all is as the models say")
    for finding in found:
        print_finding(finding, database.command, allow, json, **database.named)
    return FOUND if any(f.problem not in allow for f in found) else 0


def install(database: Database, prune: bool, tracks_nothing: bool, json: bool) -> int:
    """Create or renew what is wrong, and print what was done."""
    _print_steps(
        database,
        installation.install(
            database.engine,
            *database.metadatas,
            prune=prune,
            may_track_nothing=tracks_nothing,
        ),
        json,
    )
    return 0


def uninstall(database: Database, json: bool) -> int:
    """Drop triggers and functions, and print what was done."""
    steps = installation.uninstall(database.engine, *database.metadatas)
    _print_steps(database, steps, json)
    return 0


def _print_steps(database: Database, steps: list[str], json: bool) -> None:
    for step in steps:
        if json:
            database.print_json(step=step)
        else:
            print(printable(step))
    if not steps and not json:
        print("nothing to do")


def ddl(database: Database, without_tables: bool, json: bool) -> int:
    """Print what create_all would run.

    :param without_tables: print only functions, triggers, views and the sequence.
    """
    statements: list[Any] = []

    def keep(statement: Any, *_: Any, **__: Any) -> None:
        statements.append(statement)

    engine = create_mock_engine("postgresql+psycopg://", keep)
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
            statements.append(Statement(expected.definition.create()))
            statements.append(Statement(SetComment(expected.definition)))
    for of_indexes, group in groupby(statements, lambda s: isinstance(s, CreateIndex)):
        texts = [str(each.compile(dialect=dialect)).strip() for each in group]
        # SQLAlchemy has those of a table in a set, whose order changes from run to run.
        in_order = sorted(texts) if of_indexes else texts
        _print_statements(database, in_order, json, "\n")
    return 0


def harden(database: Database, app_role: str, dry_run: bool, json: bool) -> int:
    """Revoke what a role could touch its history with, and print the statements."""
    statements = installation.harden(
        database.engine, *database.metadatas, role=app_role, dry_run=dry_run
    )
    _print_statements(database, statements, json)
    return 0


def _print_statements(
    database: Database, statements: Iterable[str], json: bool, after: str = ""
) -> None:
    """Print statements of SQL, as psql runs them.

    :param after: what text has behind each.
    """
    for statement in statements:
        if json:
            database.print_json(statement=statement)
        else:
            print(f"{statement};{after}")
