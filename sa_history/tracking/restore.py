"""Restoring a row: its table's columns get the values that an event stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
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
from sqlalchemy.orm import Session

from sa_history.exc import EventsError
from sa_history.tracking.completeness import stored_attributes
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.identity import identity_by_key
from sa_history.tracking.stored_values import (
    may_read_none,
    selected,
    stored_values,
    value_to_write,
)


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
    columns_of = tracked.by_attribute
    unwritten = {*tracked.generated, *tracked.key}
    restored = {n: columns_of[n] for n in wanted if n not in unwritten}
    by_key = {columns_of[n]: getattr(event, n) for n in tracked.key}
    table = tracked.table
    is_row = [column == value for column, value in by_key.items()]
    session.flush()
    rows = ModelSession(session, tracking)
    values = _values_of(rows, event, restored)
    there = rows.execute(select(*by_key).where(*is_row).with_for_update()).first()
    if there is None:
        rows.execute(inserted(table, {**by_key, **values}))
    elif values := {c: v for c, v in values.items() if not is_always_identity(c)}:
        written = {c: value_to_write(c.type, value) for c, value in values.items()}
        rows.execute(update(table).where(*is_row).values(written))
    if tracking.model is None:
        return None
    # An object of a joined class may be without its row in another table yet.
    identity = identity_by_key(inspect(tracking.model), by_key)
    return session.get(tracking.model, identity, populate_existing=True)


def inserted(table: Table, values: Mapping[Column[Any], Any]) -> Insert:
    """Return an INSERT that also restores identity values that are GENERATED ALWAYS.

    :param values: the values by column of the table.
    """
    if not any(map(is_always_identity, values)):
        written = {c: value_to_write(c.type, value) for c, value in values.items()}
        return insert(table).values(written)
    # https://www.postgresql.org/docs/current/sql-insert.html
    names = [f"value_{position}" for position in range(len(values))]
    row = text(
        f"OVERRIDING SYSTEM VALUE VALUES ({', '.join(f':{name}' for name in names)})"
    ).bindparams(
        *(
            _parameter(name, column, value)
            for name, (column, value) in zip(names, values.items(), strict=True)
        )
    )
    return insert(table).from_select(list(values), row.columns())


def _parameter(name: str, column: Column[Any], value: Any) -> BindParameter[Any]:
    if value is None:
        return bindparam(name, None)  # with the type of JSON it would be null of JSON
    written = value_to_write(column.type, value)
    if isinstance(written, BindParameter):
        return bindparam(name, written.value, written.type)
    return bindparam(name, value, column.type)


def _values_of(
    rows: ModelSession, event: Any, attributes: Mapping[str, Column[Any]]
) -> dict[Column[Any], Any]:
    """Return what an event stores in columns, None for NULL.

    :param attributes: the columns of the tracked table, by attribute name.
    """
    values = {column: getattr(event, name) for name, column in attributes.items()}
    unclear = [c for c, v in values.items() if v is None and may_read_none(c.type)]
    if unclear:
        events = event.pgh_tracking.event_table
        query = select(*selected([events.c[column.name] for column in unclear], "is"))
        query = query.where(events.c.pgh_id == event.pgh_id)
        found = rows.execute(query).mappings().one()
        stored = stored_values(found, [column.name for column in unclear], "is")
        values |= {column: stored[column.name] for column in unclear}
    return values


def is_always_identity(column: Column[Any]) -> bool:
    """Return whether a column is ``GENERATED ALWAYS AS IDENTITY``."""
    return column.identity is not None and bool(column.identity.always)
