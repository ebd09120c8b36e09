"""What the commands do and print, whoever reads their arguments.

Each returns an exit status.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Engine, MetaData, create_mock_engine

from sa_history.ddl.elements import Statement
from sa_history.ddl.fingerprint import SetComment
from sa_history.exc import CommandError
from sa_history.install import api as installation
from sa_history.install.expected import objects_of, trackings_in
from sa_history.writing.baseline import baseline as write_baseline

DRIFT, FAILURE = 1, 2
"""Exit statuses: something is not as the models say; it could not be done."""


def ls(engine: Engine, metadatas: Sequence[MetaData]) -> int:
    """Print what belongs in the database, and its state."""
    for state in installation.status(engine, *metadatas):
        print(state)
    return 0


def ddl(metadatas: Sequence[MetaData], without_tables: bool) -> int:
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
    for metadata in metadatas:
        if not without_tables:
            metadata.create_all(engine, checkfirst=False)
            continue
        for owned in objects_of(metadata):
            show(Statement(owned.made.create()))
            show(Statement(SetComment(owned.made)))
    return 0


def install(engine: Engine, metadatas: Sequence[MetaData], prune: bool) -> int:
    """Create or renew what is wrong, and print what was done."""
    done = installation.install(engine, *metadatas, prune=prune)
    print("\n".join(done) or "nothing to do")
    return 0


def uninstall(engine: Engine, metadatas: Sequence[MetaData]) -> int:
    """Drop triggers and functions, and print what was done."""
    done = installation.uninstall(engine, *metadatas)
    print("\n".join(done) or "nothing to do")
    return 0


def harden(
    engine: Engine, metadatas: Sequence[MetaData], role: str, dry_run: bool
) -> int:
    """Take from a role what it could touch its history with, and print how."""
    for statement in installation.harden(
        engine, *metadatas, role=role, dry_run=dry_run
    ):
        print(f"{statement};")
    return 0


def check(
    engine: Engine,
    metadatas: Sequence[MetaData],
    allow: Collection[str],
    command: str,
) -> int:
    """Print what is not as the models say, each with what mends it.

    :param allow: problems that are no reason to fail.
    :param command: how a command is called, with braces for its name.
    """
    found = installation.check(engine, *metadatas)
    if not found:
        print("all is as the models say")
    for finding in found:
        print(finding.told(command))
    return DRIFT if any(f.problem not in allow for f in found) else 0


def baseline(
    engine: Engine, metadatas: Sequence[MetaData], tables: Sequence[str], batch: int
) -> int:
    """Give rows without an event their first one, and print how many.

    :param tables: the names of tracked tables; all, if there are none.
    :param batch: rows in a transaction.
    """
    require_tables(metadatas, tables)
    for tracking in (t for m in metadatas for t in trackings_in(m)):
        name = tracking.event_table.fullname
        if tables and tracking.table.fullname not in tables:
            continue

        def report(events: int, name: str = name) -> None:
            print(f"{name}: {events} so far", file=sys.stderr)

        written = write_baseline(
            engine,
            tracking.table,
            events=tracking.options.events,
            batch=batch,
            progress=report,
        )
        print(f"{name}: {written} first events")
    return 0


def require_tables(metadatas: Sequence[MetaData], tables: Sequence[str]) -> None:
    """Refuse names of tables that are not tracked.

    :raises CommandError: there are such.
    """
    known = {t.table.fullname for m in metadatas for t in trackings_in(m)}
    unknown = [name for name in tables if name not in known]
    if unknown:
        raise CommandError(
            f"there is no tracked table {', '.join(unknown)}; there is "
            f"{', '.join(sorted(known)) or 'none at all'}"
        )
