"""Partitions that somebody has detached: tables that no statement of history reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Table, column, func, select, text
from sqlalchemy import table as table_clause

from sa_history.capture.partitioning import partition_name
from sa_history.ddl.partitions import REMOVED
from sa_history.exc import ErasureError
from sa_history.sealing.sources import Ledger
from sa_history.sql.compose import Qualified

_TABLES = text(
    """
    SELECT c.relname
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind = 'r' AND NOT c.relispartition
      AND starts_with(c.relname::text, :prefix)
      AND has_table_privilege(c.oid, 'SELECT')
      AND coalesce(NOT starts_with(obj_description(c.oid, 'pg_class'), :removed), true)
      AND CAST(:columns AS text[]) <@ ARRAY(
        SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      )
    ORDER BY c.relname
    """
)


def require_attached(
    ledger: Ledger,
    table: Table,
    names: Collection[str],
    is_one: Callable[[Any], ColumnElement[bool]],
) -> None:
    """Refuse to erase of a table what a detached partition of it has as well.

    Those that a removal has detached are dropped by it, and no obstacle.

    :param table: a partitioned table of events or of contexts.
    :param names: the columns that ``is_one`` needs.
    :param is_one: returns the criterion of the rows that are to be erased.
    :raises ErasureError: there is such a partition with such a row.
    """
    for name in _detached(ledger, table, names):
        rows = table_clause(
            name.name,
            *(column(known, table.columns[known].type) for known in names),
            schema=name.schema,
        )
        found = ledger.connection.scalar(
            select(func.count()).select_from(rows).where(is_one(rows))
        )
        if found:
            raise ErasureError(
                f"{name.dotted}, which is no partition of {table.fullname} any more, "
                f"has rows that are to be erased ({found}), where the values would "
                "stay; attach it to erase them there, or drop it"
            )


def _detached(
    ledger: Ledger, table: Table, names: Collection[str]
) -> Iterator[Qualified]:
    """Yield tables that have the name of a partition, and are none."""
    schema = ledger.schemas(table.schema)
    # What the names of partitions have in common, also those of a convention's.
    one, other = (partition_name(table, start).name for start in ("1", "2"))
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    found = ledger.connection.scalars(
        _TABLES.bindparams(
            schema=schema,
            prefix="".join(letter for letter, _ in pairs),
            removed=REMOVED,
            columns=list(names),
        )
    )
    yield from (Qualified(schema, name) for name in found.all())
