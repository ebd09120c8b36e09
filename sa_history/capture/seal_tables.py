"""The tables of seals and erasures, which a MetaData has if a model asks for them.

No trigger writes them, and no write of a tracked table waits for them: seals are made
of events that are committed, by ``history.seal``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
)

from sa_history.sql.naming import generated_name, require_new_table

_INFO_KEY = "sa_history_seals"

_COMMENTS = {
    "seal": "Seals of events, each chained to the one before it",
    "seal_range": "The ranges of ids that seals are made of",
    "salt": "The salts of objects that are not erased",
    "erasure": "What was erased from history, by whom and why",
    "erased": "The events and contexts with erased values",
}
"""The comments of the tables, by which reflected ones are known."""


@dataclass(frozen=True, eq=False)
class SealTables:
    """The tables of seals and erasures of a MetaData.

    :param seal: one row for each seal, chained to the one before it by its root.
    :param seal_range: the digests of the ranges of ids that a seal is made of.
    :param salt: the salt of each object, until the object is erased.
    :param erasure: one row for each erasure, and for each removal of old events.
    :param erased: one row for each event and each context with erased values.
    """

    seal: Table
    seal_range: Table
    salt: Table
    erasure: Table
    erased: Table

    def all(self) -> tuple[Table, ...]:
        """Return the tables, each after those that it refers to."""
        return self.seal, self.seal_range, self.salt, self.erasure, self.erased


def is_seal_table(table: Table) -> bool:
    """Return whether a table, maybe a reflected one, is one of seals or erasures."""
    return table.comment in _COMMENTS.values()


def seal_tables_of(metadata: MetaData) -> SealTables | None:
    """Return the tables of seals of a MetaData, or None if no model asks for them."""
    found: SealTables | None = metadata.info.get(_INFO_KEY)
    if found is None or found.seal.key not in metadata.tables:
        return None
    return found


def ensure_seal_tables(metadata: MetaData) -> SealTables:
    """Return the tables of seals of a MetaData, made if there are none.

    :raises DefinitionError: the MetaData has a table of the name of one.
    """
    found = seal_tables_of(metadata)
    if found is None:
        found = metadata.info[_INFO_KEY] = _create_seal_tables(metadata)
    return found


def _create_seal_tables(metadata: MetaData) -> SealTables:
    timestamp = DateTime(timezone=True)
    names = {
        content: generated_name(metadata, "history_seal_table", content=content)
        for content in _COMMENTS
    }
    for name in names.values():
        require_new_table(metadata, name, "seals and erasures need; leave it out")
    seal = Table(
        names["seal"],
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("table_name", Text, nullable=False),
        Column("columns", ARRAY(Text), nullable=False),
        Column("erasable", ARRAY(Text), nullable=False),
        Column("context_keys", ARRAY(Text), nullable=False),
        Column("first_id", BigInteger, nullable=False),
        Column("last_id", BigInteger, nullable=False),
        Column("events", BigInteger, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("root", LargeBinary, nullable=False),
        Column("sealed_at", timestamp, nullable=False),
        comment=_COMMENTS["seal"],
    )
    seal_range = Table(
        names["seal_range"],
        metadata,
        Column("seal_id", BigInteger, ForeignKey(seal.c.id), primary_key=True),
        Column("first_id", BigInteger, primary_key=True, autoincrement=False),
        Column("last_id", BigInteger, nullable=False),
        Column("events", Integer, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("marks", LargeBinary, nullable=False),
        comment=_COMMENTS["seal_range"],
    )
    salt = Table(
        names["salt"],
        metadata,
        Column("table_name", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("salt", LargeBinary, nullable=False),
        comment=_COMMENTS["salt"],
    )
    erasure = Table(
        names["erasure"],
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("table_name", Text, nullable=False),
        Column("keys", ARRAY(Text), nullable=False),
        # Of a removal of old events, by their ids; an erasure has none.
        Column("first_id", BigInteger),
        Column("last_id", BigInteger),
        Column("events", BigInteger, nullable=False),
        Column("contexts", BigInteger, nullable=False),
        Column("reason", Text),
        Column("role", Text, nullable=False, server_default=func.current_user()),
        Column("erased_by", Text),
        Column("erased_at", timestamp, nullable=False, server_default=func.now()),
        comment=_COMMENTS["erasure"],
    )
    erased = Table(
        names["erased"],
        metadata,
        Column("table_name", Text, primary_key=True),
        Column("id", Text, primary_key=True),
        # Without a foreign key, which takes longer to check than all else of an
        # erasure. A verification tells of an erasure that is not there.
        Column("erasure_id", BigInteger, nullable=False),
        Column("columns", ARRAY(Text), nullable=False),
        # None of an event that no seal had when it was erased.
        Column("commitment", LargeBinary),
        comment=_COMMENTS["erased"],
    )
    return SealTables(seal, seal_range, salt, erasure, erased)


ERASED_COLUMN = "pgh_erased"
"""The column of the names of an event's columns whose values were erased."""


def erased_column() -> Column[Any]:
    """Return the event table's column of what was erased; no trigger writes it."""
    return Column(ERASED_COLUMN, ARRAY(Text))
