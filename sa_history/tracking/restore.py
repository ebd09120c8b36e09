"""A row, made what it was in an event."""

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


def restore(session: Session, event: Any, columns: Sequence[str] | None) -> Any:
    """Restore the row of an event, and return its object, None of a Core table.

    :param columns: the attributes to restore; None for all.
    :raises EventsError: the event does not store an attribute, or its row has no key.
    """
    recorded = event.pgh_recorded
    if isinstance(columns, str):
        raise EventsError(f"columns is a list of names, got {columns!r}")
    wanted = recorded.columns.stored if columns is None else tuple(columns)
    missing = [name for name in wanted if name not in recorded.stored(event)]
    if missing:
        raise EventsError(
            f"{event!r} does not store {', '.join(missing)}; give columns=[...] of "
            f"{', '.join(recorded.stored(event))}"
        )
    if not recorded.columns.key:
        raise EventsError(
            f"{recorded.columns.subject} has no primary key, so the row of {event!r} "
            "cannot be told from others"
        )
    columns_of = recorded.columns.by_attribute
    unwritten = {*recorded.columns.generated, *recorded.columns.key}
    values = {columns_of[n]: getattr(event, n) for n in wanted if n not in unwritten}
    key = {name: getattr(event, name) for name in recorded.columns.key}
    by_key = {columns_of[name]: value for name, value in key.items()}
    table = recorded.columns.table
    is_row = [column == value for column, value in by_key.items()]
    session.flush()
    there = session.execute(select(*by_key).where(*is_row).with_for_update()).first()
    if there is None:
        session.execute(inserted(table, {**by_key, **values}))
    elif values := {c: v for c, v in values.items() if not is_always_identity(c)}:
        session.execute(update(table).where(*is_row).values(values))
    if recorded.model is None:
        return None
    # An object of a joined class may be without its row in another table yet.
    return session.get(
        recorded.model, _identity(recorded.model, key), populate_existing=True
    )


def inserted(table: Table, values: Mapping[Column[Any], Any]) -> Insert:
    """Return an INSERT of a row as it was, also of what the database would count."""
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
    """Return whether a column is GENERATED ALWAYS AS IDENTITY."""
    return column.identity is not None and bool(column.identity.always)


def _identity(model: type[Any], key: Mapping[str, Any]) -> tuple[Any, ...]:
    mapper: Mapper[Any] = inspect(model)
    return tuple(key[mapper.get_property_by_column(c).key] for c in mapper.primary_key)
