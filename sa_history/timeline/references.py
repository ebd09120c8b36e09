"""What the foreign keys of a tracked table refer to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy.exc import NoReferenceError

from sa_history.query.row_keys import referring_columns
from sa_history.timeline.entries import ShownTable
from sa_history.tracking.registry import Tracking
from sa_history.tracking.value_text import as_text


@dataclass(frozen=True)
class Reference:
    """The values of a foreign key.

    :param tracking: whose row they refer to.
    :param values: the key of the row, as JSON has it.
    """

    tracking: Tracking
    values: tuple[Any, ...]

    @property
    def key(self) -> str:
        """The key of the row as text, as the row's own events have it."""
        return as_text(self.values[0] if len(self.values) == 1 else self.values)


@dataclass(frozen=True)
class ReferringKey:
    """A foreign key that refers to the rows of a tracked table.

    :param tracking: the tracking of that table.
    :param attributes: the attributes that hold the key of a row, in its order.
    :param shown: those of them in whose place the row is shown. An attribute that is
        a foreign key by itself, as that of a tenant often is, is none of them.
    """

    tracking: Tracking
    attributes: tuple[str, ...]
    shown: tuple[str, ...]

    def reference(self, values: Mapping[str, Any]) -> Reference | None:
        """Return what values refer to, None if that is no row.

        :param values: the values by attribute, as JSON has them.
        """
        key = tuple(values.get(name) for name in self.attributes)
        # An object stands for what was erased.
        if any(value is None or isinstance(value, dict) for value in key):
            return None
        return Reference(self.tracking, key)


def referring_keys(
    table: ShownTable, trackings: Mapping[Table, Tracking]
) -> dict[str, ReferringKey]:
    """Return the foreign keys of a table, by the attributes that they are shown for.

    Those that have a hidden attribute are left out.

    :param trackings: all that is shown, by the tracked table.
    """
    found: dict[str, ReferringKey] = {}
    # Shorter ones first, then in an order that stays.
    for attributes, tracking in sorted(
        _referring_attributes(table, trackings),
        key=lambda pair: (len(pair[0]), pair[0], pair[1].table.fullname),
    ):
        shown = tuple(name for name in attributes if name not in found)
        found.update(dict.fromkeys(shown, ReferringKey(tracking, attributes, shown)))
    return found


def _referring_attributes(
    table: ShownTable, trackings: Mapping[Table, Tracking]
) -> Iterator[tuple[tuple[str, ...], Tracking]]:
    """Yield the attributes of each foreign key, with what they refer to."""
    names = {column.name: name for name, column in table.columns.items()}
    for constraint in table.tracking.table.foreign_key_constraints:
        # The referred table may be in no model.
        with contextlib.suppress(NoReferenceError):
            tracking = trackings.get(constraint.referred_table)
            columns = referring_columns(constraint)
            if tracking is None or columns is None:
                continue
            attributes = tuple(names[column] for column in columns)
            if table.hidden.isdisjoint(attributes):
                yield attributes, tracking
