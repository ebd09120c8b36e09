"""Versions of a row: its events, one after the other, and what differs between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Table, literal, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import object_session

from sa_history._types import Op, Operation
from sa_history.capture.event_table import key_columns
from sa_history.capture.trackers import Tracker, tell_all, whole_labels
from sa_history.definition.columns import TrackedColumns
from sa_history.exc import EventsError
from sa_history.tracking.diff import Diff


class Recorded:
    """What an event class records, as it is now: a subclass may have added columns.

    :param table: the tracked table.
    :param event_table: the event table.
    :param model: the tracked class, None for a Core table.
    :param trackers: what is recorded.
    :param columns: gives the tracked columns.
    """

    def __init__(
        self,
        table: Table,
        event_table: Table,
        model: type[Any] | None,
        trackers: Sequence[Tracker],
        columns: Callable[[], TrackedColumns],
    ) -> None:
        self.table = event_table
        self.model = model
        self._tracked = table
        self._trackers = trackers
        self._columns = columns
        self._known: _Known | None = None

    @property
    def columns(self) -> TrackedColumns:
        """The tracked columns."""
        return self._now().columns

    def stored(self, event: Any) -> tuple[str, ...]:
        """Return the attributes that an event stores."""
        known = self._now()
        if event.pgh_op == Op.BASELINE:
            return known.columns.stored
        return known.by_label.get(event.pgh_label, known.columns.stored)

    def is_compared(self, event: Any) -> bool:
        """Return whether later events of the row are compared with this one.

        Where each change has an event with the whole row, those with less of it are
        passed over, which would hide what changed.
        """
        whole = self._now().whole
        return (
            whole is None
            or event.pgh_label in whole
            or event.pgh_op in (Op.DELETE, Op.TRUNCATE, Op.BASELINE)
        )

    def compared(self) -> list[ColumnElement[bool]]:
        """Return the same for events in the database."""
        whole, events = self._now().whole, self.table.c
        if whole is None or len(whole) == len(self._trackers):
            return []
        told = [Op.DELETE.value, Op.TRUNCATE.value, Op.BASELINE.value]
        return [or_(events.pgh_label.in_(whole), events.pgh_op.in_(told))]

    @property
    def siblings(self) -> int:
        """How many events one change may leave of a row."""
        return len(self._trackers)

    def _now(self) -> _Known:
        width = len(self._tracked.columns)
        if self._known is None or self._known.width != width:
            trackers, columns = self._trackers, self._columns()
            tells = tell_all(trackers, columns, Operation.INSERT, Operation.UPDATE)
            self._known = _Known(
                width,
                columns,
                {tracker.event_label: tracker.stored(columns) for tracker in trackers},
                whole_labels(trackers, columns) if tells else None,
            )
        return self._known


@dataclass(frozen=True, eq=False)
class _Known:
    """What is computed once for as many columns as there are.

    :param width: how many.
    :param by_label: the attributes that each tracker stores.
    :param whole: the labels of events with the whole row, None where not each change
        has one.
    """

    width: int
    columns: TrackedColumns
    by_label: Mapping[str, tuple[str, ...]]
    whole: list[str] | None


def diff(before: Any, after: Any) -> Diff:
    """Return what differs between any two versions of a row, or of two rows.

    :param before: an event.
    :param after: an event of the same class.
    :raises EventsError: they are of different classes.

    Example::

        first, *_, last = session.scalars(account.events.select())
        print(history.diff(first, last).text())
    """
    if type(before) is not type(after):
        raise EventsError(
            f"{before!r} and {after!r} are events of different tables, which have no "
            "attributes in common"
        )
    recorded = before.pgh_recorded
    in_both = set(recorded.stored(before)) & set(recorded.stored(after))
    changes: dict[str, tuple[Any, Any]] = {}
    for name in recorded.columns.stored:
        values = getattr(before, name), getattr(after, name)
        if name in in_both and values[0] != values[1]:
            changes[name] = values
    return Diff(changes)


E = TypeVar("E")


def steps(events: Iterable[E]) -> Iterator[tuple[E, Diff | None]]:
    """Yield events, each with what changed since the one before it.

    :param events: of one row, oldest first.

    Example::

        for event, changed in history.steps(session.scalars(tea.events.select())):
            print(event.pgh_created_at, changed)
    """
    before: deque[Any] = deque()
    for event in events:
        version: Any = event
        recorded = version.pgh_recorded
        begins = version.pgh_op in (Op.INSERT, Op.BASELINE)
        earlier = (e for e in reversed(before) if not _is_sibling(e, version))
        previous = None if begins else next(earlier, None)
        yield event, None if previous is None else diff(previous, version)
        if recorded.is_compared(version):
            before.append(version)
            # One change may have left an event of each tracker.
            if len(before) > recorded.siblings:
                before.popleft()


def previous_version(event: Any) -> Any:
    """Return the event before an event of the same row, None for the first one.

    :raises EventsError: the event is in no session.
    """
    session = object_session(event)
    if session is None:
        raise EventsError(
            f"{event!r} is in no session, which its previous event would come from; "
            "compare two events with history.diff(...)"
        )
    recorded = event.pgh_recorded
    keys = key_columns(recorded.columns, recorded.table)
    if not keys or event.pgh_op in (Op.INSERT, Op.BASELINE):
        return None
    of_row: list[ColumnElement[bool]] = (
        [
            key == sql_cast(literal(event.pgh_old_key, JSONB)[index].astext, key.type)
            for index, key in enumerate(keys)
        ]
        if event.pgh_old_key is not None
        else [
            key == getattr(event, name)
            for key, name in zip(keys, recorded.columns.key, strict=True)
        ]
    )
    before = (
        select(type(event))
        .where(*of_row, recorded.table.c.pgh_id < event.pgh_id, *recorded.compared())
        .order_by(recorded.table.c.pgh_id.desc())
        # One change may have left an event of each tracker.
        .limit(recorded.siblings + 1)
    )
    return next((e for e in session.scalars(before) if not _is_sibling(e, event)), None)


def _is_sibling(one: Any, other: Any) -> bool:
    """Whether two events of a row are of the same change, under two labels."""
    return (
        one.pgh_xact_id == other.pgh_xact_id
        and one.pgh_op == other.pgh_op
        and one.pgh_label != other.pgh_label
        and not diff(one, other)
    )
