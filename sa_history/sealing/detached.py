"""Partitions that somebody has detached: no erasure changes their rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, column, func, select
from sqlalchemy import table as table_clause

from sa_history.capture.detached import Partitioning, read_detached
from sa_history.exc import ErasureError
from sa_history.sealing.sources import Ledger


def require_attached(
    ledger: Ledger,
    partitioning: Partitioning,
    names: Collection[str],
    is_one: Callable[[Any], ColumnElement[bool]],
) -> None:
    """Refuse to erase of a table what a detached partition of it has as well.

    Those that a removal has detached are dropped by it, and no obstacle.

    :param partitioning: how the table of events or of contexts is partitioned.
    :param names: the columns that ``is_one`` needs.
    :param is_one: returns the criterion of the rows that are to be erased.
    :raises ErasureError: there is such a partition with such a row, or one that cannot
        be asked whether it has one.
    """
    table = partitioning.table
    for detached in read_detached(ledger.connection, [partitioning], ledger.schemas):
        if detached.is_going:
            continue
        name = detached.name
        what = f"{name.dotted}, which is no partition of {table.fullname} any more, "
        missing = sorted(set(names) - detached.columns)
        if missing or not detached.is_readable:
            reason = (
                f"as it has no column {missing[0]!r}"
                if missing
                else "as the role may not read it"
            )
            raise ErasureError(
                f"{what}cannot be asked for rows that are to be erased, {reason}; "
                "attach it to erase them there, or drop it"
            )
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
                f"{what}has rows that are to be erased ({found}), where the values "
                "would stay; attach it to erase them there, or drop it"
            )
