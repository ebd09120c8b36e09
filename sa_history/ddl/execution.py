"""Running DDL on a connection: creating and dropping objects."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, inspect, select, text
from sqlalchemy.engine.reflection import Inspector

from sa_history.ddl.elements import (
    DEFAULT_SCHEMA,
    DatabaseObject,
    PGTrigger,
    Statement,
    drop_function,
)
from sa_history.ddl.fingerprint import CreateWithComment, SetComment
from sa_history.exc import HistoryError
from sa_history.sql.catalog_queries import SERVER
from sa_history.sql.compose import Fragment, Qualified, Raw, SchemaNames, join
from sa_history.util.postgresql import require_postgresql


def run_memo(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the memo that SQLAlchemy has of a run of ``create_all`` or ``drop_all``.

    SQLAlchemy's own types remember there what they have created. It is new if others
    than SQLAlchemy have called the listeners.

    :param options: the keywords of a DDL event.
    """
    return getattr(options.get("_ddl_runner"), "memo", {})


def create_objects(
    connection: Connection,
    *objects: DatabaseObject,
    memo: dict[str, Any] | None = None,
) -> None:
    """Create or replace objects, and set the comment with their fingerprint.

    :param objects: in the order in which they are created.
    :param memo: the memo of the run that creates them; None outside of any.
    """
    memo = {} if memo is None else memo
    statements: list[Fragment] = []
    as_script = takes_scripts(connection, memo)
    if server_in_run(connection, memo).has_citus:
        statements += map(Raw, CITUS_SETTINGS)
    for definition in objects:
        if isinstance(definition, PGTrigger) and definition.deferrable is not None:
            # PostgreSQL has no CREATE OR REPLACE for constraint triggers.
            statements.append(definition.drop())
        if as_script:
            statements.append(CreateWithComment(definition))
        else:
            statements += [definition.create(), SetComment(definition)]
    execute_statements(connection, statements, memo)


def drop_objects(
    connection: Connection,
    *objects: DatabaseObject,
    memo: dict[str, Any] | None = None,
) -> None:
    """Drop those of the objects that exist, in the order given.

    :param memo: the memo of the run that drops them; None outside of any.
    """
    execute_statements(connection, [definition.drop() for definition in objects], memo)


def drop_functions(
    connection: Connection, names: Iterable[Qualified], memo: dict[str, Any]
) -> None:
    """Drop those of some trigger functions that exist, in the order given.

    :param memo: the memo of the run that drops them.
    """
    execute_statements(connection, [drop_function(name) for name in names], memo)


_SERVER = "sa_history_server"

SEQUENTIAL = "SET LOCAL citus.multi_shard_modify_mode = 'sequential'"
"""The statement without which Citus refuses to create or drop a function in a
transaction once it has done something to many shards at a time."""

REFUSE_TRIGGERS = "SET LOCAL citus.enable_unsafe_triggers = off"
"""The statement by which Citus refuses again what the first of the next ones allows."""

CITUS_SETTINGS = ("SET LOCAL citus.enable_unsafe_triggers = on", SEQUENTIAL)
"""The statements that come before DDL on a server with Citus.

Without the first one, Citus refuses triggers on tables that it distributes; whether
triggers are right there is for :mod:`sa_history.ddl.citus` to say. All count for the
transaction.
"""


@dataclass(frozen=True)
class Server:
    """What a connection says of its database, in one query.

    :param schema: the schema in which the connection creates objects; None if a mock
        connection only prints DDL.
    :param has_citus: whether the database has the extension Citus.
    """

    schema: str | None
    has_citus: bool


def read_server(connection: Connection) -> Server:
    """Ask a connection for its schema, and whether the database has Citus.

    The dialect's ``default_schema_name`` is that of its first connection, before any
    ``SET search_path``.
    """
    if not isinstance(connection, Connection):
        return Server(None, has_citus=False)
    row = connection.execute(text(SERVER)).one()
    return Server(row.schema, row.has_citus)


def server_in_run(connection: Connection, memo: dict[str, Any]) -> Server:
    """Return what :func:`read_server` does, asked once in a run of ``create_all``.

    :param memo: the memo of the run.
    """
    if _SERVER not in memo:
        memo[_SERVER] = read_server(connection)
    found: Server = memo[_SERVER]
    return found


def execute_statements(
    connection: Connection,
    statements: list[Fragment],
    memo: dict[str, Any] | None = None,
) -> None:
    """Execute statements, all in one round trip if the driver can do so.

    :param memo: the memo of the run that executes them; None outside of any.
    """
    if not statements:
        return
    memo = {} if memo is None else memo
    schema = server_in_run(connection, memo).schema
    if takes_scripts(connection, memo):
        statements = [join(";\n", statements)]
    # Who has a mock connection print them may print them without line breaks.
    is_printed = not isinstance(connection, Connection)
    for statement in statements:
        connection.execute(Statement(statement, schema, in_one_line=is_printed))


_SCRIPT_DRIVERS = frozenset({"psycopg", "psycopg_async", "psycopg2"})
"""Those that send text without parameters by the simple query protocol."""


def takes_scripts(connection: Connection, memo: dict[str, Any]) -> bool:
    """Return True if the connection sends several statements in one message.

    PostgreSQL prepares no more than one at a time. asyncpg and pg8000 prepare whatever
    they execute, as psycopg does with ``prepare_threshold=0``; and Citus prepares on
    other nodes the whole message that has a CREATE TRIGGER in it.
    """
    if not isinstance(connection, Connection):
        return False  # a mock connection prints each statement
    if connection.dialect.driver not in _SCRIPT_DRIVERS:
        return False
    driver = connection.connection.driver_connection
    if getattr(driver, "prepare_threshold", None) == 0:
        return False
    return not server_in_run(connection, memo).has_citus


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
    return read_server(connection).schema


def schema_names(connection: Connection) -> SchemaNames:
    """Return what gives the name in the database of a schema of the models."""
    default = current_schema(connection) or DEFAULT_SCHEMA
    options = connection.get_execution_options()
    translate = options.get("schema_translate_map") or {}
    return lambda schema: translate.get(schema, schema) or default


def time_in_database(connection: Connection) -> datetime.datetime:
    """Return the time that the database has."""
    now: datetime.datetime = connection.execute(
        select(func.clock_timestamp())
    ).scalar_one()
    return now


def may_read(connection: Connection, table: Qualified) -> bool:
    """Return whether there is a table, and the connection's role may read it.

    :param table: with its schema in the database.
    """
    found = func.to_regclass(table.render(str))
    return bool(connection.scalar(select(func.has_table_privilege(found, "SELECT"))))


def require_new_snapshots(
    connection: Connection, error: type[HistoryError], remedy: str
) -> None:
    """Refuse a transaction whose statements do not see what others commit meanwhile.

    :param error: the class of the error.
    :param remedy: the end of its message.
    :raises HistoryError: of that class: the transaction is not READ COMMITTED, which
        PostgreSQL's READ UNCOMMITTED is as well.
    """
    level = str(
        connection.scalar(select(func.current_setting("transaction_isolation")))
    )
    if level not in ("read committed", "read uncommitted"):
        raise error(
            f"the connection's transaction is {level.upper()}, and so does not see "
            f"what others commit meanwhile; {remedy}"
        )
