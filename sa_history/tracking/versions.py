"""Versions of a row: its events in their order, and what differs between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, overload

from sqlalchemy import Column, literal, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, object_session

from sa_history._types import Op
from sa_history.definition.mapped_tables import MappedObject
from sa_history.exc import EventsError
from sa_history.sql.column_types import is_read_exactly
from sa_history.tracking.completeness import (
    StoredAttributes,
    comparable_events,
    stored_attributes,
)
from sa_history.tracking.databases import ModelSession, database_of, written_by
from sa_history.tracking.diff import Diff
from sa_history.tracking.erased import ERASED, erased_from
from sa_history.tracking.event_keys import have_key, keys_of
from sa_history.tracking.identity import key_of, require_object_of
from sa_history.tracking.registry import Tracking
from sa_history.tracking.shared_keys import had_shared_key
from sa_history.tracking.stored_values import StoredRow, image
from sa_history.util.sessions import may_await

CHUNK = 100
"""The number of events whose images :func:`steps` reads at once."""

Images: TypeAlias = Mapping[int, Mapping[str, "str | None"]]
"""Images of values by the number of the event and the attribute."""


class AnyEvent(Protocol):
    """An event, by what an event class has."""

    pgh_tracking: ClassVar[Tracking]


@overload
def diff(before: AnyEvent, after: AnyEvent | MappedObject) -> Diff: ...


@overload
def diff(before: MappedObject, after: AnyEvent) -> Diff: ...


def diff(before: Any, after: Any) -> Diff:
    """Return what differs between two versions, of one row or of two rows.

    The session of the events asks the database where Python does not tell the values of
    a column's type apart. Events of no session, and those of an async one outside of
    ``run_sync``, are compared by what Python has.

    In place of one of the events, an object stands for its row as it is now. The row is
    read from the database, as the object's session sees it. What was assigned and not
    flushed is flushed before, as by a query, unless the session has no autoflush.

    :param before: an event, or an object of the tracked class.
    :param after: an event of the same class, or such an object if ``before`` is an
        event.
    :return: the attributes that both store, and with different values.
    :raises EventsError: the events are of different classes, neither of the two is an
        event, or the object is not of the tracked class, is in no session, in an async
        one outside of ``run_sync``, or has no row.

    Example::

        first, *_, last = session.scalars(account.events.select())
        print(history.diff(first, last).text())
        print(history.diff(first, account).text())
    """
    if _is_event(before) and _is_event(after):
        _require_same_class(before, after)
        stored = _stored_by(type(before))
        return _diff(before, after, stored, _images_of([before, after], stored))
    if _is_event(before):
        then, now, names = _then_and_now(before, after)
        return _differences(then, now, names)
    if _is_event(after):
        then, now, names = _then_and_now(after, before)
        return _differences(now, then, names)
    raise EventsError(
        f"diff got {before!r} and {after!r}, of which neither is an event; give two "
        "events, or an event and an object"
    )


def _is_event(version: Any) -> bool:
    return hasattr(type(version), "pgh_tracking")


def _stored_by(event_class: type[Any]) -> StoredAttributes:
    tracking: Tracking | None = getattr(event_class, "pgh_tracking", None)
    if tracking is None:
        raise EventsError(
            f"{event_class.__name__} is not the class of an event; give events, such "
            "as those of session.scalars(x.events.select())"
        )
    return stored_attributes(tracking)


def _diff(before: Any, after: Any, stored: StoredAttributes, images: Images) -> Diff:
    _require_same_class(before, after)
    in_both = set(stored.of(before)) & set(stored.of(after))
    names = [name for name in stored.columns.stored if name in in_both]
    was, now = (_version(event, stored, images) for event in (before, after))
    return _differences(was, now, names)


def _differences(was: StoredRow, now: StoredRow, names: Iterable[str]) -> Diff:
    return Diff({n: (was[n], now[n]) for n in names if was.differs(n, now)})


def _version(event: Any, stored: StoredAttributes, images: Images) -> StoredRow:
    """Return the values of an event by the names of the attributes."""
    values = {name: getattr(event, name) for name in stored.columns.stored}
    of_event, erased = images.get(event.pgh_id, {}), erased_from(event)
    if erased:
        values |= dict.fromkeys(erased, ERASED)
        of_event = {n: text for n, text in of_event.items() if n not in erased}
    return StoredRow(values, of_event)


def _then_and_now(event: Any, obj: Any) -> tuple[StoredRow, StoredRow, Sequence[str]]:
    """Return an event's row, an object's row as it is now, and what both store.

    The rows have the names of attributes, as the last of the three has.

    :raises EventsError: the object's row cannot be read.
    """
    tracking = event.pgh_tracking
    stored = stored_attributes(tracking)
    require_object_of(tracking, obj)
    session = object_session(obj)
    if session is None:
        raise EventsError(
            f"{obj!r} is in no session, which its row could be read by; add it to one"
        )
    rows = ModelSession(session, tracking)
    database = database_of(session, rows.bind_arguments)
    if database.dialect.is_async and not may_await():
        raise EventsError(
            "the session of the object is an async one; write await "
            "session.run_sync(lambda _: history.diff(...))"
        )
    if session.autoflush:
        session.flush()
    key = key_of(tracking, obj)
    names, compared = stored.columns.stored, _inexact(stored)
    columns = [stored.columns.by_attribute[name] for name in names]
    query = select(*columns, *map(image, compared.values()))
    found = rows.execute(query.where(*(c == value for c, value in key))).first()
    if found is None:
        raise EventsError(
            f"this {tracking.subject} has no row in the database; compare its events"
        )
    now = StoredRow(
        dict(zip(names, found, strict=False)),
        dict(zip(compared, found[len(names) :], strict=True)),
    )
    then = _version(event, stored, _images_of([event], stored))
    return then, now, [name for name in names if name in stored.of(event)]


def _require_same_class(before: Any, after: Any) -> None:
    if type(before) is not type(after):
        raise EventsError(
            f"{before!r} and {after!r} are events of different tables, which have no "
            "attributes in common"
        )


def _images_of(events: Sequence[Any], stored: StoredAttributes) -> Images:
    """Return the images of the values that Python may not tell apart.

    :param events: events of one class.
    :return: no images of events whose session cannot be asked.
    """
    compared = _inexact(stored)
    session = object_session(events[0])
    if not compared or session is None or not _can_ask(session, events):
        return {}
    table = events[0].pgh_tracking.event_table
    names = [*compared]
    columns = [image(table.c[column.name]) for column in compared.values()]
    query = select(table.c.pgh_id, *columns)
    query = query.where(table.c.pgh_id.in_([event.pgh_id for event in events]))
    with session.no_autoflush:
        found = session.execute(query).all()
    return {number: dict(zip(names, texts, strict=True)) for number, *texts in found}


def _inexact(stored: StoredAttributes) -> dict[str, Column[Any]]:
    """Return the tracked columns whose values Python may not tell apart."""
    return {
        name: column
        for name in stored.columns.stored
        if not is_read_exactly((column := stored.columns.by_attribute[name]).type)
    }


def _can_ask(session: Session, events: Sequence[Any]) -> bool:
    """Return whether a session can send a statement, and has all of some events."""
    database = database_of(session, written_by(events[0].pgh_tracking))
    return (
        session.is_active
        and (not database.dialect.is_async or may_await())
        and all(object_session(event) is session for event in events)
    )


E = TypeVar("E", bound=AnyEvent)


def steps(events: Iterable[E]) -> Iterator[tuple[E, Diff | None]]:
    """Yield events, each with what changed since the one before it.

    :param events: the events of one row, oldest first.
    :return: pairs of an event and its diff, which is None for the first event.
    :raises EventsError: the events are of different classes or rows, are in another
        order, or are none.

    Example::

        for event, changed in history.steps(session.scalars(tea.events.select())):
            print(event.pgh_created_at, changed)
    """
    before: deque[Any] = deque()
    by_class: dict[type[Any], StoredAttributes] = {}
    images: dict[int, Mapping[str, str | None]] = {}
    last: Any = None
    if not isinstance(events, Iterable):
        raise EventsError(
            f"steps takes the events of one row, got {events!r}; give what "
            "session.scalars(x.events.select()) returns"
        )
    remaining: Iterator[Any] = iter(events)
    while chunk := list(islice(remaining, CHUNK)):
        images = {e.pgh_id: images.get(e.pgh_id, {}) for e in before}
        classes: dict[Any, None] = dict.fromkeys(map(type, chunk))
        for event_class in classes:
            stored = _stored_by(event_class)
            by_class[event_class] = stored
            of_class = [e for e in chunk if type(e) is event_class]
            images.update(_images_of(of_class, stored))
        for event in chunk:
            stored = by_class[type(event)]
            _require_next(last, event, stored)
            last, previous = event, None
            if event.pgh_op not in _BEGINS:
                previous = _first_of_another_change(
                    reversed(before), event, stored, images
                )
            changed = None
            if previous is not None:
                changed = _diff(previous, event, stored, images)
            yield event, changed
            if stored.is_comparable(event):
                before.append(event)
                # One change may have left an event of each tracker.
                if len(before) > len(stored.by_label):
                    before.popleft()


def _require_next(last: Any, event: Any, stored: StoredAttributes) -> None:
    """Refuse an event that is not of the row of the last one, or came before it.

    Compared with it, other rows and former values would be changes that nobody made.

    :raises EventsError: it is such an event.
    """
    if type(last) is not type(event):
        return
    if event.pgh_id < last.pgh_id:
        raise EventsError(
            f"steps takes events oldest first, got {event!r} after {last!r}; order "
            "them by pgh_id"
        )
    keys = [[getattr(e, name) for name in stored.columns.key] for e in (last, event)]
    if event.pgh_old_key is None and keys[0] != keys[1]:
        raise EventsError(
            f"steps takes the events of one row, got {event!r} after {last!r}, which "
            "is of another row; give those of x.events or Model.events.of(key)"
        )


_BEGINS = (Op.INSERT, Op.BASELINE)
"""Operations that have nothing before them that an event could be compared with."""


def diff_to_previous(event: Any) -> Diff | None:
    """Return what changed since the previous event of the same row.

    :return: None, if the event is the first one.
    :raises EventsError: the event is in no session, or it is not known of which of two
        rows it is.
    """
    session = object_session(event)
    if session is None:
        raise EventsError(
            f"{event!r} is in no session, which its previous event would come from; "
            "compare two events with history.diff(...)"
        )
    tracking, events = event.pgh_tracking, event.pgh_tracking.event_table
    stored = stored_attributes(tracking)
    keys = keys_of(tracking, events)
    if not keys or event.pgh_op in _BEGINS:
        return None
    shared = had_shared_key(tracking, events)
    if shared is not None and session.scalar(
        select(type(event).pgh_id).where(events.c.pgh_id == event.pgh_id, shared)
    ):
        raise EventsError(
            f"two rows had the key of {event!r} at once, as a deferrable primary key "
            "allows within a transaction, so it cannot be told which of them it is of; "
            "compare two events with history.diff(...)"
        )
    before: list[Any] = (
        [
            sql_cast(literal(event.pgh_old_key, JSONB)[index].astext, key.type)
            for index, key in enumerate(keys)
        ]
        if event.pgh_old_key is not None
        else [getattr(event, name) for name in stored.columns.key]
    )
    earlier = (
        select(type(event))
        .where(
            *have_key(tracking, events, before),
            events.c.pgh_id < event.pgh_id,
            *comparable_events(tracking, events),
        )
        .order_by(events.c.pgh_id.desc())
        # One change may have left an event of each tracker.
        .limit(len(tracking.trackers) + 1)
    )
    found = session.scalars(earlier).all()
    images = _images_of([event, *found], stored)
    previous = _first_of_another_change(found, event, stored, images)
    return None if previous is None else _diff(previous, event, stored, images)


def _first_of_another_change(
    earlier: Iterable[Any], event: Any, stored: StoredAttributes, images: Images
) -> Any:
    """Return the first event that is not of the change that an event is of, or None.

    :param earlier: the events before it, the newest first.
    """
    labels = {event.pgh_label}
    for other in earlier:
        # One change leaves no two events with a label.
        if other.pgh_label in labels or not _is_sibling(other, event, stored, images):
            return other
        labels.add(other.pgh_label)
    return None


def _is_sibling(one: Any, other: Any, stored: StoredAttributes, images: Images) -> bool:
    """Return whether two events of a row, with two labels, may be of one change."""
    return (
        one.pgh_xact_id == other.pgh_xact_id
        and one.pgh_op == other.pgh_op
        and not _diff(one, other, stored, images)
    )
