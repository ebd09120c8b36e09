"""Restoring a row: its table's columns get the values that an event stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Insert,
    Table,
    bindparam,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapper, Session

from sa_history.exc import EventsError
from sa_history.tracking.completeness import stored_attributes


def restore(session: Session, event: Any, columns: Sequence[str] | None) -> Any:
    """Write the values of an event into its row.

    :param columns: the attributes to restore; all, if None.
    :return: the object of the row, or None for a row of a Core table.
    :raises EventsError: the event does not store an attribute, or its table has no
        primary key.
    """
    tracking = event.pgh_tracking
    recorded = stored_attributes(tracking)
    tracked, stored = recorded.columns, recorded.of(event)
    if isinstance(columns, str):
        raise EventsError(f"columns is a list of names, got {columns!r}")
    wanted = tracked.stored if columns is None else tuple(columns)
    missing = [name for name in wanted if name not in stored]
    if missing:
        raise EventsError(
            f"{event!r} does not store {', '.join(missing)}; give columns=[...] of "
            f"{', '.join(stored)}"
        )
    if not tracked.key:
        raise EventsError(
            f"{tracked.subject} has no primary key, so the row of {event!r} "
            "cannot be told from others"
        )
    columns_of = tracked.columns
    unwritten = {*tracked.generated, *tracked.key}
    values = {columns_of[n]: getattr(event, n) for n in wanted if n not in unwritten}
    key = {name: getattr(event, name) for name in tracked.key}
    by_key = {columns_of[name]: value for name, value in key.items()}
    table = tracking.table
    is_row = [column == value for column, value in by_key.items()]
    session.flush()
    exists = session.execute(select(*by_key).where(*is_row).with_for_update()).first()
    if exists is None:
        session.execute(inserted(table, {**by_key, **values}))
    elif values := {c: v for c, v in values.items() if not is_always_identity(c)}:
        session.execute(update(table).where(*is_row).values(values))
    if tracking.model is None:
        return None
    # An object of a joined class may be without its row in another table yet.
    return session.get(
        tracking.model, _identity(tracking.model, key), populate_existing=True
    )


def inserted(table: Table, values: Mapping[Column[Any], Any]) -> Insert:
    """Return an INSERT that also restores identity values that are GENERATED ALWAYS.

    :param values: the values by column of the table.
    """
    if not any(map(is_always_identity, values)):
        return insert(table).values(dict(values))
    # https://www.postgresql.org/docs/current/sql-insert.html
    names = [f"value_{position}" for position in range(len(values))]
    row = text(
        f"OVERRIDING SYSTEM VALUE VALUES ({', '.join(f':{name}' for name in names)})"
    ).bindparams(
        *(
            bindparam(name, value, column.type)
            for name, (column, value) in zip(names, values.items(), strict=True)
        )
    )
    return insert(table).from_select(list(values), row.columns())


def is_always_identity(column: Column[Any]) -> bool:
    """Return whether a column is ``GENERATED ALWAYS AS IDENTITY``."""
    return column.identity is not None and bool(column.identity.always)


def _identity(model: type[Any], key: Mapping[str, Any]) -> tuple[Any, ...]:
    mapper: Mapper[Any] = inspect(model)
    return tuple(key[mapper.get_property_by_column(c).key] for c in mapper.primary_key)
