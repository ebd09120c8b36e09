"""Partitions that somebody has detached: tables that no statement of history reads.

Two marks tell them. The comment goes along with a table that is renamed or moved to
another schema; the name is left where a dump was restored without comments, or where
somebody has given the table a comment of his own. A table with either mark is one, if
it has the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

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

_HASH_BYTES = 9
"""How many bytes of a name that was too long are a hash of it, with the "_" before."""


@dataclass(frozen=True)
class DetachedPartition:
    """A table that was a partition of a table of events or of contexts.

    :param name: with its schema in the database.
    :param columns: the names of its columns.
    :param is_readable: whether the user may read it.
    :param is_going: True if a removal has detached it, which drops it.
    :param is_renounced: True if somebody has given it another comment, to be told of it
        no more.
    """

    name: Qualified
    columns: frozenset[str]
    is_readable: bool
    is_going: bool
    is_renounced: bool


def read_detached(
    connection: Connection,
    partitioning: EventPartitioning | ContextPartitioning,
    schemas: SchemaNames,
) -> list[DetachedPartition]:
    """Read the detached partitions of a table.

    In another schema than that of the table they are found by their comments, but for a
    schema with a table of the same name, as each tenant has one, whose they are.

    :param partitioning: how the table is partitioned.
    :param schemas: gives the name in the database of a schema of the models.
    :return: in the order of their names.
    """
    table = partitioning.table
    comment, schema = partitioning.comment, schemas(table.schema)
    begin, end = _around_start(table)
    statement = text(catalog.DETACHED_PARTITIONS).bindparams(
        bindparam("comments", [comment, REMOVED + comment], ARRAY(Text)),
        bindparam("columns", list(partitioning.known_by), ARRAY(Text)),
        schema=schema,
        table=table.name,
        begin=begin,
        end=end,
    )
    own = {(schemas(t.schema), t.name) for t in table.metadata.tables.values()}
    return [
        DetachedPartition(
            Qualified(row.schema, row.name),
            frozenset(row.columns),
            row.is_readable,
            # A run looks for what it has detached in the schema of the table.
            row.schema == schema and (row.comment or "").startswith(REMOVED),
            _is_another(row.comment, comment),
        )
        for row in connection.execute(statement)
        if (row.schema, row.name) not in own
    ]


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
