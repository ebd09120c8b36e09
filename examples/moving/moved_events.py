"""Write the history that another library has kept as events, in one order for all.

What a program such as ``from_continuum.py`` gives is, for each tracked table, a SELECT
of its versions. Their events come before all others: the event tables have to be empty,
and nobody writes the tracked tables until the transaction ends.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    Uuid,
    case,
    cast,
    create_engine,
    exists,
    func,
    insert,
    inspect,
    literal,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

import sa_history as history

LABELS = {"I": "snapshot", "U": "snapshot", "D": "delete"}
"""The label of each operation, which are those of ``Snapshot`` and ``AfterDelete``."""


@dataclass(frozen=True)
class Versions:
    """The versions of the rows of one table.

    :param table: the tracked table.
    :param rows: a SELECT with the columns of the table, as far as they are known, with
        columns of events, ``pgh_context`` (as JSON) included, and ``pgh_position``: a
        number by which the changes of all tables are in their order.
    """

    table: Table
    rows: Select[Any]

    def numbered(self) -> FromClause:
        """Return the rows with a number each, which is the same in each statement."""
        rows = self.rows.subquery()
        key = [rows.c[column.name] for column in self.table.primary_key]
        number = func.row_number().over(order_by=[rows.c.pgh_position, *key])
        return select(rows, number.label("pgh_number")).subquery()


def tracked_tables(metadata: MetaData) -> list[Table]:
    """Return the tracked tables, referred ones before those that refer to them."""

    def is_tracked(table: Table) -> bool:
        try:
            history.events(table)
        except history.exc.EventsError:
            return False
        return True

    return [table for table in metadata.sorted_tables if is_tracked(table)]


def context_columns(
    library: str,
    transactions: FromClause,
    known: ColumnElement[Any],
    internal: Sequence[str],
    keys: Mapping[str, str],
) -> list[ColumnElement[Any]]:
    """Return the columns of a SELECT of contexts, one for each transaction.

    :param library: the name of the other library, for the ids of contexts.
    :param transactions: its table of transactions, with ``id`` and ``issued_at``, which
        is a time in UTC.
    :param known: what is known of a transaction, as JSON.
    :param internal: the names in it that tell nothing of who and why.
    :param keys: names in it that get another key.
    :return: ``pgh_context_id`` and ``pgh_context``, both NULL where nothing is known,
        and ``pgh_created_at``.
    """
    renamed = func.jsonb_build_object(
        *(part for old, new in keys.items() for part in (new, known.op("->")(old)))
    )
    for name in [*internal, *keys]:
        known = known.op("-")(name)
    stripped = func.jsonb_strip_nulls(known.op("||")(renamed))
    metadata = func.nullif(stripped, func.jsonb_build_object(), type_=JSONB)
    name = func.concat(library, " ", transactions.c.id)
    return [
        case((metadata.is_not(None), cast(func.md5(name), Uuid))).label(
            "pgh_context_id"
        ),
        metadata.label("pgh_context"),
        func.timezone("UTC", transactions.c.issued_at).label("pgh_created_at"),
    ]


def write_contexts(
    connection: Connection, metadata: MetaData, contexts: FromClause
) -> None:
    """Store the contexts that a SELECT with ``context_columns`` has."""
    models = [history.events(table).model for table in tracked_tables(metadata)]
    with_id = [
        model for model in models if "pgh_context" in inspect(model).relationships
    ]
    if not with_id:
        return  # with context="inline" they are in the events
    table = inspect(with_id[0]).relationships["pgh_context"].target
    created_at = contexts.c.pgh_created_at
    rows = select(
        contexts.c.pgh_context_id, created_at, created_at, contexts.c.pgh_context
    ).where(contexts.c.pgh_context_id.is_not(None))
    columns = ["id", "created_at", "updated_at", "metadata"]
    connection.execute(insert(table).from_select(columns, rows))


def write_events(connection: Connection, versions: Sequence[Versions]) -> int:
    """Write an event for each version, numbered in the order of their positions.

    :return: the number of events.
    """
    if not versions:
        sys.exit("there are no versions of tracked tables; import all models")
    for one in versions:
        quoted = connection.dialect.identifier_preparer.format_table(one.table)
        # Reading goes on. A change would have an event before those of its past.
        connection.execute(text(f"LOCK TABLE {quoted} IN SHARE ROW EXCLUSIVE MODE"))
        events = history.events(one.table).table
        if connection.scalar(select(exists(select(events.c.pgh_id)))):
            sys.exit(f"{events.fullname} has events already; it has to be empty")
        greatest = select(func.max(one.rows.subquery().c.pgh_xact_id)).scalar_subquery()
        current = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
        if connection.scalar(select(greatest >= current)):
            sys.exit(
                "the transactions have greater numbers than this server has come to, "
                "and would be those of others; see docs/replication.md"
            )
    order = Table(
        "moved_order",
        MetaData(),
        Column("pgh_id", BigInteger, primary_key=True),
        Column("source", Integer),
        Column("number", BigInteger),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
    order.create(connection)
    numbered = [one.numbered() for one in versions]
    positions = union_all(
        *(
            select(
                literal(source).label("source"), rows.c.pgh_number, rows.c.pgh_position
            )
            for source, rows in enumerate(numbered)
        )
    ).subquery()
    in_order = (
        select(positions.c.source, positions.c.pgh_number)
        .order_by(positions.c.pgh_position, positions.c.source, positions.c.pgh_number)
        .subquery()
    )
    default = history.events(versions[0].table).table.c.pgh_id.server_default
    rows_in_order = select(default.arg, in_order.c.source, in_order.c.pgh_number)
    columns = ["pgh_id", "source", "number"]
    connection.execute(insert(order).from_select(columns, rows_in_order))
    for source, (one, rows) in enumerate(zip(versions, numbered, strict=True)):
        events = history.events(one.table).table
        values = {
            "pgh_id": order.c.pgh_id,
            "pgh_label": case(LABELS, value=rows.c.pgh_op),
            **{c.name: c for c in rows.c},
            **_values(one.table, rows),
        }
        values = {name: values[name] for name in values if name in events.c}
        is_its = (order.c.source == source) & (order.c.number == rows.c.pgh_number)
        moved = select(*values.values()).join_from(order, rows, is_its)
        connection.execute(insert(events).from_select(list(values), moved))
    return connection.scalar(select(func.count()).select_from(order)) or 0


def write_differences(connection: Connection, table: Table) -> int:
    """Write an event for each row that is not as its last event says.

    These are changes that the other library has not seen. The row as it is now is a
    first event again, as of ``baseline``; what is gone is deleted.

    :return: the number of events.
    """
    if not list(table.primary_key):
        return 0  # rows without a key cannot be told apart
    events = history.events(table).table
    key = [events.c[column.name] for column in table.primary_key]
    last = (
        select(events).distinct(*key).order_by(*key, events.c.pgh_id.desc()).subquery()
    )
    is_last = [last.c[column.name] == column for column in table.primary_key]
    moved = events.alias("moved")
    has_another_key = exists().where(
        moved.c.pgh_old_key
        == func.jsonb_build_array(*(last.c[c.name] for c in table.primary_key)),
        moved.c.pgh_id > last.c.pgh_id,
    )
    is_known = (last.c.pgh_op != "D") & ~has_another_key
    differs = or_(
        *(
            func.to_jsonb(last.c[column.name]).is_distinct_from(func.to_jsonb(column))
            for column in table.c
            if column.name in events.c
        )
    )
    seen = select(last.c.pgh_id).where(*is_last, is_known, ~differs)
    count = 0
    for op, label, rows, criterion in [
        ("B", "baseline", table, ~exists(seen)),
        ("D", "delete", last, is_known & ~exists(select(table).where(*is_last))),
    ]:
        values = {
            "pgh_op": literal(op),
            "pgh_label": literal(label),
            **_values(table, rows),
        }
        values = {name: values[name] for name in values if name in events.c}
        changed = select(*values.values()).where(criterion)
        written = insert(events).from_select(list(values), changed)
        cte = written.returning(events.c.pgh_id).cte()
        count += connection.scalar(select(func.count()).select_from(cte)) or 0
    return count


def _values(table: Table, rows: FromClause) -> dict[str, Any]:
    key = [rows.c[column.name] for column in table.primary_key]
    return {
        **({"pgh_obj_id": key[0]} if len(key) == 1 else {}),
        **{column.name: column for column in rows.c if column.name in table.c},
    }


def main(move: Callable[[Connection, MetaData], int]) -> None:
    """Move the history of the models that the first argument names.

    :param move: moves it by a connection, and returns the number of events.
    """
    if len(sys.argv) != 2 or ":" not in sys.argv[1]:
        sys.exit(f"usage: DATABASE_URL=... {sys.argv[0]} app.models:Base")
    sys.path.insert(0, os.getcwd())
    module, _, name = sys.argv[1].partition(":")
    metadata = getattr(importlib.import_module(module), name).metadata
    engine = create_engine(os.environ["DATABASE_URL"])
    with engine.begin() as connection:
        print(move(connection, metadata), "versions are events now")
        differences = sum(
            write_differences(connection, table) for table in tracked_tables(metadata)
        )
        print(differences, "rows were not as their last version")
    engine.dispose()
