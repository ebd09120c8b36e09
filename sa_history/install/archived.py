"""What the database knows of its archive: which partitions are there, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    MetaData,
    Row,
    Table,
    func,
    inspect,
    select,
    table,
    update,
)
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

    def all(self, connection: Connection) -> Sequence[Row[Any]]:
        """Return the rows of all partitions; empty if nothing was ever archived."""
        (rows,) = self.all_of(connection, [self])
        return rows

    @staticmethod
    def all_of(
        connection: Connection, tables: Sequence[ArchivedPartitions]
    ) -> list[list[Row[Any]]]:
        """Return the rows of all partitions of some tables, a list for each of them."""
        found: dict[tuple[Table, str], list[Row[Any]]] = {}
        for archived in dict.fromkeys(one._archived for one in tables):
            of_it = [one for one in tables if one._archived is archived]
            is_there = of_it[0]._is_there
            if not is_there:
                schema = connection.schema_for_object(archived)
                is_there = inspect(connection).has_table(archived.name, schema=schema)
            for one in of_it:
                one._is_there = is_there
            if is_there:
                names = [one._table.name.dotted for one in of_it]
                query = select(archived).where(archived.c.table_name.in_(names))
                for row in connection.execute(query):
                    found.setdefault((archived, row.table_name), []).append(row)
        return [
            found.get((one._archived, one._table.name.dotted), []) for one in tables
        ]

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
