"""An event as the timeline shows it."""

from __future__ import annotations

import contextlib
import datetime
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column
from sqlalchemy.exc import NoReferenceError

from sa_history._types import Op
from sa_history.exc import DefinitionError
from sa_history.query.event_search import VERBS
from sa_history.tracking.registry import Tracking
from sa_history.tracking.stored_values import is_same_value

GONE_VERBS = (VERBS[Op.DELETE], VERBS[Op.TRUNCATE])
"""The operations after which there is no row."""

MASKED = "•••"
"""What stands in the place of a value that is not shown."""


@dataclass(frozen=True)
class Masks:
    """The attributes that are never shown.

    :param names: attributes, as ``"password"`` or ``"User.email"``.
    """

    names: frozenset[str] = frozenset()

    def of(self, trackings: Iterable[Tracking]) -> Hidden:
        """Return the columns that the names hide.

        :param trackings: all that is tracked, in any database.
        :raises DefinitionError: a name hides nothing, so that what it was to hide would
            be shown.
        """
        if not self.names:  # each page asks, and there may be many models
            return Hidden(frozenset())
        columns: dict[str, set[Column[Any]]] = {}
        for tracking in trackings:
            for attribute, column in tracking.tracked_columns.by_attribute.items():
                for name in (attribute, f"{tracking.subject}.{attribute}"):
                    columns.setdefault(name, set()).add(column)
        if unknown := sorted(self.names - columns.keys()):
            raise DefinitionError(
                f"mask names {', '.join(unknown)}, which no tracked model has; write "
                "attributes as 'password' or 'User.password'"
            )
        return Hidden(frozenset().union(*(columns[name] for name in self.names)))


@dataclass(frozen=True)
class Hidden:
    """The columns that are never shown.

    :param columns: the masked columns. Columns with a foreign key to one of them have
        the same values, so they are hidden as well.
    """

    columns: frozenset[Column[Any]]

    def attributes(self, tracking: Tracking) -> set[str]:
        """Return the hidden attributes of a model."""
        if not self.columns:
            return set()
        columns = tracking.tracked_columns.by_attribute
        return {name for name, column in columns.items() if self.hides(column)}

    def hides(self, column: Column[Any]) -> bool:
        """Return True if a column of any table is hidden."""
        return bool(self.columns) and self._hides(column, [])

    def has_key(self, tracking: Tracking) -> bool:
        """Return True if an attribute of the model's key is hidden."""
        hidden = self.attributes(tracking)
        return bool(hidden) and not hidden.isdisjoint(tracking.tracked_columns.key)

    def _hides(self, column: Column[Any], seen: list[Column[Any]]) -> bool:
        if column in self.columns:
            return True
        seen.append(column)  # rows may refer to each other
        return any(
            self._hides(referred, seen)
            for referred in _referred_columns(column)
            if referred not in seen
        )


def _referred_columns(column: Column[Any]) -> Iterator[Column[Any]]:
    for foreign_key in column.foreign_keys:
        # A table that is in no model has nothing that is masked.
        with contextlib.suppress(NoReferenceError):
            yield foreign_key.column


@dataclass(frozen=True, eq=False)
class ShownTable:
    """A tracked table, and what is shown of its rows.

    :param tracking: the tracking of the table.
    :param columns: the columns by attribute, in the model's order.
    :param key: the attributes of the primary key, in its order.
    :param hidden: the attributes whose values are masked.
    """

    tracking: Tracking
    columns: Mapping[str, Column[Any]]
    key: Sequence[str]
    hidden: AbstractSet[str]

    @classmethod
    def of(cls, tracking: Tracking, hidden: Hidden) -> ShownTable:
        """Return what is shown of a table.

        :param hidden: the columns that are never shown.
        """
        columns = tracking.tracked_columns
        masked = hidden.attributes(tracking)
        return cls(tracking, columns.by_attribute, columns.key, masked)

    def in_order(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by attribute in the order of the model's attributes."""
        ordered = {name: values[name] for name in self.columns if name in values}
        return {**ordered, **values} if len(ordered) < len(values) else ordered

    def masked(self, name: str, value: Any) -> Any:
        """Return a value of an attribute, or what stands in its place."""
        return MASKED if name in self.hidden and value is not None else value


@dataclass(frozen=True)
class Entry:
    """An event, in which hidden values are masked.

    :param id: the event's number.
    :param table: the event table.
    :param model: the name of the tracked class.
    :param key: the row's key as text; None if there is none or it is hidden.
    :param operation: what was done to the row, such as ``"created"``.
    :param label: of the tracker.
    :param time: the time at which the transaction began.
    :param who: the user's name, or None.
    :param transaction: the number of the transaction.
    :param context_id: the id of the context, or None.
    :param context: the metadata of the context; an odd one by the key ``metadata``.
    :param data: the values of the row, by attribute.
    :param diff: the values before and after of attributes that changed, None if
        nothing is known from before.
    :param archived: whether the database has the event no more, and an archive has it.
    """

    id: int
    table: str
    model: str
    key: str | None
    operation: str
    label: str
    time: datetime.datetime
    who: str | None
    transaction: int
    context_id: uuid.UUID | None
    context: Mapping[str, Any]
    data: Mapping[str, Any]
    diff: Mapping[str, tuple[Any, Any]] | None
    archived: bool = False

    @classmethod
    def of(
        cls,
        row: Any,
        table: ShownTable,
        who: Callable[[Mapping[str, Any]], str | None],
        archived: bool = False,
    ) -> Entry:
        """Return a row of AggregateEvent as an entry.

        :param table: the table whose event it is.
        :param who: gives the user's name from the metadata of a context.
        :param archived: whether the row is one of an archive.
        """
        metadata = row.pgh_context or {}
        if not isinstance(metadata, Mapping):
            # The library writes objects only, but anybody's SQL can write a list.
            metadata = {"metadata": metadata}
        data, diff = table.in_order(row.pgh_data), None
        if table.hidden:
            data = {name: table.masked(name, value) for name, value in data.items()}
        if row.pgh_diff is not None:
            diff = {
                name: (table.masked(name, was), table.masked(name, now))
                for name, (was, now) in table.in_order(row.pgh_diff).items()
            }
        return cls(
            id=row.pgh_id,
            table=table.tracking.event_table.fullname,
            model=row.pgh_obj_model,
            key=row.pgh_obj_id if table.hidden.isdisjoint(table.key) else None,
            operation=VERBS.get(row.pgh_op, row.pgh_op),
            label=row.pgh_label,
            time=row.pgh_created_at,
            who=who(metadata),
            transaction=row.pgh_xact_id,
            context_id=row.pgh_context_id,
            context=metadata,
            data=data,
            diff=diff,
            archived=archived,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the entry as JSON has it, for programs."""
        return {
            "id": self.id,
            "model": self.model,
            "key": self.key,
            "label": self.label,
            "operation": self.operation,
            "time": self.time.astimezone(datetime.timezone.utc).isoformat(),
            "user": self.who,
            "transaction": self.transaction,
            "context_id": None if self.context_id is None else str(self.context_id),
            "context": dict(self.context),
            "data": dict(self.data),
            "diff": None if self.diff is None else dict(self.diff),
            **({"archived": True} if self.archived else {}),
        }


def changed(before: Entry, after: Entry) -> dict[str, tuple[Any, Any]]:
    """Return the values before and after that differ between two versions."""
    return {
        name: (before.data.get(name), after.data.get(name))
        for name in {**before.data, **after.data}
        if not is_same_value(before.data.get(name), after.data.get(name))
    }
