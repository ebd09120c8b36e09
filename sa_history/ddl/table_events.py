"""SQLAlchemy's DDL events: objects that are created and dropped with a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, Table, event

from sa_history.ddl.elements import DatabaseObject
from sa_history.ddl.execution import create_objects, drop_functions, run_memo
from sa_history.sql.compose import Qualified
from sa_history.util.postgresql import require_postgresql


def install_with_table(
    table: Table,
    objects: Callable[[], Iterable[DatabaseObject]],
    functions: Callable[[], Iterable[Qualified]],
    prepare: Callable[[Connection, dict[str, Any]], None],
) -> None:
    """Create objects after a table is created, and drop them after it is dropped.

    :param table: the table.
    :param objects: gives the objects, in the order in which they are created. It is
        called each time, as columns may have been added to the table.
    :param functions: gives the names of the functions among them. Only these are
        dropped: PostgreSQL drops the triggers with the table.
    :param prepare: is called before; it raises if the objects would not be right on
        the table as the database has it. It is given the connection, and the memo of
        the run.
    """

    @event.listens_for(table, "before_create")
    def check_dialect(_: Table, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)

    @event.listens_for(table, "after_create")
    def create(_: Table, connection: Connection, **options: Any) -> None:
        memo = run_memo(options)
        prepare(connection, memo)
        create_objects(connection, *objects(), memo=memo)

    @event.listens_for(table, "after_drop")
    def drop(_: Table, connection: Connection, **options: Any) -> None:
        drop_functions(connection, functions(), run_memo(options))
