"""Version counters: columns by which a stale write of a row is noticed.

These are the ``version_id_col`` of a mapper, and the columns of ``Versioned`` triggers.
A row that is restored counts on: with a version that it had before, whoever read the
row then could overwrite what was written since.

https://docs.sqlalchemy.org/en/20/orm/versioning.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Update,
    func,
    inspect,
    select,
    types,
    update,
)
from sqlalchemy.orm import Mapper

from sa_history.attachments.registry import attachments_of
from sa_history.sql.column_types import postgresql_type
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.event_keys import have_key
from sa_history.tracking.identity import identity_by_key, key_by_identity
from sa_history.tracking.registry import Tracking
from sa_history.triggers.versioned import Versioned


@dataclass(frozen=True, eq=False)
class VersionCounter:
    """A column that counts the changes of its row.

    :param column: the column, of the tracked table.
    :param generator: makes the next version of the last one, as SQLAlchemy calls it;
        None if the database or the application sets it.
    """

    column: Column[Any]
    generator: Callable[[Any], Any] | None

    @property
    def is_integer(self) -> bool:
        """Whether the versions are numbers that are counted."""
        return isinstance(postgresql_type(self.column.type), types.Integer)

    def values_of_update(self, version: Any) -> dict[Column[Any], Any]:
        """Return what an UPDATE of a row has to set.

        :param version: the version that the row has now.
        """
        if self.generator is None:
            return {}
        return {self.column: self.generator(version)}

    def values_of_insert(
        self,
        rows: ModelSession,
        tracking: Tracking,
        key: Mapping[Column[Any], Any],
        version: Any,
    ) -> dict[Column[Any], Any]:
        """Return what an INSERT of a row that was deleted has to set.

        :param rows: the session that reads the row's events.
        :param key: the key of the row.
        :param version: the version that the row had in an event; None, if the event
            does not store it.
        """
        last = self._last_version(rows, tracking, key)
        if last is None or (self.is_integer and version is not None):
            last = version if last is None else max(last, version)
        if self.generator is not None:
            return {self.column: self.generator(last)}
        if last is not None and self.is_integer:
            return {self.column: last + 1}
        return {}

    def _last_version(
        self, rows: ModelSession, tracking: Tracking, key: Mapping[Column[Any], Any]
    ) -> Any:
        """Return the last version of a key that an event stores, or None."""
        events = tracking.event_table
        columns = tracking.tracked_columns
        if self.column.name not in map(columns.column_name, columns.stored):
            return None
        stored = events.c[self.column.name]
        of_row = have_key(tracking, events, [*key.values()])
        if self.is_integer:
            # A row may have been deleted, and another inserted with its key.
            return rows.scalar(select(func.max(stored)).where(*of_row))
        newest = select(stored).where(*of_row, stored.is_not(None))
        return rows.scalar(newest.order_by(events.c.pgh_id.desc()).limit(1))


def version_counters(tracking: Tracking) -> list[VersionCounter]:
    """Return the version counters of a tracked table."""
    counted = {column: VersionCounter(column, None) for column in _triggered(tracking)}
    column = _version_column(tracking)
    if column is not None and column.table is tracking.table:
        counted.setdefault(column, VersionCounter(column, _generator(tracking)))
    return [*counted.values()]


def next_versions(tracking: Tracking) -> dict[Column[Any], ColumnElement[Any]] | None:
    """Return what an UPDATE of many rows sets their version counters to.

    :return: an expression for each counter that a statement has to set; None if a
        function of the application makes the versions, or they are in another table.
    """
    column, generator = _version_column(tracking), _generator(tracking)
    if column is None or generator is None or column in set(_triggered(tracking)):
        return {}
    if column.table is not tracking.table or generator.__module__ != Mapper.__module__:
        return None
    return {column: func.coalesce(column, 0) + 1}  # as SQLAlchemy's own generator does


def versions_of_rows_again(
    tracking: Tracking, before: Callable[[str], ColumnElement[Any]]
) -> dict[Column[Any], ColumnElement[Any]] | None:
    """Return what an INSERT of many rows that were deleted sets their counters to.

    :param tracking: whose versions :func:`next_versions` knows.
    :param before: returns the expression of what a row had in a column, by its name.
    :return: an expression for each counter, as :meth:`VersionCounter.values_of_insert`
        has them; None if they are to be made for each row.
    """
    counters, columns = version_counters(tracking), tracking.tracked_columns
    events = tracking.event_table.alias("pgh_versions")
    stored = set(map(columns.column_name, columns.stored))
    key = [before(columns.column_name(name)) for name in columns.key]
    of_row = have_key(tracking, events, key)
    versions: dict[Column[Any], ColumnElement[Any]] = {}
    for column in (counter.column for counter in counters if counter.is_integer):
        if column.name in stored and not column.nullable:
            last = select(func.max(events.c[column.name])).where(*of_row)
            had = func.greatest(last.scalar_subquery(), before(column.name))
            versions[column] = had + 1
    return versions if len(versions) == len(counters) else None


def update_of_inherited_counter(
    rows: ModelSession, tracking: Tracking, key: Mapping[Column[Any], Any]
) -> Update | None:
    """Return an UPDATE that counts on in the table of a base class, or None.

    With joined inheritance, the counter of a row may be in another table, as the ORM
    has it count changes of all tables.

    :param rows: the session that locks the row there.
    :param key: the key of the row in the tracked table.
    """
    column, generator = _version_column(tracking), _generator(tracking)
    if column is None or column.table is tracking.table or generator is None:
        return None
    mapper: Any = inspect(tracking.model)
    identity = identity_by_key(mapper, key)
    by_key = key_by_identity(mapper, [*column.table.primary_key], identity)
    is_row = [part == value for part, value in by_key.items()]
    version = rows.scalar(select(column).where(*is_row).with_for_update())
    return update(column.table).where(*is_row).values({column: generator(version)})


def _triggered(tracking: Tracking) -> Iterator[Column[Any]]:
    """Yield the columns of ``Versioned`` triggers."""
    for attachment in attachments_of(tracking.table.metadata).of_table(tracking.table):
        if isinstance(attachment.trigger, Versioned):
            columns = attachment.target.columns
            yield columns.named(attachment.name, attachment.trigger.column)


def _version_column(tracking: Tracking) -> Any:
    """Return the ``version_id_col`` of the model's mapper, or None without one."""
    return None if tracking.model is None else inspect(tracking.model).version_id_col


def _generator(tracking: Tracking) -> Callable[[Any], Any] | None:
    """Return the ``version_id_generator`` of the model's mapper, None if it is off."""
    found = tracking.model and inspect(tracking.model).version_id_generator
    return found or None
