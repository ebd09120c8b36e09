"""The options of ``track``."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement

from sa_history._types import ContextStorage, Level
from sa_history.columns import check_names
from sa_history.exc import DefinitionError


@dataclass(frozen=True, eq=False, kw_only=True)
class TrackingOptions:
    """The options of ``track``, checked.

    :param columns: attribute names to store, None for all.
    :param exclude: attribute names not to store, instead of ``columns``.
    :param level: how often the trigger runs.
    :param events: the name of the attribute on the model.
    :param event_name: the name of the event class, None for the usual one.
    :param event_table: the name of the event table, None for the usual one.
    :param schema: the schema of the event table, None for the tracked table's.
    :param base: the base of the event class.
    :param context: where the context is stored, None for nowhere.
    :param context_columns: keys of the context stored in columns.
    :param append_only: whether events are protected from change.
    :param created_at: the time of an event.
    :param search_path: schemas in which conditions find operators.
    """

    columns: Sequence[str] | None
    exclude: Sequence[str] | None
    level: Level
    events: str
    event_name: str | None
    event_table: str | None
    schema: str | None
    base: type[Any]
    context: ContextStorage | None
    context_columns: tuple[Column[Any], ...]
    append_only: bool
    created_at: ColumnElement[datetime.datetime]
    search_path: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check what can be checked without knowing the model."""
        check_names("track", self.columns, self.exclude)
        if self.context not in ("reference", "inline", None):
            raise DefinitionError(
                f'track: context is "reference", "inline" or None, got {self.context!r}'
            )
        for column in self.context_columns:
            if not isinstance(column, Column) or not column.name:
                raise DefinitionError(
                    f"track: context_columns are columns with a name, got {column!r}; "
                    'write Column("username", String)'
                )
        if not self.events.isidentifier() or self.events.startswith("_"):
            raise DefinitionError(
                f"track: events is the name of an attribute, got {self.events!r}"
            )


def checked_level(level: Level | str) -> Level:
    """Return a level given by its name or as itself.

    :raises DefinitionError: there is no such level.
    """
    try:
        return Level(level)
    except ValueError:
        raise DefinitionError(
            f'track: level is "statement" or "row", got {level!r}'
        ) from None
