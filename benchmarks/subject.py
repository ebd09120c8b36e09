"""What is measured: the tables of the benchmarks, and who keeps their history."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    create_engine,
    insert,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, configure_mappers

from benchmarks import columns

TABLES = ("item", "rare", "wide")
USER = 7
PAGE = "/items/1"


@dataclass(frozen=True)
class Write:
    """A statement that writes.

    :param op: ``I``, ``U`` or ``D``.
    :param table: that it writes.
    :param sql: the statement.
    :param where: the rows of the table that it writes; they have to meet this after
        an insert or update, and before a delete.
    :param parameters: of both.
    """

    op: str
    table: str
    sql: str
    where: str = "true"
    parameters: dict[str, Any] = field(default_factory=dict)


class Subject:
    """Works with the tables by SQLAlchemy. A subclass says how they are tracked.

    :param url: a database of its own, which is empty.
    :param timeout: the seconds after which the server gives up a statement.
    """

    history: tuple[str, ...] = ()
    """The tables that history is written to."""

    asynchronous = False
    """Whether it is measured with an AsyncEngine, too."""

    item: Any
    wide: Any
    rare: Any

    def __init__(self, url: URL, timeout: int = 60) -> None:
        self.url = url
        self.options = {"options": f"-c statement_timeout={timeout * 1000}"}
        self.engine = self.new_engine(url)
        self._admin: Connection | None = None

    # What a subclass says of itself.

    def declare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class, tracked."""
        raise NotImplementedError

    def declare_rare(self, name: str, attributes: dict[str, Any]) -> Any:
        """Return a mapped class of which negative ``int_field`` are recorded."""
        return self.declare(name, attributes)

    def declare_filled(self) -> None:
        """Declare a table of which a trigger fills a column, where it is measured."""

    def configure(self) -> None:
        """Make the mappings ready for use."""
        configure_mappers()

    def create(self) -> None:
        """Create the tables, and what tracks them."""
        self.item.metadata.create_all(self.engine)

    drops_all = False
    """Whether ``drop_all`` drops what tracks the tables too, so that it is measured."""

    def comparisons(self) -> dict[str, Callable[[], None]]:
        """Return what compares the database with the models, by name, in order."""
        return {}

    def told(
        self, target: Connection | Session
    ) -> contextlib.AbstractContextManager[Any]:
        """Tell a transaction, which is about to begin, who makes it."""
        raise NotImplementedError

    def counts(self, table: str) -> str:
        """Return a SELECT of how many events there are, and how many with context."""
        return "SELECT 0, 0"

    def copy(self, target: Connection | Session, write: Write) -> None:
        """Write history by hand, where that is what is done."""

    def new_context_id(self) -> uuid.UUID:
        """Return the id of a context, as the subject makes it."""
        return uuid.uuid4()

    events: tuple[str, dict[str, str]] = ("", {})
    """The events of ``item``, and SQL for an update's: of ``item`` and ``context``."""

    # How it works.

    def setup(self) -> None:
        """Declare the models and create the tables."""
        self.item = self.declare("item", columns.item())
        self.wide = self.declare("wide", columns.wide())
        self.rare = self.declare_rare("rare", columns.item())
        self.declare_filled()
        self.configure()
        self.create()

    def new_engine(self, url: URL) -> Engine:
        """Return an engine with the options of all."""
        return create_engine(url, connect_args=self.options, pool_size=8)

    def fresh(self) -> None:
        """Begin anew with connections; the first is made."""
        self.engine.dispose()
        self.engine.connect().close()

    def close(self) -> None:
        """End all connections."""
        self.engine.dispose()

    def in_context(
        self, target: Any, context: bool
    ) -> contextlib.AbstractContextManager[Any]:
        """Return the block of a transaction."""
        return self.told(target) if context else contextlib.nullcontext()

    @contextlib.contextmanager
    def transaction(self, context: bool) -> Iterator[Any]:
        """Give what :meth:`perform` takes, and commit at the end."""
        with self.engine.connect() as connection, self.in_context(connection, context):
            yield connection
            connection.commit()

    @contextlib.contextmanager
    def session(self, context: bool) -> Iterator[Session]:
        """Give a session, and commit at the end."""
        with Session(self.engine) as session, self.in_context(session, context):
            yield session
            session.commit()

    def perform(self, target: Any, write: Write) -> None:
        """Execute a statement that writes many rows."""
        if write.op == "D":
            self.copy(target, write)
        target.execute(text(write.sql), write.parameters)
        if write.op != "D":
            self.copy(target, write)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """Give a connection that :meth:`update_one` uses again and again."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.rollback()
            yield connection

    def update_one(self, connection: Connection, id_: int, context: bool) -> None:
        """Update a row, in a transaction."""
        with self.in_context(connection, context):
            self.core(connection, id_)
            connection.commit()

    def core(self, connection: Connection, id_: int) -> None:
        """Update a row by a statement of Core."""
        table = self.item.__table__
        connection.execute(
            update(table)
            .where(table.c.id == id_)
            .values(int_field=table.c.int_field + 1)
        )
        self.copy(connection, Write("U", "item", "", "id = :id", {"id": id_}))

    def add(self, session: Session, count: int, cls: Any = None) -> None:
        """Add objects to a session, and flush."""
        cls = cls or self.item
        session.add_all(new_objects(cls, count))
        session.flush()
        self.copy(session, inserted(cls.__tablename__, count))

    def change(self, session: Session, cls: Any = None) -> None:
        """Change all objects, three attributes of each, and flush."""
        cls = cls or self.item
        for number, each in enumerate(session.query(cls)):
            change_object(each, number)
        session.flush()
        self.copy(session, Write("U", cls.__tablename__, ""))

    def remove(self, session: Session) -> None:
        """Delete all objects, and flush."""
        self.copy(session, Write("D", "item", ""))
        for each in session.query(self.item):
            session.delete(each)
        session.flush()

    @contextlib.contextmanager
    def connected_to(self, url: URL) -> Iterator[Any]:
        """Give a connection to another URL, not in a transaction."""
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

    def ways(self) -> dict[str, Any]:
        """Return ways to write in a transaction, as functions of a connection."""

        def flush(connection: Connection) -> None:
            with Session(connection) as session:
                self.add(session, 1)
                session.commit()
            connection.commit()  # if the transaction was begun before

        def core(connection: Connection) -> None:
            self.core(connection, 1)
            connection.commit()

        def executemany(connection: Connection) -> None:
            rows = [{"int_field": n} for n in range(20)]
            connection.execute(insert(self.item.__table__), rows)
            self.copy(connection, inserted("item", 20))
            connection.commit()

        return {"ORM flush": flush, "Core": core, "executemany": executemany}

    # What is done and asked between the measurements.

    def grow(self, count: int) -> None:
        """Store contexts with an event each, as so many transactions before have."""
        table, values = self.events
        names = ", ".join(columns.item())
        with self.engine.begin() as connection:
            driver: Any = connection.connection.driver_connection
            copy = "COPY pghistory_context (id, created_at, updated_at, metadata)"
            metadata = json.dumps({"user": USER, "url": PAGE})
            now = datetime.datetime.now(datetime.timezone.utc)
            with driver.cursor() as cursor, cursor.copy(f"{copy} FROM STDIN") as rows:
                for _ in range(count):
                    rows.write_row((self.new_context_id(), now, now, metadata))
            connection.exec_driver_sql(
                f"INSERT INTO {table} ({', '.join(values)}, {names})"
                f" SELECT {', '.join(values.values())}, item.* FROM item"
                " JOIN (SELECT row_number() OVER () AS n, id FROM pghistory_context)"
                " AS context ON item.id = 1 + mod(context.n,"
                " (SELECT count(*) FROM item)) ORDER BY context.n"
            )

    def clear(self) -> None:
        """Empty all tables, and restart their numbers."""
        for tables in (TABLES, self.history):
            if tables:
                self.admin(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")

    def settle(self, *tables: str) -> None:
        """Have the server do now what it would do in the background."""
        self.admin(f"VACUUM ANALYZE {', '.join((*tables, *self.history))}")

    def count(self, table: str) -> tuple[int, int]:
        """Return how many events of a table there are, and how many with context."""
        recorded, told = self.admin(self.counts(table))
        return recorded, told

    def size(self) -> int:
        """Return the bytes on disk of all but the tables that are tracked."""
        (size,) = self.admin(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint"
            " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname !~ '^pg_'"
            " AND n.nspname <> 'information_schema'"
            " AND c.relname NOT IN ('item', 'rare', 'wide')"
        )
        return int(size)

    def written(self) -> int:
        """Return how many bytes of WAL the server has written."""
        (written,) = self.admin("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
        return int(written)

    def admin(self, sql: str) -> tuple[Any, ...]:
        """Execute a statement on a connection apart, outside of a transaction."""
        if self._admin is None:
            engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
            self._admin = engine.connect()
            with contextlib.suppress(DBAPIError):  # not everybody may
                # Triggers need not run for a TRUNCATE between two measurements.
                self._admin.exec_driver_sql("SET session_replication_role = replica")
        result = self._admin.exec_driver_sql(sql)
        return tuple(result.one()) if result.returns_rows else ()


def inserted(table: str, count: int) -> Write:
    """Return what says which rows were inserted last."""
    last = f"currval(pg_get_serial_sequence('{table}', 'id'))"
    return Write("I", table, "", f"id > {last} - {count}")


def new_objects(cls: Any, count: int) -> list[Any]:
    """Return new objects of five columns or of forty."""
    if cls.__name__.lower() == "wide":
        values = dict.fromkeys(columns.INTEGERS, 1)
        values |= {name: f"some text of {name}" for name in columns.STRINGS}
        values |= {name: n / 7 for n, name in enumerate(columns.FLOATS)}
        return [cls(**values) for _ in range(count)]
    return [
        cls(int_field=n, char_field=f"hello {n}", note="some text of a note")
        for n in range(count)
    ]


def change_object(each: Any, number: int) -> None:
    """Change three attributes."""
    if type(each).__name__.lower() == "wide":
        each.i1, each.s1, each.f1 = 2, f"changed {number}", number / 11
    else:
        each.int_field += 1
        each.char_field = f"bye {number}"
        each.note = "some other text of a note"
