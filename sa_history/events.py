"""``Model.events``: the events of a model, or of one of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar
from typing import cast as cast_type

from sqlalchemy import (
    Column,
    ColumnElement,
    Insert,
    Select,
    Table,
    Text,
    Uuid,
    cast,
    func,
    insert,
    inspect,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeEngine

from sa_history._types import Op
from sa_history.conditions import suggestion
from sa_history.ddl import DEFAULT_SCHEMA
from sa_history.event_model import Event, Tracking, key_columns
from sa_history.exc import EventsError
from sa_history.sql.compose import Qualified
from sa_history.sql.naming import CONTEXT_METADATA

E = TypeVar("E", bound=Event)


class Events(Generic[E]):
    """The events of a model, or those of one row.

    It makes statements and runs none, so it serves ``Session`` and ``AsyncSession``
    alike. The attributes of the event class are its attributes too.

    Example::

        session.scalars(account.events.select()).all()
        session.scalars(Account.events.where(Account.events.balance < 0)).all()
    """

    def __init__(self, tracking: Tracking, obj: object | None = None) -> None:
        self._tracking = tracking
        self._obj = obj

    @property
    def model(self) -> type[E]:
        """The mapped event class."""
        return self._tracking.event_class  # type: ignore[return-value]

    @property
    def table(self) -> Table:
        """The event table."""
        return self._tracking.event_table

    def select(self) -> Select[Any]:
        """Return a SELECT of the events, oldest first.

        :raises EventsError: on an object that has no key yet.

        Example::

            session.scalars(account.events.select().limit(10))
        """
        statement = select(self.model).order_by(self.table.c.pgh_id)
        if self._obj is not None:
            statement = statement.where(*self._is_of(self._obj))
        return statement

    def where(self, *criteria: ColumnElement[bool] | bool) -> Select[Any]:
        """Return a SELECT of the events that meet the criteria, oldest first.

        Example::

            session.scalars(Account.events.where(Account.events.pgh_label == "create"))
        """
        return self.select().where(*criteria)  # type: ignore[arg-type]

    def create(self, obj: object, *, label: str) -> Insert:
        """Return the INSERT of a manual event of ``obj``.

        Its columns are read from the database, where the row has to be.

        :param obj: a row of the model.
        :param label: the label of a :class:`~sa_history.Manual` tracker.
        :raises EventsError: there is no such tracker.

        Example::

            session.execute(User.events.create(user, label="user.login"))
        """
        tracking = self._tracking
        tracker = tracking.tracker(label)
        if tracker is None or tracker.operations:
            manual = {t.event_label: t for t in tracking.trackers if not t.operations}
            raise EventsError(
                f"{tracking.subject} has no Manual tracker with the label {label!r}"
                + (
                    suggestion(label, manual)
                    if manual
                    else "; give Manual(label) to it"
                )
            )
        table, columns = tracking.table, tracking.tracked_columns
        values: dict[str, Any] = {
            "pgh_label": literal(label),
            "pgh_op": literal(Op.MANUAL.value),
        }
        if columns.object_id:
            values[columns.object_id] = columns.columns[columns.key[0]]
        for name in tracker.stored(columns):
            values[columns.columns[name].name] = columns.columns[name]
        values.update(self._context_values())
        row = [table.c[column.key] == value for column, value in _key_of(tracking, obj)]
        return insert(self.table).from_select(
            list(values), select(*values.values()).where(*row)
        )

    def _context_values(self) -> dict[str, Any]:
        options, shared = self._tracking.options, self._tracking.history.shared
        values: dict[str, Any] = {}
        if options.context == "reference":
            values["pgh_context_id"] = _call(shared.attach_context, Uuid())
        if options.context == "inline":
            metadata = func.current_setting(CONTEXT_METADATA, True)
            values["pgh_context"] = cast(func.nullif(metadata, ""), JSONB)
        for column in options.context_columns:
            value = _call(
                shared.context_value,
                Text(),
                literal(column.name),
                literal(not column.nullable),
                cast(literal(self._tracking.table.schema or DEFAULT_SCHEMA), Text),
                cast(literal(self._tracking.table.name), Text),
            )
            values[column.name] = cast(value, column.type)
        return values

    def key_of(self, obj: object) -> list[Any]:
        """Return the key that the events of ``obj`` have.

        :raises EventsError: it is not of this model, or has no key yet.
        """
        return [value for _, value in _key_of(self._tracking, obj)]

    def _is_of(self, obj: object) -> list[ColumnElement[bool]]:
        keys = key_columns(self._tracking.tracked_columns, self.table)
        values = self.key_of(obj)
        return [key == value for key, value in zip(keys, values, strict=True)]

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "events are not a list but a SELECT; run session.scalars(x.events.select())"
        )

    def __repr__(self) -> str:
        of = f" of {self._obj!r}" if self._obj is not None else ""
        return f"<Events {self.model.__name__}{of}>"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    else:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(self.model, name)


class EventsAttribute:
    """What ``track`` puts on a model as ``Model.events``.

    On the class it gives the events of all rows, on an object those of its row.
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


def _key_of(tracking: Tracking, obj: object) -> list[tuple[Column[Any], Any]]:
    """Return the key columns of the tracked table with the object's values."""
    if tracking.model is None or not isinstance(obj, tracking.model):
        raise EventsError(f"{obj!r} is not a {tracking.subject}; give one that is")
    columns = tracking.tracked_columns
    state = inspect(obj)
    if state.identity is not None:
        # Not by the attributes: reading an expired one would need a round trip.
        mapper = state.mapper
        names = [mapper.get_property_by_column(c).key for c in _primary_key(mapper)]
        values = dict(zip(names, state.identity, strict=True))
    else:
        values = {name: state.dict.get(name) for name in columns.key}
    if not columns.key or any(values.get(name) is None for name in columns.key):
        raise EventsError(
            f"{tracking.subject} object has no key yet, so it has no events; flush the "
            "session first"
        )
    return [(columns.columns[name], values[name]) for name in columns.key]


def _primary_key(mapper: Mapper[Any]) -> tuple[Column[Any], ...]:
    return cast_type("tuple[Column[Any], ...]", mapper.primary_key)


def _call(name: Qualified, type_: TypeEngine[Any], *arguments: Any) -> Any:
    """Return a call of a function, once for the statement."""
    package: Any = func
    if name.schema:
        package = getattr(func, name.schema)
    call = getattr(package, name.name)(*arguments, type_=type_)
    return select(call).scalar_subquery()
