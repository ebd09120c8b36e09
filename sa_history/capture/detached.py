"""Partitions that somebody has detached: tables that no statement of history reads.

Two marks tell them. The comment goes along with a table that is renamed or moved to
another schema; the name is left where a dump was restored without comments, or where
somebody has given the table a comment of his own. A table with either mark is one, if
it has the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeAlias

from sqlalchemy import ARRAY, Connection, Table, Text, bindparam, text

from sa_history.capture.partitioning import (
    ContextPartitioning,
    EventPartitioning,
    Horizon,
    partition_name,
)
from sa_history.ddl.partitions import REMOVED
from sa_history.sql import catalog_queries as catalog
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.util.identifiers import MAX_BYTES

Partitioning: TypeAlias = EventPartitioning | ContextPartitioning

_HASH_BYTES = 9
"""How many bytes of a name that was too long are a hash of it, with the "_" before."""


@dataclass(frozen=True)
class DetachedPartition:
    """A table that was a partition of a table of events or of contexts.

    :param partitioning: how the table is partitioned that it was a partition of.
    :param name: with its schema in the database.
    :param columns: the names of its columns.
    :param is_readable: whether the user may read it.
    :param is_going: True if a removal has detached it, which drops it.
    :param is_renounced: True if somebody has given it another comment, to be told of it
        no more.
    """

    partitioning: Partitioning
    name: Qualified
    columns: frozenset[str]
    is_readable: bool
    is_going: bool
    is_renounced: bool


def read_detached(
    connection: Connection, partitionings: Sequence[Partitioning], schemas: SchemaNames
) -> list[DetachedPartition]:
    """Read the detached partitions of tables.

    In another schema than that of the table they are found by their comments, but for a
    schema with a table of the same name, as each tenant has one, whose they are.

    :param partitionings: how the tables are partitioned.
    :param schemas: gives the name in the database of a schema of the models.
    :return: table by table, in the order of their names.
    """
    if not partitionings:
        return []
    wanted = [
        (p.comment, schemas(p.table.schema), p.table.name, *_around_start(p.table))
        for p in partitionings
    ]
    names = ("comments", "schemas", "tables", "begins", "ends")
    arrays = dict(zip(names, map(list, zip(*wanted, strict=True)), strict=True))
    arrays["columns"] = [",".join(p.known_by) for p in partitionings]
    statement = text(catalog.DETACHED_PARTITIONS).bindparams(
        *(bindparam(name, values, ARRAY(Text)) for name, values in arrays.items()),
        removed=REMOVED,
    )
    own = {
        Qualified.of(table, schemas)
        for metadata in dict.fromkeys(p.table.metadata for p in partitionings)
        for table in metadata.tables.values()
    }
    found = []
    for row in connection.execute(statement):
        partitioning = partitionings[row.number - 1]
        name, schema = Qualified(row.schema, row.name), partitioning.table.schema
        # A run looks for what it has detached in the schema of the table.
        is_removed = (row.comment or "").startswith(REMOVED)
        partition = DetachedPartition(
            partitioning,
            name,
            frozenset(row.columns),
            row.is_readable,
            is_going=is_removed and row.schema == schemas(schema),
            is_renounced=_is_another(row.comment, partitioning.comment),
        )
        if name not in own:
            found.append(partition)
    return found


def _is_another(found: str | None, comment: str) -> bool:
    """Return whether a comment is none that sa_history gives a partition."""
    if found is None or Horizon.of_comment(found) is not None:
        return False
    return found.removeprefix(REMOVED) != comment


def _around_start(table: Table) -> tuple[str, str]:
    """Return what stands in the name of each partition before its start, and after it.

    They are shorter than that where names are so long that they have a hash.
    """
    names = [partition_name(table, start).name for start in ("1", "2")]
    begin = _common(*names)
    end = _common(*(name[::-1] for name in names))[::-1]
    has_room = len(names[0].encode()) + _HASH_BYTES <= MAX_BYTES
    if has_room:
        return begin, end
    kept = begin.encode()[: MAX_BYTES - _HASH_BYTES]
    return kept.decode(errors="ignore"), ""


def _common(one: str, other: str) -> str:
    """Return the characters that both texts begin with."""
    pairs = zip(one, other, strict=False)
    same = takewhile(lambda pair: pair[0] == pair[1], pairs)
    return "".join(letter for letter, _ in same)
