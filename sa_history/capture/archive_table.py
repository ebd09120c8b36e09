"""The table of archived partitions, which a MetaData has if an event table has some.

``history.archive`` writes it. By it the removal of old partitions knows what is in an
archive, and readers where events are that the database does not have any more.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text

from sa_history.sql.naming import generated_name, require_new_table

_INFO_KEY = "sa_history_archive"

_COMMENT = "The partitions of event and context tables that are in an archive"
"""The comment of the table, by which a reflected one is known."""


def is_archive_table(table: Table) -> bool:
    """Return whether a table, maybe a reflected one, is that of archived partitions."""
    return table.comment == _COMMENT


def archive_table_of(metadata: MetaData) -> Table | None:
    """Return the table of a MetaData, or None if no model is partitioned."""
    found: Table | None = metadata.info.get(_INFO_KEY)
    if found is None or found.key not in metadata.tables:
        return None
    return found


def ensure_archive_table(metadata: MetaData) -> Table:
    """Return the table of a MetaData, made if there is none.

    :raises DefinitionError: the MetaData has a table of its name.
    """
    found = archive_table_of(metadata)
    if found is None:
        found = metadata.info[_INFO_KEY] = _create(metadata)
    return found


def _create(metadata: MetaData) -> Table:
    name = generated_name(metadata, "history_archive_table")
    require_new_table(
        metadata, name, "is to be that of archived partitions; leave it out"
    )
    timestamp = DateTime(timezone=True)
    return Table(
        name,
        metadata,
        # As the folder of the archive names the table, with the database's schema.
        Column("table_name", Text, primary_key=True),
        Column("path", Text, primary_key=True),
        # Bounds and ids are numbers or UUIDs, as text.
        Column("lower_bound", Text),
        Column("upper_bound", Text, nullable=False),
        Column("folder", Text, nullable=False),
        Column("rows", BigInteger, nullable=False),
        Column("first_id", Text),
        Column("last_id", Text),
        Column("since", timestamp),
        Column("until", timestamp),
        Column("sha256", Text, nullable=False),
        Column("archived_at", timestamp, nullable=False),
        Column("dropped_at", timestamp),
        comment=_COMMENT,
    )
