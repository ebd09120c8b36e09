"""``Model.events``: the events of a model, or of one of its rows."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    inspect,
    select,
)
from sqlalchemy.exc import NoInspectionAvailable

from sa_history._types import UNSET, Unset
from sa_history.capture.event_table import key_columns
from sa_history.exc import EventsError
from sa_history.tracking.completeness import comparable_events
from sa_history.tracking.event_class import Event, map_events
from sa_history.tracking.identity import key_of
from sa_history.tracking.registry import Tracking, trackings_of_table

E = TypeVar("E", bound=Event)


class Events(Generic[E]):
    """The events of a model, or those of one row.

    The methods return statements and execute none, so they serve ``Session`` and
    ``AsyncSession`` alike. The attributes of the event class are attributes here too.

    Example::

        session.scalars(account.events.select()).all()
        session.scalars(Account.events.where(Account.events.balance < 0)).all()
    """

    def __init__(
        self, tracking: Tracking, obj: object | None = None, key: Any = UNSET
    ) -> None:
        self._tracking = tracking
        self._obj = obj
        self._key = key

    def of(self, key: Any) -> Events[E]:
        """Return the events of the row with a key, also of a row that is deleted.

        :param key: the value of the primary key, or a tuple if it has several columns.

        Example::

            session.scalars(Account.events.of(7).select()).all()
        """
        return Events(self._tracking, key=key)

    @property
    def model(self) -> type[E]:
        """The mapped event class."""
        return map_events(self._tracking)  # type: ignore[return-value]

    @property
    def table(self) -> Table:
        """The event table."""
        return self._tracking.event_table

    def select(self) -> Select[Any]:
        """Return a SELECT of the events, oldest first.

        :raises EventsError: the events are those of an object that has no key yet.

        Example::

            session.scalars(account.events.select().limit(10))
        """
        statement = select(self.model).order_by(self.table.c.pgh_id)
        return statement.where(*self._is_of_row())

    def where(self, *criteria: ColumnElement[bool]) -> Select[Any]:
        """Return a SELECT of the events that meet the criteria, oldest first.

        An attribute of the model that has the name of one of this object's, such as
        ``model``, is ``Account.events.model.model`` here.

        :raises EventsError: a criterion is True or False, as the comparison of such a
            name is.

        Example::

            session.scalars(Account.events.where(Account.events.pgh_label == "create"))
        """
        if any(isinstance(criterion, bool) for criterion in criteria):
            raise EventsError(
                f"{self!r}.where got {criteria!r}; compare attributes of the event "
                "class, as in where(x.events.model.balance < 0)"
            )
        return self.select().where(*criteria)

    def first(self) -> Select[Any]:
        """Return a SELECT of the first event.

        Example::

            created = session.scalar(account.events.first())
        """
        return self.select().limit(1)

    def last(self) -> Select[Any]:
        """Return a SELECT of the last event.

        Example::

            newest = session.scalar(account.events.last())
        """
        return self.select().order_by(None).order_by(self._newest).limit(1)

    def at(self, key: Any, when: datetime.datetime | Unset = UNSET) -> Select[Any]:
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
        of_row = self if when is UNSET else self.of(key)
        moment = key if when is UNSET else when
        if of_row._is_of_all or not isinstance(moment, datetime.datetime):
            raise EventsError(
                f"{self!r}.at got {key!r}, {when!r}; write Model.events.at(key, "
                "datetime) or object.events.at(datetime)"
            )
        return of_row.last().where(
            self.table.c.pgh_created_at <= moment,
            *comparable_events(self._tracking, self.table),
        )

    def between(
        self, since: datetime.datetime, until: datetime.datetime
    ) -> Select[Any]:
        """Return a SELECT of the events from one time on and before another.

        :param since: the earliest ``pgh_created_at``.
        :param until: the time that ``pgh_created_at`` is before.

        Example::

            session.scalars(account.events.between(monday, friday)).all()
        """
        created_at = self.table.c.pgh_created_at
        return self.select().where(created_at >= since, created_at < until)

    @property
    def _newest(self) -> ColumnElement[Any]:
        return self.table.c.pgh_id.desc()

    @property
    def _is_of_all(self) -> bool:
        return self._obj is None and self._key is UNSET

    def _is_of_row(self) -> list[ColumnElement[bool]]:
        if self._is_of_all:
            return []
        keys = key_columns(self._tracking.tracked_columns, self.table)
        values = (
            key_values(self._tracking, self._key)
            if self._obj is None
            else [value for _, value in key_of(self._tracking, self._obj)]
        )
        return [key == value for key, value in zip(keys, values, strict=True)]

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

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(self.model, name)


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


def key_values(tracking: Tracking, key: Any) -> list[Any]:
    """Return the values of a key.

    :param key: the value, or a tuple of the values in the order of the key's columns.
    :raises EventsError: the key has another number of columns.
    """
    values = list(key) if isinstance(key, (tuple, list)) else [key]
    names = tracking.tracked_columns.key
    if len(values) != len(names) or not names:
        raise EventsError(
            f"the key of {tracking.subject} is ({', '.join(names)}), got {key!r}"
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
        tables = [t for t in reversed(mapper.tables) if isinstance(t, Table)]
    found = []
    for table in tables:
        found += trackings_of_table(table)
    if not found:
        raise EventsError(f"{target!r} is not tracked; put @track(...) on its class")
    return found


def events(target: Any, name: str = "events") -> Events[Event]:
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
