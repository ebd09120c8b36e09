"""Tracking a model: ``@track(...)``, and the mixin."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from sqlalchemy import Column, ColumnElement, MetaData, Table, event, func
from sqlalchemy.orm import Mapper

from sa_history._types import ContextOption, Level, PartitionBy
from sa_history.attachments.attach import attach, fits
from sa_history.capture.archive_table import ensure_archive_table
from sa_history.capture.context_storage import CONTEXT_STORAGES
from sa_history.capture.event_table import make_event_table
from sa_history.capture.options import TrackingOptions
from sa_history.capture.seal_tables import ensure_seal_tables
from sa_history.capture.trackers import (
    AfterDelete,
    Snapshot,
    Tracker,
    TrackerArgument,
    resolved,
)
from sa_history.ddl.name_registry import name_registry_of
from sa_history.definition.columns import TrackedColumns
from sa_history.definition.mapped_tables import (
    definition_target,
    is_view,
    shares_a_table,
)
from sa_history.exc import DefinitionError
from sa_history.sql.column_types import refuses_null
from sa_history.tracking.context_class import Context
from sa_history.tracking.ddl_events import install_with_tables
from sa_history.tracking.event_class import Event, make_event_class
from sa_history.tracking.events import E, Events, EventsAttribute
from sa_history.tracking.registry import (
    Tracking,
    columns_of,
    ensure_history,
    mirror_new_columns,
    recordings_of,
    trackings_of_table,
)
from sa_history.tracking.session_events import listen_to_sessions
from sa_history.triggers.base import TableTrigger
from sa_history.util.arguments import as_names, checked_level

_TRANSACTION_TIME: ColumnElement[datetime.datetime] = func.now()

T = TypeVar("T", bound="type[Any] | Table")
T_co = TypeVar("T_co", covariant=True)


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
    context: ContextOption | None = "reference",
    context_columns: Sequence[Column[Any]] = (),
    append_only: bool = False,
    created_at: ColumnElement[datetime.datetime] = _TRANSACTION_TIME,
    search_path: Sequence[str] = (),
    ignorable: bool = True,
    index: Sequence[str] = (),
    notify: str | None = None,
    partition_by: PartitionBy | None = None,
    sealed: bool = False,
    erasable: Sequence[str] = (),
    erasable_context: Sequence[str] = (),
    distribute: str | Literal[True] | None = None,
) -> Callable[[T], T]:
    """Track a mapped class or a table: each change becomes an event.

    An event table is added to the MetaData and mapped to an event class, and
    ``create_all`` installs the triggers that write it. A second ``track`` of the same
    class adds a second event table.

    :param trackers: the trackers, as classes or instances; ``Snapshot`` and
        ``AfterDelete``, if left out.
    :param columns: attribute names to store; all, if left out. The key is always
        stored.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param level: ``"statement"`` runs a trigger once for a statement, ``"row"`` once
        for each row: slower for many rows, and needed on a table that is written
        by logical replication (there with ``ALTER
        TABLE ... ENABLE ALWAYS TRIGGER``). Partitioned tables are recorded row by row
        at either level, and so are updates and deletions of tables that inherit from
        others, or whose foreign keys can update a row and delete it by one statement.
    :param events: the attribute that reads the events.
    :param event_name: the name of the event class; ``AccountEvent`` for ``Account``, if
        left out.
    :param event_table: the name of the event table; ``account_event`` for ``account``,
        if left out.
    :param schema: the schema of the event table; the tracked table's, if left out.
    :param base: a plain class that the event class inherits. It inherits SQLAlchemy's
        ``AsyncAttrs`` in any case if the model does.
    :param context: ``"reference"`` stores the id of the context's row, ``"inline"``
        also the context's metadata in each event; None stores no context.
    :param context_columns: keys of the context that are stored in columns of their
        own. One that is not nullable makes a change without it fail.
    :param append_only: refuse to update, delete or truncate events.
    :param created_at: the time of an event, ``func.now()`` if left out: when its
        transaction began. ``func.clock_timestamp()`` is when it was written.
    :param search_path: schemas in which conditions find operators, such as that of
        an extension; write access to them is a way into the trigger.
    :param ignorable: whether ``history.ignore`` turns the tracking off. Any client that
        may write the table can do the same; give False if the history has to be
        complete whoever writes.
    :param index: attribute names by which events are searched, such as foreign keys;
        each is an index of the event table, which makes each event slower to write.
    :param notify: the name of a channel, of up to 63 bytes, to NOTIFY when there are
        new events, once in a transaction, for readers of :func:`feed`; no NOTIFY, if
        None.
    :param partition_by: ``"day"``, ``"week"``, ``"month"``, ``"year"`` or a number of
        events: the event table is partitioned by ``pgh_id``, and :func:`partitions`
        ends each partition after about that much, and removes old ones; one table
        without partitions, if None.
    :param sealed: whether :func:`seal` seals the events, so that :func:`verify` finds
        what is changed in them. To write an event costs the same.
    :param erasable: attribute names of personal data, whose values :func:`erase` takes
        out of the events of an object. The key cannot be among them.
    :param erasable_context: keys of contexts whose values :func:`erase` takes out of
        the contexts of the object's events, and out of context columns.
    :param distribute: the attribute of the key, such as ``"tenant_id"``, by whose
        column Citus distributes the table; ``create_all`` distributes the table and
        its events. It needs ``context="inline"`` or None. True for tables in a sharded
        schema of Citus. None for tables that Citus does not distribute.
    :return: a decorator that returns the class or table.
    :raises DefinitionError: something in the definition cannot work; the message says
        what is wrong, and what to write.

    Example::

        @track(Snapshot, AfterUpdate(new.balance < 0, label="overdrawn"), AfterDelete)
        class Account(Base): ...


        track(Snapshot, AfterDelete)(group_members)
    """
    if trackers and isinstance(trackers[0], (Table, MetaData)):
        raise DefinitionError("track takes trackers; write track(...)(table)")
    chosen = tuple(resolved(t) for t in trackers or (Snapshot, AfterDelete))
    options = TrackingOptions(
        columns=None if columns is None else as_names("columns", columns),
        exclude=None if exclude is None else as_names("exclude", exclude),
        level=checked_level("track", level),
        events=events,
        event_name=event_name,
        event_table=event_table,
        schema=schema,
        base=base,
        context=context,
        context_columns=tuple(context_columns),
        append_only=append_only,
        created_at=created_at,
        search_path=as_names("search_path", search_path),
        ignorable=ignorable,
        index=as_names("index", index),
        notify=notify,
        partition_by=partition_by,
        sealed=sealed,
        erasable=as_names("erasable", erasable),
        erasable_context=as_names("erasable_context", erasable_context),
        distribute=distribute,
    )
    if distribute is not None and created_at is not _TRANSACTION_TIME:
        raise DefinitionError(
            f"track: with distribute={distribute!r} the time of an event is when its "
            "transaction began, on all nodes; leave created_at out"
        )

    def decorate(target: T) -> T:
        _track(target, chosen, options)
        # The mixin listens already.
        if not isinstance(target, Table) and not issubclass(target, HistoryMixin):
            event.listen(
                target, "after_mapper_constructed", _follow_subclass, propagate=True
            )
        return target

    return decorate


def _track(
    target: Any, trackers: tuple[Tracker, ...], options: TrackingOptions
) -> None:
    subject, table, model = definition_target(target, "track")
    # SQLAlchemy 2.1 has views of its own, whose tables say what they are.
    if is_view(table) or getattr(table, "is_view", False):
        raise DefinitionError(f"{subject} is a view; track the tables that it reads")
    _check_labels(subject, trackers)
    history = ensure_history(table.metadata)
    is_tracked = (table.key, options.events) in history.trackings
    if is_tracked:
        first = history.trackings[table.key, options.events].subject
        raise DefinitionError(
            f"{subject}: the table {table.fullname!r} is tracked already, and {first}."
            f"{options.events} has its events; leave this track out, or give "
            "events='another_name' and event_table= for other events beside them"
        )
    if _has_attribute(model, table, options.events):
        raise DefinitionError(
            f"{subject} has an attribute {options.events!r} already; give "
            "events='another_name'"
        )
    _check_manual_labels(subject, trackers, history.of_table(table))
    columns = columns_of(subject, table, model, options)
    for tracker in trackers:  # before anything is added to the MetaData
        _check_left_out(tracker, columns)
    recordings = recordings_of(trackers, columns)
    event_table = make_event_table(
        table,
        columns,
        options,
        history.shared,
        CONTEXT_STORAGES[options.context](history.shared),
    )
    if options.partition_by is not None and options.context == "reference":
        history.shared.partition_contexts()
    if options.partition_by is not None:
        event_table.add_is_dependent_on(ensure_archive_table(table.metadata))
    if options.sealed or options.is_erasable:
        seals = ensure_seal_tables(table.metadata)
        event_table.add_is_dependent_on(seals.erased)
    event_class = make_event_class(columns, event_table, model, options)
    tracking = Tracking(
        subject, table, model, trackers, options, history, event_table, event_class
    )
    tracking.remember_columns(columns)
    tracking.remembered("recordings", lambda _: recordings)
    event_class.pgh_tracking = tracking
    names = name_registry_of(table.metadata)
    for trigger in tracking.triggers():
        names.register_function(trigger.function, table, f"tracking of {subject}")
        names.register(trigger, table, f"tracking of {subject}")
    history.trackings[table.key, options.events] = tracking
    table.add_is_dependent_on(event_table)
    install_with_tables(tracking)
    listen_to_sessions()
    if model is not None:
        setattr(model, options.events, EventsAttribute(tracking))
        _make_importable(tracking, model)


def _check_left_out(tracker: Tracker, columns: TrackedColumns) -> None:
    """Refuse a tracker that leaves out a column whose type has no NULL."""
    stored = tracker.stored(columns)
    for name in columns.stored:
        if name not in stored and refuses_null(columns.by_attribute[name].type):
            raise DefinitionError(
                f"{columns.subject}: {type(tracker).__name__}({tracker.event_label!r})"
                f" does not store {name!r}, whose DOMAIN is NOT NULL, so that no event"
                " could be without it; store it too, or make the column NOT NULL in"
                " place of the DOMAIN"
            )


def _make_importable(tracking: Tracking, model: type[Any]) -> None:
    """Give the class of the events, and of contexts, names by which pickle finds them.

    These are expressions that begin with the model, which a process imports.
    """
    event_class, context_class = tracking.event_class, tracking.history.context_class
    event_class.__qualname__ = f"{model.__qualname__}.{tracking.options.events}.model"
    if context_class.__module__ == Context.__module__:  # no model was tracked before
        context_class.__module__ = model.__module__
        context_class.__qualname__ = (
            f"{event_class.__qualname__}.pgh_tracking.history.context_class"
        )


def _has_attribute(model: type[Any] | None, table: Table, name: str) -> bool:
    """Return whether a model has an attribute that its events would replace.

    The events of a base with a table of its own are no such attribute: those of the
    subclass take their name.
    """
    found = None if model is None else getattr_static(model, name, None)
    if isinstance(found, EventsAttribute):
        return found.tracking.table is table
    return found is not None


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


def _check_manual_labels(
    subject: str, trackers: Sequence[Tracker], others: Sequence[Tracking]
) -> None:
    """Refuse a Manual label that another ``track`` of the table has.

    ``create_event`` is given the label alone, and finds the event table by it.
    """
    taken = {
        tracker.event_label: other.options.events
        for other in others
        for tracker in other.trackers
        if not tracker.operations
    }
    for tracker in trackers:
        label = tracker.event_label
        if label in taken and not tracker.operations:
            raise DefinitionError(
                f"{subject}: the label {label!r} of Manual is that of one in "
                f"{subject}.{taken[label]} already; give it another"
            )


def _follow_subclass(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Add the columns that a subclass adds to its base's table to the event table."""
    table = mapper.local_table
    if isinstance(table, Table) and shares_a_table(mapper):
        for tracking in trackings_of_table(table):
            mirror_new_columns(tracking)


if TYPE_CHECKING:

    class _Attribute(Generic[T_co]):
        """A decorator of a method, which makes an attribute of classes and objects."""

        def __init__(self, method: Callable[[Any], T_co]) -> None: ...

        def __get__(self, obj: object | None, owner: type[Any]) -> T_co: ...


class HistoryMixin(Generic[E]):
    """Track a model by its class body, in a form that type checkers understand.

    ``__history__`` holds the trackers, ``__history_options__`` the options of
    :func:`track`, ``__triggers__`` what :func:`attach` takes. A subclass with a table
    of its own is tracked as its base is, unless it says otherwise; ``__history__ =
    None`` turns tracking off. It has the triggers of its base as well, but for those
    that name columns of the base's table.

    Example::

        class Account(HistoryMixin, Base):
            __tablename__ = "account"
            __history__ = (Snapshot, AfterUpdate(new.balance < 0, label="overdrawn"))
            id: Mapped[int] = mapped_column(primary_key=True)
            balance: Mapped[int]


        Account.events.model  # type[Event]

    With the option ``base`` of :func:`track`, ``HistoryMixin[AccountEvent]`` tells type
    checkers that ``events`` is ``Events[AccountEvent]``.
    """

    __history__: ClassVar[Sequence[TrackerArgument] | None] = (Snapshot, AfterDelete)
    __history_options__: ClassVar[dict[str, Any]] = {}
    __triggers__: ClassVar[Sequence[TableTrigger]] = ()

    if TYPE_CHECKING:

        @_Attribute
        def events(self) -> Events[E]:
            """The events of all rows, or of one."""


# For classes that inherit the mixin only: the event is SQLAlchemy's way to act on
# classes that do not exist yet.
@event.listens_for(HistoryMixin, "after_mapper_constructed", propagate=True)
def _track_mixin_class(mapper: Mapper[Any], class_: type[HistoryMixin[Any]]) -> None:
    trackers = class_.__history__
    if shares_a_table(mapper) and not vars(class_).get("__history__"):
        _follow_subclass(mapper, class_)
    elif trackers is not None and isinstance(mapper.local_table, Table):
        _check_sequence(class_, "__history__", trackers, "(Snapshot, AfterDelete)")
        track(*trackers, **class_.__history_options__)(class_)
    triggers = class_.__triggers__
    _check_sequence(class_, "__triggers__", triggers, "(Protect(Delete),)")
    if mapper.inherits is not None and "__triggers__" not in vars(class_):
        # A row has those that name columns of the base by its part in that table.
        shared = shares_a_table(mapper)
        triggers = [t for t in triggers if not shared and fits(t, class_)]
    if triggers:
        attach(*triggers)(class_)


def _check_sequence(
    class_: type[Any], attribute: str, value: object, example: str
) -> None:
    if not isinstance(value, (tuple, list)):
        raise DefinitionError(
            f"{class_.__name__}: {attribute} is a tuple, got {value!r}; write "
            f"{attribute} = {example}"
        )
