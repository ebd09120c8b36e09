"""What the rows of a table are called, as the application names them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Column, Enum, Integer, String, Uuid, inspect, select, tuple_
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, defer, raiseload

from sa_history.sql.column_types import holds_json
from sa_history.timeline.entries import Hidden, ShownTable
from sa_history.timeline.references import Reference
from sa_history.tracking.identity import identity_by_key
from sa_history.tracking.value_text import as_text


def row_names(
    session: Session,
    table: ShownTable,
    hidden: Hidden,
    references: Collection[Reference],
    name: Callable[[Any], str | None],
) -> dict[Reference, str]:
    """Return the names of rows; of those that have one.

    :param session: reads the rows.
    :param table: the table of the rows.
    :param hidden: the columns that are never shown.
    :param references: what refers to the rows.
    :param name: called with an object of the model. Of what is hidden, and of
        relationships, the object has nothing.
    """
    model = table.tracking.model
    key = [table.columns[attribute] for attribute in table.key]
    converters = [convert for convert in map(_converter, key) if convert]
    if model is None or len(converters) < len(key):
        return {}
    mapper = inspect(model)
    wanted = {
        tuple(
            convert(as_text(value))
            for convert, value in zip(converters, reference.values, strict=True)
        ): reference
        for reference in references
    }
    of_identity = {
        identity_by_key(mapper, dict(zip(key, values, strict=True))): reference
        for values, reference in wanted.items()
    }
    unread = [
        defer(getattr(model, known.key), raiseload=True)
        for known in mapper.column_attrs
        if any(_is_unread(each, hidden) for each in known.columns)
    ]
    statement = select(model).where(tuple_(*key).in_([*wanted]))
    found: dict[Reference, str] = {}
    # A value that Python cannot read has no name.
    with contextlib.suppress(LookupError, ValueError):
        objects = session.scalars(statement.options(*unread, raiseload("*")))
        for each in objects.unique():
            with contextlib.suppress(InvalidRequestError):
                identity = tuple(mapper.primary_key_from_instance(each))
                found[of_identity[identity]] = name(each) or ""
    return found


def _converter(column: Column[Any]) -> Callable[[str], Any] | None:
    """Return what makes a key of a text, None for a type whose keys are not known."""
    kind = column.type
    if isinstance(kind, Integer):
        return int
    if isinstance(kind, Uuid):
        return uuid.UUID if kind.as_uuid else str
    return str if isinstance(kind, String) and not isinstance(kind, Enum) else None


def _is_unread(column: Any, hidden: Hidden) -> bool:
    return not isinstance(column, Column) or (
        hidden.hides(column) or holds_json(column.type)
    )
