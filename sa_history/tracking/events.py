"""``Model.events``: the events of a model, or of one of its rows."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import takewhile
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    NoReturn,
    Protocol,
    TypeVar,
    cast,
)

from sqlalchemy import (
    ClauseElement,
    Column,
    ColumnElement,
    Enum,
    Integer,
    Select,
    String,
    Table,
    Uuid,
    inspect,
    select,
)
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import InstanceState
from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import SelectBase

from sa_history._types import UNSET, Unset
from sa_history.definition.mapped_tables import MappedObject, Model, tables_of
from sa_history.exc import EventsError
from sa_history.tracking.completeness import comparable_events
from sa_history.tracking.event_class import Event, map_events
from sa_history.tracking.event_keys import have_key
from sa_history.tracking.identity import key_of
from sa_history.tracking.registry import Tracking, trackings_of_table
from sa_history.util.arguments import Time, checked_time, is_number

if TYPE_CHECKING:
    from sqlalchemy.orm import WriteOnlyCollection
    from typing_extensions import TypeVar as TypeVarWithDefault

    # ``Events`` alone is ``Events[Event]``.
    E = TypeVarWithDefault("E", bound=Event, covariant=True, default=Event)
else:
    E = TypeVar("E", bound=Event, covariant=True)

EventSelect = TypeVar("EventSelect")
EventSelect_co = TypeVar("EventSelect_co", covariant=True)


class _Rows(Protocol[EventSelect_co]):
    """What ``WriteOnlyCollection`` is, of which SQLAlchemy says what it selects."""

    def select(self) -> EventSelect_co:
        """Return a SELECT of the rows."""


class _SelectsRows(Protocol[EventSelect_co]):
    """The type of :class:`Events` by the type of the SELECT of its rows.

    This is ``Select[tuple[AccountEvent]]`` in SQLAlchemy 2.0 and
    ``Select[AccountEvent]`` in 2.1. No annotation says both, so the type is that of
    ``WriteOnlyCollection[AccountEvent].select()``.
    """

    @property
    def _rows(self) -> _Rows[EventSelect_co]: ...

    def _select(self) -> Select[Any]: ...

    def _last(self) -> Select[Any]: ...

    def _check(self, criteria: Sequence[Any]) -> None: ...

    def _at(self, key: Any, when: datetime.datetime | Unset) -> Select[Any]: ...

    @property
    def table(self) -> Table:
        """The event table."""


class Events(Generic[E]):
    """The events of a model, or those of one row.

    The methods return statements and execute none, so they serve ``Session`` and
    ``AsyncSession`` alike. The attributes of the event class are attributes here too.
    To type checkers, a statement is a ``Select[tuple[AccountEvent]]`` under SQLAlchemy
    2.0, and a ``Select[AccountEvent]`` under 2.1.

    Example::

        session.scalars(account.events.select()).all()
        session.scalars(Account.events.where(Account.events.balance < 0)).all()

    A class that declares the attribute tells type checkers of it; ``Events`` alone is
    ``Events[Event]``::

        @track(base=AccountEvent)
        class Account(Base):
            events: ClassVar[Events[AccountEvent]]
    """

    if TYPE_CHECKING:

        @property
        def _rows(self) -> WriteOnlyCollection[E]: ...

    def __init__(
        self, tracking: Tracking, obj: object | None = None, key: Any = UNSET
    ) -> None:
        self._tracking = tracking
        self._obj = obj
        self._key = key

    def of(self, key: Any) -> Events[E]:
        """Return the events of the row with a key, also of a row that is deleted.

        :param key: the value of the primary key, or a tuple if it has several columns.
        :raises EventsError: the key is None, or an object.

        Example::

            session.scalars(Account.events.of(7).select()).all()
        """
        if key is None or _is_object(key):
            raise EventsError(
                f"{self!r}.of takes the key of a row, got {key!r}; write "
                "Model.events.of(7), or object.events"
            )
        return Events(self._tracking, key=key)

    @property
    def model(self) -> type[E]:
        """The mapped event class."""
        return map_events(self._tracking)  # type: ignore[return-value]

    @property
    def table(self) -> Table:
        """The event table."""
        return self._tracking.event_table

    def select(self: _SelectsRows[EventSelect]) -> EventSelect:
        """Return a SELECT of the events, oldest first.

        :raises EventsError: the events are those of an object that has no key yet.

        Example::

            session.scalars(account.events.select().limit(10))
        """
        return cast("EventSelect", self._select())

    def where(
        self: _SelectsRows[EventSelect], *criteria: ColumnElement[bool]
    ) -> EventSelect:
        """Return a SELECT of the events that meet the criteria, oldest first.

        An attribute of the model that has the name of one of this object's, such as
        ``model``, is ``Account.events.model.model`` here.

        :raises EventsError: a criterion is True or False, as the comparison of such a
            name is, or it is about the tracked table alone.

        Example::

            session.scalars(Account.events.where(Account.events.pgh_label == "create"))
        """
        self._check(criteria)
        return cast("EventSelect", self._select().where(*criteria))

    def first(self: _SelectsRows[EventSelect]) -> EventSelect:
        """Return a SELECT of the first event.

        Example::

            created = session.scalar(account.events.first())
        """
        return cast("EventSelect", self._select().limit(1))

    def last(self: _SelectsRows[EventSelect]) -> EventSelect:
        """Return a SELECT of the last event.

        Example::

            newest = session.scalar(account.events.last())
        """
        return cast("EventSelect", self._last())

    def at(
        self: _SelectsRows[EventSelect],
        key: Any,
        when: datetime.datetime | Unset = UNSET,
    ) -> EventSelect:
        """Return a SELECT of the event that stores what a row was at a time.

        It is the last event whose transaction had begun by then; of trackers that store
        complete rows, if each insert and update has such an event. For a row that was
        deleted by then it is the deletion, if deletions are recorded. A row that got
        another key by then is found by that key.

        :param key: the key of the row; left out if the events are those of one row.
        :param when: the time.
        :raises EventsError: the row or the time is missing.

        Example::

            session.scalar(Account.events.at(7, yesterday))
            session.scalar(account.events.at(yesterday))
        """
        return cast("EventSelect", self._at(key, when))

    def between(
        self: _SelectsRows[EventSelect],
        since: Time,
        until: Time,
    ) -> EventSelect:
        """Return a SELECT of the events from one time on and before another.

        :param since: the earliest ``pgh_created_at``; a time, or an SQL expression of
            one, such as ``func.now() - timedelta(days=1)``.
        :param until: the time that ``pgh_created_at`` is before, as for ``since``.
        :raises EventsError: one of them is no time.

        Example::

            session.scalars(account.events.between(monday, friday)).all()
        """
        created_at = self.table.c.pgh_created_at
        first = checked_time("since", since, EventsError)
        end = checked_time("until", until, EventsError)
        events = self._select().where(created_at >= first, created_at < end)
        return cast("EventSelect", events)

    def _select(self) -> Select[Any]:
        statement = select(self.model).order_by(self.table.c.pgh_id)
        return statement.where(*self._is_of_row())

    def _last(self) -> Select[Any]:
        newest_first = self._select().order_by(None).order_by(self._newest)
        return newest_first.limit(1)

    def _at(self, key: Any, when: datetime.datetime | Unset) -> Select[Any]:
        of_row = self if when is UNSET else self.of(key)
        moment = key if when is UNSET else when
        if of_row._is_of_all or not isinstance(moment, datetime.datetime):
            given = repr(key) if when is UNSET else f"{key!r}, {when!r}"
            raise EventsError(
                f"{self!r}.at got {given}; write Model.events.at(key, "
                "datetime) or object.events.at(datetime)"
            )
        return of_row._last().where(
            self.table.c.pgh_created_at <= moment,
            *comparable_events(self._tracking, self.table),
        )

    @property
    def _newest(self) -> ColumnElement[Any]:
        return self.table.c.pgh_id.desc()

    @property
    def _is_of_all(self) -> bool:
        return self._obj is None and self._key is UNSET

    def _check(self, criteria: Sequence[Any]) -> None:
        """Refuse criteria that are not about events."""
        if any(isinstance(criterion, bool) for criterion in criteria):
            raise EventsError(
                f"{self!r}.where got {criteria!r}; compare attributes of the event "
                "class, as in where(x.events.model.balance < 0)"
            )
        for criterion in criteria:
            if _is_of_table_only(criterion, self._tracking.table):
                raise EventsError(
                    f"{self!r}.where got {criterion}, which is about rows as they are "
                    "now; compare attributes of events, as in where(x.events.balance "
                    "< 0)"
                )

    def _is_of_row(self) -> list[ColumnElement[bool]]:
        if self._is_of_all:
            return []
        values = (
            key_values(self._tracking, self._key)
            if self._obj is None
            else [value for _, value in key_of(self._tracking, self._obj)]
        )
        return have_key(self._tracking, self.table, values)

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "events are not a list but a SELECT; run session.scalars(x.events.select())"
        )

    def __repr__(self) -> str:
        row = self._key if self._obj is None else self._obj
        of = "" if self._is_of_all else f" of {row!r}"
        return f"<Events {self.model.__name__}{of}>"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    else:

        def __clause_element__(self) -> NoReturn:
            # SQLAlchemy asks what is no statement for one.
            raise EventsError(
                f"{self!r} is no statement; run session.scalars(x.events.select())"
            )

        def __aiter__(self) -> NoReturn:
            raise TypeError(
                "events are not a list but a SELECT; run await "
                "session.scalars(x.events.select())"
            )

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            try:
                return getattr(self.model, name)
            except AttributeError:
                raise AttributeError(
                    f"{self.model.__name__} has no attribute {name!r}, and events are "
                    "not a list but a SELECT; run session.scalars(x.events.select())"
                ) from None


class EventsAttribute:
    """The attribute ``Model.events``, as ``track`` adds it.

    Of the class it is the events of all rows, of an object those of its row.
    """

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking

    def __get__(self, obj: object | None, owner: type[Any]) -> Events[Event]:
        if self.tracking.table not in owner.__mapper__.tables:
            raise EventsError(
                f"{owner.__name__} is not tracked: it inherits from "
                f"{self.tracking.subject}, but its rows are in a table of their own; "
                "put @track(...) on it"
            )
        return Events(self.tracking, obj)


def _is_of_table_only(criterion: Any, table: Table) -> bool:
    """Return True if a criterion has columns of a table, and nothing else."""
    # What is no expression is refused by SQLAlchemy, or is an attribute.
    is_expression = isinstance(criterion, ClauseElement)
    elements = [*visitors.iterate(criterion)] if is_expression else []
    columns = [each for each in elements if isinstance(each, Column)]
    has_query = any(isinstance(each, SelectBase) for each in elements)
    return bool(columns) and not has_query and all(c.table is table for c in columns)


def key_values(tracking: Tracking, key: Any) -> list[Any]:
    """Return the values of a key.

    :param key: the value, or a tuple of the values in the order of the key's columns.
    :raises EventsError: the key has another number of columns; or a value is None, or
        is none that a row may have in the column.
    """
    values = values_of_columns(tracking, key)
    columns = tracking.tracked_columns
    for name, value in zip(columns.key, values, strict=True):
        wanted = _wanted_instead(columns.by_attribute[name].type, value)
        if wanted is not None:
            raise EventsError(
                f"{name}, of the key of {tracking.subject}, is {wanted}, got "
                f"{value!r}; convert it"
            )
        # No row has it, so an answer would be empty, which may be taken for true.
        if value is None:
            raise EventsError(
                f"{name}, of the key of {tracking.subject}, cannot be None; give the "
                "key that a row has or had"
            )
    return values


_NO_SCALARS = (
    bytes,
    bytearray,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    Iterator,
    Mapping,
    Set,
)
"""What is a value of neither integers nor UUIDs, and of which PostgreSQL's error names
no attribute."""


def _wanted_instead(kind: Any, value: Any) -> str | None:
    """Return what a column has in place of a value; None if it may have the value.

    PostgreSQL compares no text with a number, and its error names no attribute.
    """
    if isinstance(value, (type, Table, SelectBase)) or _is_object(value):
        return "one value"
    if isinstance(kind, (Integer, Uuid)) and isinstance(value, _NO_SCALARS):
        return "an integer" if isinstance(kind, Integer) else "a UUID"
    if isinstance(kind, Integer):
        if isinstance(value, str):
            return "a number"
        is_other = isinstance(value, (bool, float))
        is_integer = not isinstance(value, int) or is_number(value)
        return "an integer" if is_other or not is_integer else None
    if isinstance(kind, String) and not isinstance(kind, Enum):
        return "a text" if isinstance(value, (int, float)) else None
    if isinstance(kind, Uuid) and isinstance(value, (int, float, str)):
        return None if _is_uuid(value) else "a UUID"
    return None


def _is_object(value: Any) -> bool:
    return isinstance(inspect(value, False), InstanceState)


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def values_of_columns(tracking: Tracking, key: Any) -> list[Any]:
    """Return the values of a key, of whatever type they are.

    :param key: the value, or a tuple of the values in the order of the key's columns.
    :raises EventsError: the key has another number of columns.
    """
    values = list(key) if isinstance(key, (tuple, list)) else [key]
    names = tracking.tracked_columns.key
    if len(values) != len(names) or not names:
        raise EventsError(
            f"the key of {tracking.subject} is ({', '.join(names)}), got {key!r}; give "
            "a value for each of its columns"
        )
    return values


def trackings_of(target: Any) -> list[Tracking]:
    """Return the trackings of a mapped class, a Table or a mapped object.

    An object of a joined subclass has rows in several tables; the trackings of the
    subclass's own table come first.

    :raises EventsError: the target is not tracked.
    """
    tables: list[Table] = [target] if isinstance(target, Table) else []
    if not tables:
        try:
            mapper = inspect(target).mapper
        except (NoInspectionAvailable, AttributeError):
            raise EventsError(
                f"{target!r} is not a mapped class, an object of one, or a Table"
            ) from None
        tables = tables_of(mapper)
    found = []
    for table in tables:
        found += trackings_of_table(table)
    if not found:
        raise EventsError(f"{target!r} is not tracked; put @track(...) on its class")
    return found


def trackings_with_subclasses(target: Any) -> list[Tracking]:
    """Return the trackings of a class and of its joined subclasses.

    An object that is named by a class and a key may be of a subclass, which has more of
    it in a table of its own, under the same key.

    :param target: a mapped class or a Table.
    :raises EventsError: the target is not tracked.
    """
    found = trackings_of(target)
    if isinstance(target, Table):
        return found
    mapper = inspect(target).mapper
    for subclass in mapper.self_and_descendants:
        between = takewhile(lambda one: one is not mapper, subclass.iterate_to_root())
        table = subclass.local_table
        if isinstance(table, Table) and not any(one.concrete for one in between):
            found += [t for t in trackings_of_table(table) if t not in found]
    return found


class TrackedObject(Protocol):
    """An object of a class that declares its events, for type checkers.

    It may be of a class without a declarative base.
    """

    events: ClassVar[Events[Any]]


def events(
    target: Model | MappedObject | TrackedObject, name: str = "events"
) -> Events[Event]:
    """Return the events of a tracked class, object or Core table.

    :param target: a mapped class, an object of one, or a Table.
    :param name: the ``events`` option of the :func:`track` that is meant.
    :raises EventsError: the target is not tracked, or not under that name.

    Example::

        session.scalars(history.events(group_members).select()).all()
    """
    for tracking in trackings_of(target):
        if tracking.options.events == name:
            is_of_all = isinstance(target, (Table, type))
            return Events(tracking, None if is_of_all else target)
    raise EventsError(f"{target!r} has no events named {name!r}; see track(events=...)")
