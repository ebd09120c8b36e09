"""Net changes: what some events, the first to the last, made of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, FromClause, Select, Table, false, select, true

from sa_history._types import Op
from sa_history.capture.seal_tables import ERASED_COLUMN
from sa_history.capture.trackers import full_row_labels
from sa_history.exc import UndoError
from sa_history.tracking.added_columns import AddedColumns
from sa_history.tracking.completeness import GONE, full_row_events, is_one_of
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.erased import erased_attributes
from sa_history.tracking.event_keys import have_key, old_keys_of
from sa_history.tracking.registry import Tracking
from sa_history.tracking.shared_keys import had_shared_key
from sa_history.tracking.stored_values import StoredRow, selected, stored_values

_CHANGES = (Op.INSERT.value, Op.UPDATE.value, *GONE)

KeyValues: TypeAlias = tuple[Any, ...]
"""The values of a key, in its order."""


@dataclass
class NetChange:
    """What some events made of one row.

    :param tracking: the tracking of the row's table.
    :param before: the row before the first of the events, None if there was none.
    :param after: the row after the last of the events, None if there is none.
    :param changed: the columns that the events changed, each with the rows before the
        first and after the last change of it. Changes by other events in between are
        not among them.
    """

    tracking: Tracking
    before: StoredRow | None
    after: StoredRow | None
    changed: dict[str, tuple[StoredRow, StoredRow]] = field(default_factory=dict)

    def add(self, before: StoredRow | None, after: StoredRow | None) -> None:
        """Add one more event.

        :param before: the row before the event, None if there was none.
        :param after: the row after the event, None if there is none.
        """
        if before is not None and after is not None:
            for name in before:
                if name in after and before.differs(name, after):
                    first = self.changed.get(name, (before,))[0]
                    self.changed[name] = (first, after)
        self.after = after


@dataclass(frozen=True)
class _RowEvent:
    """An event with the values of its row.

    :param origin: the key of the row before the event.
    :param key: the key of the row after the event.
    :param row: the row after the event; before it, if the event is a deletion.
    :param previous: the row in its previous event, None without one.
    """

    number: int
    op: str
    origin: KeyValues
    key: KeyValues
    row: StoredRow
    previous: StoredRow | None

    @property
    def deletes(self) -> bool:
        return self.op in GONE

    def is_same_change(self, other: _RowEvent | None) -> bool:
        """Return whether both are events of one change, of two trackers."""
        return (
            other is not None
            and (self.op, self.origin) == (other.op, other.origin)
            and self.row.is_same(other.row)
        )


class KeyTracker:
    """The net changes of rows by the key that each row has at the moment.

    :param table: the table of the rows.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._by_key: dict[KeyValues, NetChange] = {}
        self._replaced: list[NetChange] = []
        self._origins: dict[KeyValues, KeyValues] = {}

    def move(self, origin: KeyValues, key: KeyValues) -> NetChange | None:
        """Take out the net change of the row that an event finds at a key.

        :param origin: the key of the row before the event.
        :param key: its key after the event, for which :meth:`put` is called next.
        :return: None if the row has no net change yet.
        :raises UndoError: two rows may have had the key at once, so it is not known
            which of them the event is of.
        """
        came_from = self._origins.get(origin, origin)
        if origin not in (key, came_from) and self._table.primary_key.deferrable:
            raise _shared_key(self._table, origin)
        self._origins[key] = origin
        return self._by_key.pop(origin, None)

    def put(self, key: KeyValues, net_change: NetChange) -> None:
        """Set the net change of the row that has a key from now on."""
        if key in self._by_key:
            # Another row, which was deleted or has another key now.
            self._replaced.append(self._by_key[key])
        self._by_key[key] = net_change

    def net_changes(self) -> list[NetChange]:
        """Return all net changes, those of rows whose keys were reused first."""
        return [*self._replaced, *self._by_key.values()]


def _shared_key(table: Table, key: KeyValues) -> UndoError:
    return UndoError(
        f"rows of {table.name!r} have taken and left the key {key}, which a deferrable "
        "primary key lets several have for a while, so it cannot be told which is which"
    )


def net_changes_of(
    rows: ModelSession, tracking: Tracking, criterion: ColumnElement[bool]
) -> list[NetChange]:
    """Return what events of a table made of its rows.

    :param rows: the session that reads them.
    :param tracking: a tracking whose events store every change in full.
    :param criterion: the criterion of the events.
    :raises UndoError: a row has no event that stores what it was before, or it is not
        known which row an event is of.
    """
    by_key = KeyTracker(tracking.table)
    for event in _deduplicated(_row_events(rows, tracking, criterion)):
        net_change = by_key.move(event.origin, event.key)
        before = _before(tracking, event, net_change)
        if net_change is None:
            net_change = NetChange(tracking, before, before)
        net_change.add(before, None if event.deletes else event.row)
        by_key.put(event.key, net_change)
    return by_key.net_changes()


def _row_events(
    rows: ModelSession, tracking: Tracking, criterion: ColumnElement[bool]
) -> Iterator[_RowEvent]:
    columns = tracking.tracked_columns
    names = [columns.column_name(name) for name in columns.stored]
    key_names = [columns.column_name(name) for name in columns.key]
    added = AddedColumns(rows, tracking)

    def known(found: Any, prefix: str, number: int) -> StoredRow:
        row = stored_values(found, names, prefix)
        erased = erased_attributes(tracking, found.get(f"{prefix}_erased"))
        gone = {columns.column_name(name) for name in erased}
        return row.without(added.unknown(number, row) | gone)

    events = rows.execute(_with_previous(tracking, criterion)).mappings().all()
    for found in events:
        number, previous = found["pgh_id"], found["previous_id"]
        origin = tuple(found[f"from_{name}"] for name in key_names)
        if found["had_shared_key"]:
            raise _shared_key(tracking.table, origin)
        row = stored_values(found, names, "is")
        yield _RowEvent(
            number=number,
            op=found["pgh_op"],
            origin=origin,
            key=tuple(row[name] for name in key_names),
            row=known(found, "is", number),
            previous=(known(found, "was", previous) if previous is not None else None),
        )


def _deduplicated(events: Iterator[_RowEvent]) -> Iterator[_RowEvent]:
    """Yield one event of each change: several trackers may have written one each."""
    latest: dict[KeyValues, _RowEvent] = {}
    for event in events:
        if not event.is_same_change(latest.get(event.key)):
            latest.pop(event.origin, None)
            latest[event.key] = event
            yield event


def _before(
    tracking: Tracking, event: _RowEvent, net_change: NetChange | None
) -> StoredRow | None:
    """Return the row before an event, None if there was none.

    :param net_change: what earlier events made of the row.
    """
    if event.op == Op.INSERT:
        # A row that these events had deleted is there again.
        return None if net_change is None else net_change.before
    if event.deletes:
        return event.row
    if event.previous is None:
        raise UndoError(
            f"no event tells what {tracking.subject} {event.key} was before event "
            f"{event.number}",
            "a baseline before it would have",
        )
    return event.previous


def _with_previous(tracking: Tracking, criterion: ColumnElement[bool]) -> Select[Any]:
    """Return a SELECT of events, each with the previous event of its row."""
    event, columns = tracking.event_table, tracking.tracked_columns
    previous = event.alias("pgh_previous")
    names = [columns.column_name(name) for name in columns.stored]
    key_names = [columns.column_name(name) for name in columns.key]
    origin = old_keys_of(tracking, event)
    shared = had_shared_key(tracking, event)
    before = (
        select(previous)
        .where(
            *have_key(tracking, previous, origin),
            previous.c.pgh_id < event.c.pgh_id,
            *full_row_events(tracking, previous),
        )
        .order_by(previous.c.pgh_id.desc())
        .limit(1)
        .lateral("pgh_before")
    )
    return (
        select(
            event.c.pgh_id,
            event.c.pgh_op,
            before.c.pgh_id.label("previous_id"),
            (false() if shared is None else shared).label("had_shared_key"),
            *(
                rows.c[ERASED_COLUMN].label(f"{prefix}_erased")
                for prefix, rows in (("is", event), ("was", before))
                if tracking.options.erasable
            ),
            *selected((event.c[name] for name in names), "is"),
            *selected((before.c[name] for name in names), "was"),
            *(
                value.label(f"from_{name}")
                for name, value in zip(key_names, origin, strict=True)
            ),
        )
        .select_from(event.outerjoin(before, true()))
        .where(criterion, *changes_of_whole_rows(tracking, event))
        .order_by(event.c.pgh_id)
    )


def changes_of_whole_rows(
    tracking: Tracking, events: FromClause
) -> Iterator[ColumnElement[bool]]:
    """Yield criteria of events that are changes and store the whole row.

    ``full_row_events`` lets deletions of trackers pass that store a part of the row,
    which do not say what the row was.

    :param events: the event table, or an alias of it.
    """
    yield events.c.pgh_op.in_(_CHANGES)
    yield from full_row_events(tracking, events)
    whole = full_row_labels(tracking.trackers, tracking.tracked_columns)
    partial = {tracker.event_label for tracker in tracking.trackers} - {*whole}
    if partial:
        yield ~is_one_of(events.c.pgh_label, sorted(partial))
