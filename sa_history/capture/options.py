"""The options of ``track``."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Column, ColumnElement, types

from sa_history._types import ContextOption, Level, PartitionBy, PartitionPeriod
from sa_history.capture.context_storage import CONTEXT_STORAGES
from sa_history.exc import DefinitionError
from sa_history.util.arguments import check_names
from sa_history.util.identifiers import MAX_BYTES, check_name, check_text


@dataclass(frozen=True, eq=False, kw_only=True)
class TrackingOptions:
    """The options of ``track``, checked.

    :param columns: attribute names to store; all, if None.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param level: whether a trigger runs once for a statement or for each row.
    :param events: the name of the attribute on the model.
    :param event_name: the name of the event class; made of the model's, if None.
    :param event_table: the name of the event table; made of the tracked table's, if
        None.
    :param schema: the schema of the event table; the tracked table's, if None.
    :param base: the base of the event class.
    :param context: a key of ``CONTEXT_STORAGES``.
    :param context_columns: keys of the context that have columns of their own.
    :param append_only: whether events are protected from UPDATE, DELETE and TRUNCATE.
    :param created_at: the SQL expression of ``pgh_created_at``.
    :param search_path: schemas in which conditions find operators.
    :param ignorable: whether ``history.ignore`` turns the tracking off.
    :param index: attributes that get an index of the event table.
    :param notify: the channel to NOTIFY of new events; no NOTIFY, if None.
    :param partition_by: how much a partition of the event table holds; no partitions,
        if None.
    :param sealed: whether ``history.seal`` seals the events.
    :param erasable: attributes whose values ``history.erase`` takes out of events.
    :param erasable_context: keys whose values it takes out of the events' contexts.
    :param distribute: the attribute by whose column Citus distributes the table and its
        events; True, if a sharded schema of Citus has them; None, if it does not
        distribute them.
    """

    columns: Sequence[str] | None
    exclude: Sequence[str] | None
    level: Level
    events: str
    event_name: str | None
    event_table: str | None
    schema: str | None
    base: type[Any]
    context: ContextOption | None
    context_columns: tuple[Column[Any], ...]
    append_only: bool
    created_at: ColumnElement[datetime.datetime]
    search_path: tuple[str, ...]
    ignorable: bool
    index: tuple[str, ...]
    notify: str | None
    sealed: bool
    erasable: tuple[str, ...]
    erasable_context: tuple[str, ...]
    partition_by: PartitionBy | None = None
    distribute: str | Literal[True] | None = None

    @property
    def is_erasable(self) -> bool:
        """Whether ``history.erase`` takes anything out of the events."""
        return bool(self.erasable or self.erasable_context)

    def __post_init__(self) -> None:
        """Check what can be checked without knowing the model."""
        check_names("track", self.columns, self.exclude)
        if self.context not in tuple(CONTEXT_STORAGES):
            raise DefinitionError(
                f'track: context is "reference", "inline" or None, got {self.context!r}'
            )
        if isinstance(self.notify, str):
            check_text("track: notify", self.notify)
        if self.notify is not None and (
            not isinstance(self.notify, str)
            or not 0 < len(self.notify.encode()) <= MAX_BYTES
        ):
            raise DefinitionError(
                f"track: notify is the name of a channel, of up to {MAX_BYTES} bytes, "
                f"got {self.notify!r}"
            )
        _check_partition_by(self.partition_by)
        if self.distribute is not None:
            self._check_distribute()
        for column in self.context_columns:
            _check_context_column(column)
            if column.name in self.erasable_context and not column.nullable:
                raise DefinitionError(
                    f"track: erasable_context names {column.name!r}, whose column is "
                    "NOT NULL; make it nullable, so that it can be erased"
                )
        stored = {column.name for column in self.context_columns}
        for key in self.erasable_context:
            if self.context is None and key not in stored:
                raise DefinitionError(
                    f"track: erasable_context names {key!r}, but with context=None "
                    "events store no context; leave it out"
                )
        for argument in ("events", "event_name", "event_table", "schema"):
            name = getattr(self, argument)
            if not isinstance(name, str) and (name is not None or argument == "events"):
                raise DefinitionError(f"track: {argument} is a name, got {name!r}")
            if name and argument in ("event_table", "schema"):
                check_name(f"track: {argument}", name)
            elif name:
                check_text(f"track: {argument}", name)
        if not isinstance(self.created_at, ColumnElement):
            raise DefinitionError(
                f"track: created_at is an expression, got {self.created_at!r}; write "
                "func.now() or func.clock_timestamp()"
            )
        if not self.events.isidentifier() or self.events.startswith("_"):
            raise DefinitionError(
                f"track: events is the name of an attribute, got {self.events!r}"
            )

    def _check_distribute(self) -> None:
        """Refuse what is not right, or was not shown to be, on distributed tables."""
        if not isinstance(self.distribute, str) and self.distribute is not True:
            raise DefinitionError(
                "track: distribute is the name of an attribute, or True for a sharded "
                f"schema, got {self.distribute!r}"
            )
        if self.context == "reference" and self.distribute is not True:
            raise DefinitionError(
                f"track: with distribute={self.distribute!r} an event is written where "
                'Citus has the row, away from the context table; give context="inline"'
            )
        refused = {
            "append_only": self.append_only,
            "notify": self.notify is not None,
            "partition_by": self.partition_by is not None,
            "sealed": self.sealed,
            "erasable": bool(self.erasable),
            "erasable_context": bool(self.erasable_context),
        }
        for name, is_given in refused.items():
            if is_given:
                raise DefinitionError(
                    f"track: {name} is not supported with distribute="
                    f"{self.distribute!r}; leave one of them out"
                )


def _check_partition_by(given: Any) -> None:
    if given is None or given in get_args(PartitionPeriod):
        return
    # True is a number, too.
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        periods = ", ".join(f'"{period}"' for period in get_args(PartitionPeriod))
        raise DefinitionError(
            f"track: partition_by is one of {periods}, a number of events from 1 on, "
            f"or None, got {given!r}"
        )


def _check_context_column(column: Any) -> None:
    if not isinstance(column, Column) or not column.name:
        raise DefinitionError(
            f"track: context_columns are columns with a name, got {column!r}; "
            'write Column("username", String)'
        )
    owner = f"track: context column {column.name!r}"
    check_name(f"{owner}: its name", column.name)
    if column.foreign_keys or column.primary_key:
        raise DefinitionError(
            f"{owner} has a key; an event keeps what the context said, so leave it out"
        )
    if isinstance(column.type, (types.ARRAY, types.NullType)):
        raise DefinitionError(
            f"{owner} has the type {column.type!r}; give another, such as JSONB for a "
            "list"
        )
    enum_class = getattr(column.type, "enum_class", None)
    stored = getattr(column.type, "enums", [])
    if enum_class is not None and stored != [m.value for m in enum_class]:
        raise DefinitionError(
            f"{owner} stores the names of {enum_class.__name__}, but a context has its "
            "values; write Enum(..., values_callable=lambda e: [m.value for m in e])"
        )
