"""The rows of a model as of a point in time, by the names of its attributes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Column,
    Select,
    SelectBase,
    Table,
    inspect,
    select,
    tuple_,
)
from sqlalchemy.orm import Session

from sa_history.tracking.completeness import complete_tracking
from sa_history.tracking.events import trackings_of


def past_rows(model: Any, key: SelectBase | None, limit: int | None) -> Select[Any]:
    """Return a SELECT for a session of ``as_of``, in the order of the primary key.

    It has the tracked attributes of the model alone. What is not tracked is not in the
    history, and as of now it would be the value of another time.

    :param model: a tracked class or table.
    :param key: a SELECT of the keys of rows; None for all rows.
    :param limit: the greatest number of rows; None for all.
    :raises EventsError: the model is not tracked.
    """
    keys, attributes = _attributes(model)
    rows = select(*(value.label(name) for name, value in attributes.items()))
    if key is not None:
        rows = rows.where(tuple_(*keys).in_(key))
    return rows.order_by(*keys).limit(limit)


def first_event_time(session: Session, model: Any) -> datetime.datetime | None:
    """Return the time of the first event of a model, None if there is no event.

    It is the first by its number, as times have no index.

    :param model: a tracked class or table.
    """
    tables = (tracking.event_table.c for tracking in trackings_of(model))
    times = [
        session.scalar(select(c.pgh_created_at).order_by(c.pgh_id).limit(1))
        for c in tables
    ]
    return min((time for time in times if time is not None), default=None)


def _attributes(model: Any) -> tuple[list[Any], Mapping[str, Any]]:
    """Return the attributes of the primary key, and all that are tracked by name."""
    tracked = _tracked_columns(model)
    if isinstance(model, Table):
        return list(model.primary_key), {n: c for c, n in tracked.items()}
    mapper = inspect(model)
    attributes = {
        attribute.key: getattr(model, attribute.key)
        for attribute in mapper.column_attrs
        if any(column in tracked for column in attribute.columns)
    }
    keys = [mapper.get_property_by_column(c).key for c in mapper.primary_key]
    return [getattr(model, key) for key in keys], attributes


def _tracked_columns(model: Any) -> Mapping[Column[Any], str]:
    """Return the tracked columns of a model's tables, each with its attribute."""
    found: dict[Column[Any], str] = {}
    for tracking in trackings_of(model):
        if complete_tracking(tracking.table) in (None, tracking):
            columns = tracking.tracked_columns
            for name in columns.stored:
                found.setdefault(columns.by_attribute[name], name)
    return found
