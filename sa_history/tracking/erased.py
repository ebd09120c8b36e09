"""Values that were erased from events, where events are read."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Text, func, literal_column

from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.sql.compose import quote_literal
from sa_history.tracking.registry import Tracking


class Erased(enum.Enum):
    """The type of :data:`ERASED`, a value that was erased from an event.

    Example::

        before, after = event.diff["email"]
        if before is history.ERASED: ...
    """

    ERASED = "erased"

    def __repr__(self) -> str:
        return "ERASED"

    def __str__(self) -> str:
        return str(self.value)


ERASED = Erased.ERASED
"""A value that ``history.erase`` has taken out of an event; it is not NULL."""


def is_erased(column_name: str, erased: Any) -> ColumnElement[bool]:
    """Return the criterion of events from which the value of a column was erased.

    :param erased: the ``pgh_erased`` of the events.
    """
    found: ColumnElement[bool] = literal_column(
        quote_literal(column_name), Text
    ) == func.any(erased)
    return found


def erased_attributes(tracking: Tracking, erased: Collection[str] | None) -> set[str]:
    """Return the attributes whose values were erased from an event.

    :param erased: the names of columns in the event's ``pgh_erased``, None if nothing
        was erased.
    """
    columns = tracking.tracked_columns
    return {
        name
        for name in (tracking.options.erasable if erased else ())
        if columns.column_name(name) in (erased or ())
    }


def erased_from(event: Any) -> set[str]:
    """Return the attributes whose values were erased from an event in Python."""
    return erased_attributes(event.pgh_tracking, getattr(event, ERASED_COLUMN, None))
