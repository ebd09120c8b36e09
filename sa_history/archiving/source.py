"""Reading rows of a table as batches of Arrow, by a connection of ADBC.

Rows come in PostgreSQL's binary COPY format and are never objects of Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine

from sa_history.archiving.packages import load
from sa_history.ddl.partitions import lock_table
from sa_history.exc import ArchiveError
from sa_history.sql.compose import Qualified, quote_ident, quote_literal
from sa_history.sql.output_settings import OUTPUT_SETTINGS

SETTINGS = {**OUTPUT_SETTINGS, "client_encoding": "UTF8", "search_path": "pg_catalog"}
"""What the text of a value depends on; of the name of a table, the search path."""

_WORK_MEM = "64MB"
"""For the sort of a partition; what is more goes to the server's disk."""


class RowSource:
    """Reads rows of a database; to be had by :func:`open_source`.

    :param connection: a connection of ADBC.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cast = load("pyarrow").RecordBatch.from_arrays

    def execute(self, statement: str) -> None:
        """Execute a statement that returns nothing."""
        with _errors(), self._connection.cursor() as cursor:
            cursor.execute(statement)

    def lock(self, table: Qualified) -> None:
        """Have nobody alter or drop a table until the transaction ends.

        :raises ArchiveError: it was not to be had.
        """
        self.execute(lock_table(table, "ACCESS SHARE").render(str))

    def end_transaction(self) -> None:
        """End the transaction, which has only read."""
        with _errors():
            self._connection.rollback()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read all that is read in a block as it is when the first row is read."""
        self.end_transaction()
        self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
        self.end_transaction()

    def batches(self, query: str, schema: Any) -> Iterator[Any]:
        """Yield the rows of a query, in batches of some megabytes.

        :param query: whose columns are those of the schema.
        :param schema: what the batches have.
        """
        with self.begun(query, schema) as found:
            yield from found

    @contextmanager
    def begun(self, query: str, schema: Any) -> Iterator[Iterator[Any]]:
        """Begin a query, whose rows the server sorts while something else is done.

        :param query: as for :meth:`batches`, and so is the schema.
        :return: the batches, for the block.
        """
        with _errors(), self._connection.cursor() as cursor:
            cursor.execute(query)
            yield self._batches(cursor, schema)

    def _batches(self, cursor: Any, schema: Any) -> Iterator[Any]:
        for batch in cursor.fetch_record_batch():
            columns = [
                column if column.type == field.type else column.cast(field.type)
                for column, field in zip(batch.columns, schema, strict=True)
            ]
            yield self._cast(columns, schema=schema)


@contextmanager
def open_source(engine: Engine, lock_timeout: int = 0) -> Iterator[RowSource]:
    """Open a connection for reading rows; it is closed at the end of the block.

    :param engine: the database.
    :param lock_timeout: how long to wait for locks, in milliseconds; 0 for any time.
    """
    adbc = load("adbc_driver_postgresql.dbapi")
    with engine.connect() as connection:
        conninfo = conninfo_of(connection)
    with _errors(), adbc.connect(conninfo) as connected:
        source = RowSource(connected)
        # Committed, or else the end of a transaction would undo them.
        settings = {
            **SETTINGS,
            "work_mem": _WORK_MEM,
            "statement_timeout": "0",
            "lock_timeout": str(lock_timeout),
        }
        for name, value in settings.items():
            source.execute(f"SET {quote_ident(name)} = {_value(name, value)}")
        connected.commit()
        yield source


def _value(name: str, value: str) -> str:
    # A list of two words, where one text would be a single word.
    return value if name in ("DateStyle", "search_path") else quote_literal(value)


def conninfo_of(connection: Connection) -> str:
    """Return what libpq connects by, as a connection of SQLAlchemy is connected."""
    # Which the library does without where it finds no libpq.
    from psycopg.conninfo import make_conninfo

    connected: Any = connection.connection.driver_connection
    info: Any = getattr(connected, "info", None)
    if hasattr(info, "get_parameters"):  # psycopg
        return make_conninfo("", **info.get_parameters(), password=info.password)
    if hasattr(info, "dsn_parameters"):  # psycopg2
        return make_conninfo("", **info.dsn_parameters, password=info.password)
    url = connection.engine.url
    given = url.translate_connect_args(username="user", database="dbname")
    named = {n: str(url.query[n]) for n in ("host", "port") if n in url.query}
    return make_conninfo("", **given, **named)


@contextmanager
def _errors() -> Iterator[None]:
    error_class = load("adbc_driver_manager").Error
    try:
        yield
    except error_class as error:
        raise ArchiveError(f"PostgreSQL cannot be read: {error}") from error
