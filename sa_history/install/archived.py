"""What the database knows of its archive: which partitions are there, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, MetaData, Row, func, inspect, select, table, update
from sqlalchemy.dialects.postgresql import insert

from sa_history.capture.archive_table import archive_table_of
from sa_history.ddl.partitions import PartitionedTable, RangePartition


class ArchivedPartitions:
    """The archived partitions of one table.

    :param metadata: the models of the table.
    :param table: the table, with its schema in the database.
    """

    def __init__(self, metadata: MetaData, table: PartitionedTable) -> None:
        found = archive_table_of(metadata)
        assert found is not None  # as its table has partitions
        self._archived = found
        self._table = table
        self._is_there = False

    def is_known(self, connection: Connection) -> bool:
        """Return whether the database has the table of archived partitions."""
        schema = connection.schema_for_object(self._archived)
        return inspect(connection).has_table(self._archived.name, schema=schema)

    def all(self, connection: Connection) -> Sequence[Row[Any]]:
        """Return the rows of all partitions; empty if nothing was ever archived."""
        if not self._is_there:
            self._is_there = self.is_known(connection)
        if not self._is_there:
            return []
        rows = self._archived
        of_table = rows.c.table_name == self._table.name.dotted
        return connection.execute(select(rows).where(of_table)).all()

    def find(
        self, found: Sequence[Row[Any]], partition: RangePartition
    ) -> Row[Any] | None:
        """Return the row of a partition that was not dropped; None if there is none."""
        bounds = self.bounds(partition)
        for row in found:
            is_it = (row.lower_bound, row.upper_bound) == bounds
            if is_it and row.dropped_at is None:
                return row
        return None

    def is_changed(
        self, connection: Connection, found: Row[Any], partition: RangePartition
    ) -> bool:
        """Return whether a partition has other rows than when it was archived.

        Rows come late: an event with a number of its own, or a context that a process
        has been in since then. None is changed, but by an erasure, which tells.

        :param found: its row, as :meth:`find` gives it.
        """
        name = partition.name
        rows = select(func.count()).select_from(table(name.name, schema=name.schema))
        return bool(connection.execute(rows).scalar_one() != found.rows)

    def bounds(self, partition: RangePartition) -> tuple[str | None, str | None]:
        """Return the bounds of a partition as the table has them."""
        lower, upper = partition.lower, partition.upper
        return self._bound(lower), self._bound(upper)

    def _bound(self, number: int | None) -> str | None:
        return None if number is None else self._table.text(number)

    def record(self, connection: Connection, **values: Any) -> None:
        """Record a partition as archived, in place of an earlier record of its path.

        :param values: by the names of columns, without the table's name.
        """
        row = {
            "table_name": self._table.name.dotted,
            "archived_at": func.clock_timestamp(),
            "dropped_at": None,
            **values,
        }
        statement = insert(self._archived).values(row)
        key = ("table_name", "path")
        renewed = {name: statement.excluded[name] for name in row if name not in key}
        connection.execute(
            statement.on_conflict_do_update(index_elements=key, set_=renewed)
        )

    def change(self, connection: Connection, path: str, **values: Any) -> None:
        """Change the record of a partition.

        :param path: the path of its file.
        :param values: by the names of columns.
        """
        rows = self._archived
        connection.execute(
            update(rows)
            .where(rows.c.table_name == self._table.name.dotted, rows.c.path == path)
            .values(values)
        )

    def mark_dropped(self, connection: Connection, found: Row[Any]) -> None:
        """Note that an archived partition is gone from the database.

        :param found: its row, as :meth:`find` gives it.
        """
        self.change(connection, found.path, dropped_at=func.clock_timestamp())
