"""Objects in the database, created and dropped on a connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection, Engine, Table, func, inspect, select
from sqlalchemy.engine.reflection import Inspector

from sa_history.ddl.elements import DatabaseObject, PGTrigger, Statement
from sa_history.ddl.fingerprint import Mark
from sa_history.exc import HistoryError
from sa_history.util.postgresql import require_postgresql


def create_objects(connection: Connection, *objects: DatabaseObject) -> None:
    """Create functions, triggers and the like, or replace them, and mark them."""
    schema = current_schema(connection)
    for made in objects:
        if isinstance(made, PGTrigger) and made.deferrable is not None:
            # Of these PostgreSQL knows no CREATE OR REPLACE.
            connection.execute(Statement(made.drop(), schema))
        connection.execute(Statement(made.create(), schema))
        connection.execute(Statement(Mark(made), schema))


def drop_objects(connection: Connection, *objects: DatabaseObject) -> None:
    """Drop functions, triggers and the like, where they exist."""
    schema = current_schema(connection)
    for made in objects:
        connection.execute(Statement(made.drop(), schema))


@contextmanager
def begin(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction, whatever the engine's own isolation level.

    All or nothing, also where the engine is in AUTOCOMMIT. Not with one snapshot for
    all: each statement shall see what others have committed before it.

    :raises DialectError: names the dialect, if it is not PostgreSQL's.
    """
    with engine.connect() as connection:
        require_postgresql(connection)
        connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            yield connection


@contextmanager
def connection_of(
    bind: Engine | Connection,
    error: type[HistoryError],
    *,
    savepoint: bool = False,
) -> Iterator[Connection]:
    """Give a block the connection of a bind, in a transaction.

    :param bind: an engine, for a transaction that ends with the block, or a connection,
        whose transaction stays open.
    :param error: the class of the error for any other bind.
    :param savepoint: if True, undo what the block did on a connection if it fails, and
        nothing else of the connection's transaction.
    :raises DialectError: names the dialect, if it is not PostgreSQL's.
    """
    if isinstance(bind, Engine):
        with begin(bind) as connection:
            yield connection
    elif isinstance(bind, Connection):
        require_postgresql(bind)
        with bind.begin_nested() if savepoint else nullcontext():
            yield bind
    else:
        raise error(
            f"bind is an engine or a connection, got {bind!r}; of an async engine, "
            "await connection.run_sync(...)"
        )


def exists(table: Table, connection: Connection) -> bool | None:
    """Whether a table is there; None on a mock connection, which only prints."""
    if not isinstance(connection, Connection):
        return None
    # A new inspector each time: it remembers what it was told.
    inspector: Inspector = inspect(connection)
    schema = connection.schema_for_object(table)
    return inspector.has_table(table.name, schema=schema)


def current_schema(connection: Connection) -> str | None:
    """Return where the connection creates objects now; None on a mock connection.

    The dialect knows it from its first connection, before a ``SET search_path``.
    """
    if not isinstance(connection, Connection):
        return None
    return connection.scalar(select(func.current_schema()))
