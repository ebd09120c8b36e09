"""Tracking a model: ``@track(...)``, the mixin, and manual events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import getattr_static
from typing import Any, ClassVar, TypeVar, cast, overload

from sqlalchemy import (
    Column,
    Connection,
    CursorResult,
    MetaData,
    Table,
    event,
    inspect,
)
from sqlalchemy.engine.reflection import Inspector
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session, scoped_session

from sa_history._types import ContextStorage, Level
from sa_history.ddl import CreateFunction, CreateTrigger, DropFunction
from sa_history.event_model import (
    Event,
    History,
    Tracking,
    TrackingOptions,
    ensure_history,
    history_of,
    make_event_class,
    make_event_table,
    mirror_new_columns,
    tracked_columns,
)
from sa_history.events import Events, EventsAttribute
from sa_history.exc import DefinitionError, EventsError
from sa_history.tables import require_postgresql
from sa_history.trackers import (
    AfterDelete,
    Snapshot,
    Tracker,
    TrackerArgument,
    check_names,
    resolved,
)

T = TypeVar("T", bound="type[Any] | Table")


def track(
    *trackers: TrackerArgument,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    level: Level | str = Level.STATEMENT,
    events: str = "events",
    event_name: str | None = None,
    event_table: str | None = None,
    schema: str | None = None,
    base: type[Any] = Event,
    context: ContextStorage | None = "reference",
    context_columns: Sequence[Column[Any]] = (),
    append_only: bool = False,
    search_path: Sequence[str] = (),
) -> Callable[[T], T]:
    """Track a mapped class or a table: each change becomes an event.

    It adds an event table to the MetaData, maps it to an event class, and has
    ``create_all`` install the triggers that write it. Use it again on the same class
    for a second event table.

    :param trackers: what is recorded, as classes or instances; without any,
        ``Snapshot`` and ``AfterDelete``.
    :param columns: attribute names to store, all if left out. The key always is.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param level: ``"statement"`` runs a trigger once for a statement, ``"row"`` once
        for each row: slower for many rows, and needed on a table that is written by
        logical replication, or directly in a leaf partition.
    :param events: the attribute that reads the events.
    :param event_name: the name of the event class.
    :param event_table: the name of the event table.
    :param schema: the schema of the event table, the tracked table's if left out.
    :param base: a plain class that the event class inherits.
    :param context: ``"reference"`` links the context's row, ``"inline"`` stores its
        metadata in each event, None stores none.
    :param context_columns: keys of the context that are stored in columns of their
        own. One that is not nullable makes a change without it fail.
    :param append_only: refuse to update, delete or truncate events.
    :param search_path: schemas in which conditions find operators, such as that of
        an extension; write access to them is a way into the trigger.
    :return: a decorator that returns the class or table.
    :raises DefinitionError: something in the definition cannot work; the message
        says what, and what to write.

    Example::

        @track(Snapshot, AfterUpdate(new.balance < 0, label="overdrawn"), AfterDelete)
        class Account(Base): ...


        track(Snapshot, AfterDelete)(group_members)
    """
    if trackers and isinstance(trackers[0], (Table, MetaData)):
        raise DefinitionError("track takes trackers; write track(...)(table)")
    chosen = tuple(resolved(t) for t in trackers or (Snapshot, AfterDelete))
    options = TrackingOptions(
        columns=columns,
        exclude=exclude,
        level=_level(level),
        events=events,
        event_name=event_name,
        event_table=event_table,
        schema=schema,
        base=base,
        context=context,
        context_columns=tuple(context_columns),
        append_only=append_only,
        search_path=tuple(search_path),
    )
    check_names("track", columns, exclude)
    _check_options(options)

    def decorate(target: T) -> T:
        _track(target, chosen, options)
        # The mixin listens already.
        if not isinstance(target, Table) and not issubclass(target, HistoryMixin):
            event.listen(
                target, "after_mapper_constructed", _follow_subclass, propagate=True
            )
        return target

    return decorate


def _level(level: Level | str) -> Level:
    try:
        return Level(level)
    except ValueError:
        raise DefinitionError(
            f'track: level is "statement" or "row", got {level!r}'
        ) from None


def _check_options(options: TrackingOptions) -> None:
    if options.context not in ("reference", "inline", None):
        raise DefinitionError(
            f'track: context is "reference", "inline" or None, got {options.context!r}'
        )
    for column in options.context_columns:
        if not isinstance(column, Column) or not column.name:
            raise DefinitionError(
                f"track: context_columns are columns with a name, got {column!r}; "
                'write Column("username", String)'
            )
    if not options.events.isidentifier() or options.events.startswith("_"):
        raise DefinitionError(
            f"track: events is the name of an attribute, got {options.events!r}"
        )


def _track(
    target: Any, trackers: tuple[Tracker, ...], options: TrackingOptions
) -> None:
    subject, table, model = _target(target)
    _check_labels(subject, trackers)
    history = ensure_history(table.metadata)
    taken = getattr_static(model, options.events, None) if model else None
    if (table.key, options.events) in history.trackings or not (
        taken is None
        or (isinstance(taken, EventsAttribute) and taken.tracking.table is not table)
    ):
        raise DefinitionError(
            f"{subject} has an attribute {options.events!r} already; give "
            "events='another_name' (and event_table=, where it is tracked twice)"
        )
    columns = tracked_columns(subject, table, model, options)
    for tracker in trackers:  # before anything is added to the MetaData
        tracker.stored(columns)
        tracker.recordings(columns)
    event_table = make_event_table(table, columns, options, history)
    event_class = make_event_class(columns, event_table, model, options, history)
    tracking = Tracking(
        subject, table, model, trackers, options, history, event_table, event_class
    )
    history.trackings[table.key, options.events] = tracking
    table.add_is_dependent_on(event_table)
    _install_with_tables(tracking)
    if model is not None:
        setattr(model, options.events, EventsAttribute(tracking))


def _target(target: Any) -> tuple[str, Table, type[Any] | None]:
    if isinstance(target, Table):
        return target.name, target, None
    mapper = _mapper_of(target)
    if mapper is None:
        raise DefinitionError(
            f"track takes a mapped class or a Table, got {target!r}; give a class with "
            "__tablename__, and put @track above other decorators that map it"
        )
    table = mapper.local_table
    if not isinstance(table, Table):
        raise DefinitionError(
            f"{target.__name__} is mapped to {table.description!r}, which is not a "
            "table; track the tables it is made of"
        )
    if mapper.inherits is not None and _shares_a_table(mapper):
        raise DefinitionError(
            f"{target.__name__} has no table of its own: its rows are in "
            f"{table.name!r}; track {mapper.inherits.class_.__name__}, with a "
            "condition on the discriminator where only some rows matter"
        )
    return target.__name__, table, target


def _mapper_of(target: Any) -> Mapper[Any] | None:
    mapper = inspect(target, raiseerr=False) if isinstance(target, type) else None
    return mapper if isinstance(mapper, Mapper) else None


def _check_labels(subject: str, trackers: Sequence[Tracker]) -> None:
    seen: dict[str, Tracker] = {}
    for tracker in trackers:
        label = tracker.event_label
        if label in seen:
            raise DefinitionError(
                f"{subject}: the label {label!r} is used by "
                f"{type(seen[label]).__name__} and {type(tracker).__name__}; give one "
                "of them another label=..."
            )
        seen[label] = tracker


def _follow_subclass(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Record the columns that a subclass adds to its base's table."""
    table = mapper.local_table
    if isinstance(table, Table) and _shares_a_table(mapper):
        history = history_of(table.metadata)
        for tracking in history.of_table(table) if history else ():
            mirror_new_columns(tracking)


def _shares_a_table(mapper: Mapper[Any]) -> bool:
    return mapper.single and mapper.inherits is not None


def _install_with_tables(tracking: Tracking) -> None:
    """Have the triggers come and go with the tables.

    The tracked table depends on the event table, so ``create_all`` makes the event
    table first, and the triggers are made after the tracked table. Where that one
    stands already, they are made after the event table.
    """
    table, event_table = tracking.table, tracking.event_table
    shared = tracking.history.shared.context_table

    @event.listens_for(event_table, "before_create")
    def create_shared(_: Table, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)
        _create_if_missing(shared, connection)

    @event.listens_for(event_table, "after_create")
    def protect_events(_: Table, connection: Connection, **__: Any) -> None:
        protection = tracking.append_only_trigger()
        if protection is not None:
            connection.execute(CreateTrigger(protection))
        if _exists(table, connection):
            install(tracking, connection)

    @event.listens_for(table, "before_create")
    def check_dialect(_: Table, connection: Connection, **__: Any) -> None:
        require_postgresql(connection)

    @event.listens_for(table, "after_create")
    def create_triggers(_: Table, connection: Connection, **__: Any) -> None:
        # Table.create() makes one table; a tracked one needs the others.
        _create_if_missing(event_table, connection)
        install(tracking, connection)

    @event.listens_for(table, "after_drop")
    @event.listens_for(event_table, "before_drop")
    def drop_triggers(_: Table, connection: Connection, **__: Any) -> None:
        function = tracking.function()
        if function is not None:
            connection.execute(DropFunction(function))


def install(tracking: Tracking, connection: Connection) -> None:
    """Create the function and the triggers of a tracked table."""
    function = tracking.function()
    if function is None:
        return
    connection.execute(CreateFunction(function))
    for trigger in tracking.triggers():
        connection.execute(CreateTrigger(trigger))


def _create_if_missing(table: Table, connection: Connection) -> None:
    if _exists(table, connection) is False:
        table.create(connection)


def _exists(table: Table, connection: Connection) -> bool | None:
    """Whether a table is there; None on a mock connection, which only prints."""
    if not isinstance(connection, Connection):
        return None
    # A new inspector each time: it remembers what it was told.
    inspector: Inspector = inspect(connection)
    schema = connection.schema_for_object(table)
    return inspector.has_table(table.name, schema=schema)


class HistoryMixin:
    """Track a model by its class body, in a form that type checkers understand.

    ``__history__`` holds the trackers, ``__history_options__`` the options of
    :func:`track`. A subclass with a table of its own is tracked as its base is,
    unless it says otherwise; ``__history__ = None`` turns tracking off.

    Example::

        class Account(HistoryMixin, Base):
            __tablename__ = "account"
            __history__ = (Snapshot, AfterUpdate(new.balance < 0, label="overdrawn"))
            id: Mapped[int] = mapped_column(primary_key=True)
            balance: Mapped[int]


        Account.events.model  # type[Event]
    """

    __history__: ClassVar[Sequence[TrackerArgument] | None] = (Snapshot, AfterDelete)
    __history_options__: ClassVar[dict[str, Any]] = {}

    events: ClassVar[_EventsOfMixin]


class _EventsOfMixin:
    """The type of ``events`` on a class with the mixin."""

    def __get__(self, obj: object | None, owner: type[Any]) -> Events[Event]:
        raise NotImplementedError  # replaced by an EventsAttribute


# For classes that inherit the mixin only: the event is SQLAlchemy's way to act on
# classes that do not exist yet.
@event.listens_for(HistoryMixin, "after_mapper_constructed", propagate=True)
def _track_mixin_class(mapper: Mapper[Any], class_: type[HistoryMixin]) -> None:
    if _shares_a_table(mapper):
        _follow_subclass(mapper, class_)
    elif class_.__history__ is not None:
        track(*class_.__history__, **class_.__history_options__)(class_)


def trackings_of(target: Any) -> list[Tracking]:
    """Return the trackings of a mapped class, a Table or a mapped object.

    An object of a joined subclass has rows in several tables; its own comes first.

    :raises EventsError: it is not tracked.
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
        history: History | None = history_of(table.metadata)
        found += history.of_table(table) if history else []
    if not found:
        raise EventsError(f"{target!r} is not tracked; put @track(...) on its class")
    return found


def events(target: Any, name: str = "events") -> Events[Event]:
    """Return the events of a tracked class, object or Core table.

    :param target: a mapped class, an object of one, or a Table.
    :param name: the ``events`` option of :func:`track`.
    :raises EventsError: it is not tracked, or not under that name.

    Example::

        session.scalars(history.events(group_members).select()).all()
    """
    for tracking in trackings_of(target):
        if tracking.options.events == name:
            whole = isinstance(target, (Table, type))
            return Events(tracking, None if whole else target)
    raise EventsError(f"{target!r} has no events named {name!r}; see track(events=...)")


@overload
def create_event(
    session: Session | scoped_session[Any], obj: object, *, label: str
) -> CursorResult[Any]: ...


@overload
def create_event(
    session: AsyncSession, obj: object, *, label: str
) -> Awaitable[CursorResult[Any]]: ...


def create_event(
    session: Session | scoped_session[Any] | AsyncSession, obj: object, *, label: str
) -> CursorResult[Any] | Awaitable[CursorResult[Any]]:
    """Record an event by hand, for a model with a :class:`Manual` tracker.

    What the session holds is flushed first; the event stores what the row is then.

    :param session: with an AsyncSession, await the result.
    :param obj: the object that the event is about.
    :param label: the label of a Manual tracker of its class.
    :raises EventsError: the object's class has no such tracker.

    Example::

        history.create_event(session, user, label="user.login")
        await history.create_event(async_session, user, label="user.login")
    """
    for tracking in trackings_of(obj):
        if tracking.tracker(label) is not None:
            break
    statement = Events(tracking).create(obj, label=label)
    if isinstance(session, AsyncSession):
        return session.run_sync(_flush_and_execute, statement)
    return _flush_and_execute(session, statement)


def _flush_and_execute(
    session: Session | scoped_session[Any], statement: Any
) -> CursorResult[Any]:
    session.flush()
    return cast("CursorResult[Any]", session.execute(statement))
