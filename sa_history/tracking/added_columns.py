"""Columns that are younger than an event, so that the event cannot know them.

``ALTER TABLE ... ADD COLUMN`` leaves NULL in the events that are there already. It is
no value that a row had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import column, func, not_, or_, select, table

from sa_history.sql.comparison import stored_equals
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.registry import Tracking

_ATTRIBUTES = table(
    "pg_attribute",
    column("attrelid"),
    column("attname"),
    column("xmin"),
    schema="pg_catalog",
)


class AddedColumns:
    """The columns that were added to a tracked table after an event.

    :param rows: the session that reads the events.
    :param tracking: the tracking of the table.
    """

    def __init__(self, rows: ModelSession, tracking: Tracking) -> None:
        self._rows = rows
        self._tracking = tracking
        self._first_events: dict[str, int | None] = {}

    def unknown(self, number: int, values: Mapping[str, Any]) -> set[str]:
        """Return the columns that an event cannot know.

        :param number: the number of the event, its ``pgh_id``.
        :param values: its values by the names of their columns, None for NULL.
        """
        return {
            name
            for name, value in values.items()
            if value is None and not self._is_known(name, number)
        }

    def first_known(self, name: str) -> int | None:
        """Return the number of the first event whose NULL in a column is a value.

        :param name: the name of the column.
        :return: None if it never is what the row had.
        """
        if not self._tracking.table.c[self._key_of(name)].nullable:
            return None
        if name not in self._first_events:
            self._first_events[name] = self._first_event(name)
        return self._first_events[name]

    def _is_known(self, name: str, number: int) -> bool:
        first = self.first_known(name)
        return first is not None and first <= number

    def _key_of(self, name: str) -> str:
        return next(c.key for c in self._tracking.table.c if c.name == name)

    def _first_event(self, name: str) -> int | None:
        """Return the number of the first event that knows a column, None without one.

        It has a value in it, or its row was written after the column was last altered,
        as the transactions say that wrote the one and the other.
        """
        events = self._tracking.event_table
        oid = select(column("tableoid", _selectable=events)).limit(1).scalar_subquery()
        altered = (
            select(func.age(_ATTRIBUTES.c.xmin))
            .where(_ATTRIBUTES.c.attrelid == oid, _ATTRIBUTES.c.attname == name)
            .scalar_subquery()
        )
        written = func.age(column("xmin", _selectable=events))
        first: int | None = self._rows.scalar(
            select(events.c.pgh_id)
            .where(or_(not_(stored_equals(events.c[name], None)), written <= altered))
            .order_by(events.c.pgh_id)
            .limit(1)
        )
        return first
