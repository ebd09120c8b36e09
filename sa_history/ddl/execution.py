"""Running DDL on a connection: creating and dropping objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection, Engine, Table, func, inspect, select
from sqlalchemy.engine.reflection import Inspector

from sa_history.ddl.elements import DatabaseObject, PGTrigger, Statement
from sa_history.ddl.fingerprint import SetComment
from sa_history.exc import HistoryError
from sa_history.util.postgresql import require_postgresql


def create_objects(connection: Connection, *objects: DatabaseObject) -> None:
    """Create or replace objects, and set the comment with their fingerprint.

    :param objects: in the order in which they are created.
    """
    schema = current_schema(connection)
    for definition in objects:
        if isinstance(definition, PGTrigger) and definition.deferrable is not None:
            # PostgreSQL has no CREATE OR REPLACE for constraint triggers.
            connection.execute(Statement(definition.drop(), schema))
        connection.execute(Statement(definition.create(), schema))
        connection.execute(Statement(SetComment(definition), schema))


def drop_objects(connection: Connection, *objects: DatabaseObject) -> None:
    """Drop those of the objects that exist, in the order given."""
    schema = current_schema(connection)
    for definition in objects:
        connection.execute(Statement(definition.drop(), schema))


@contextmanager
def begin(engine: Engine) -> Iterator[Connection]:
    """Begin a READ COMMITTED transaction, whatever the engine's isolation level.

    An engine in AUTOCOMMIT would leave half of the work after an error, and one
    snapshot for the whole transaction would hide what others commit meanwhile.

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
    """Return whether a table exists; None if a mock connection only prints DDL."""
    if not isinstance(connection, Connection):
        return None
    # A new inspector each time, as an inspector caches its answers.
    inspector: Inspector = inspect(connection)
    schema = connection.schema_for_object(table)
    return inspector.has_table(table.name, schema=schema)


def current_schema(connection: Connection) -> str | None:
    """Return the schema in which the connection creates objects.

    The dialect's ``default_schema_name`` is that of its first connection, before any
    ``SET search_path``.

    :return: the name; None if a mock connection only prints DDL.
    """
    if not isinstance(connection, Connection):
        return None
    return connection.scalar(select(func.current_schema()))
