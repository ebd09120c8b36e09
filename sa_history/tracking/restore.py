"""Restoring a row: its table's columns get the values that an event stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    Insert,
    Table,
    Text,
    bindparam,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.orm import Session

from sa_history.exc import EventsError
from sa_history.sql.column_types import is_read_exactly
from sa_history.sql.expressions import overriding_system_value
from sa_history.tracking.added_columns import AddedColumns
from sa_history.tracking.completeness import stored_attributes
from sa_history.tracking.databases import ModelSession
from sa_history.tracking.erased import erased_from
from sa_history.tracking.identity import identity_by_key
from sa_history.tracking.registry import Tracking
from sa_history.tracking.stored_values import (
    Image,
    StoredRow,
    may_be_infinity,
    selected,
    stored_values,
    value_to_write,
)
from sa_history.tracking.version_counters import (
    update_of_inherited_counter,
    version_counters,
)


def restore(session: Session, event: Any, columns: Sequence[str] | None) -> Any:
    """Write the values of an event into its row, and return its object.

    :param columns: the attributes to restore; all, if None.
    :return: the object of the row, or None for a row of a Core table.
    :raises EventsError: the event does not store an attribute, its table has no primary
        key, or the row is written and Python cannot read it.
    """
    by_key = restore_row(session, event, columns)
    model = event.pgh_tracking.model
    if model is None:
        return None
    # An object of a joined class may be without its row in another table yet.
    identity = identity_by_key(inspect(model), by_key)
    try:
        return session.get(model, identity, populate_existing=True)
    except (ValueError, RecursionError) as error:
        raise EventsError(
            f"the row of {event!r} is written, but {model.__name__} cannot be loaded "
            f"with it: {error}; commit or roll back"
        ) from error


def restore_row(
    session: Session, event: Any, columns: Sequence[str] | None
) -> Mapping[Column[Any], Any]:
    """Write the values of an event into its row.

    :param columns: the attributes to restore; all, if None.
    :return: the values of the row's key.
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
            f"{event!r} does not store {', '.join(missing)}",
            f"give columns=[...] of {', '.join(stored)}",
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
    session.flush()
    rows = ModelSession(session, tracking)
    values = _values_of(rows, event, restored)
    unknown = [n for n, column in restored.items() if column not in values]
    if columns is not None and unknown:
        raise EventsError(
            f"{event!r} does not store {', '.join(unknown)}, which the table did not "
            "have at that time, or which was erased; leave it out of columns=[...]"
        )
    write_row(rows, tracking, by_key, values)
    return by_key


def write_row(
    rows: ModelSession,
    tracking: Tracking,
    key: Mapping[Column[Any], Any],
    values: Mapping[Column[Any], Any],
    *,
    insert_if_missing: bool = True,
) -> None:
    """Update the row that has a key, or insert it.

    :param rows: the session that writes it.
    :param key: the key that the row has now, or is inserted with, in the key's order.
    :param values: the values to write, as ``StoredRow.to_write`` has them; those of
        generated columns and of version counters are left to these.
    :param insert_if_missing: whether to insert the row if there is none.
    :raises EventsError: there is none, and a value that it needs was erased.
    """
    table, counters = tracking.table, version_counters(tracking)
    counted = {counter.column for counter in counters}
    written = {
        c: v for c, v in values.items() if c.computed is None and c not in counted
    }
    is_row = [column == value for column, value in key.items()]
    query = select(*key, *(counter.column for counter in counters))
    there = rows.execute(query.where(*is_row).with_for_update(of=table)).first()
    if there is not None:
        written = {c: v for c, v in written.items() if not is_always_identity(c)}
        for counter, version in zip(counters, there[len(key) :], strict=True):
            written |= counter.values_of_update(version)
        if written:
            sent = {c: value_to_write(c.type, value) for c, value in written.items()}
            rows.execute(update(table).where(*is_row).values(sent))
        count_on = update_of_inherited_counter(rows, tracking, key)
        if count_on is not None:
            rows.execute(count_on)
    elif insert_if_missing:
        for counter in counters:
            version = values.get(counter.column)
            written |= counter.values_of_insert(rows, tracking, key, version)
        inserted_key = {c: v for c, v in key.items() if c.computed is None}
        _require_unerased(tracking, {**inserted_key, **written})
        rows.execute(inserted(table, {**inserted_key, **written}))


def _require_unerased(tracking: Tracking, values: Mapping[Column[Any], Any]) -> None:
    """Refuse to insert a row that lacks an erased value which it has to have.

    :raises EventsError: it lacks one.
    """
    columns = tracking.tracked_columns.by_attribute
    missing = [
        name
        for name in tracking.options.erasable
        for column in [columns[name]]
        if not column.nullable
        and column not in values
        and (column.default, column.server_default) == (None, None)
    ]
    if missing:
        raise EventsError(
            f"a row of {tracking.subject} cannot be inserted again, since its "
            f"{', '.join(missing)} was erased from its events; insert it yourself"
        )


def inserted(table: Table, values: Mapping[Column[Any], Any]) -> Insert:
    """Return an INSERT that also restores identity values that are GENERATED ALWAYS.

    :param values: the values by column of the table.
    """
    if not any(map(is_always_identity, values)):
        written = {c: value_to_write(c.type, value) for c, value in values.items()}
        return insert(table).values(written)
    # https://www.postgresql.org/docs/current/sql-insert.html
    parameters = [
        _parameter(f"value_{position}", column, value)
        for position, (column, value) in enumerate(values.items())
    ]
    casts = {
        parameter.key: column.type if isinstance(value, Image) else None
        for parameter, (column, value) in zip(parameters, values.items(), strict=True)
    }
    row = overriding_system_value(casts).bindparams(*parameters)
    return insert(table).from_select(list(values), row.columns())


def _parameter(name: str, column: Column[Any], value: Any) -> BindParameter[Any]:
    if value is None:
        return bindparam(name, None)  # with the type of JSON it would be null of JSON
    if isinstance(value, Image):
        return bindparam(name, value.text, Text)
    return bindparam(name, value, column.type)


def _values_of(
    rows: ModelSession, event: Any, attributes: Mapping[str, Column[Any]]
) -> dict[Column[Any], Any]:
    """Return what an event stores in columns, as ``StoredRow.to_write`` has it.

    Columns that were added after the event are left out, and so is what was erased.

    :param attributes: the columns of the tracked table, by attribute name.
    """
    inexact = [
        column
        for name, column in attributes.items()
        if not is_read_exactly(column.type) or may_be_infinity(getattr(event, name))
    ]
    stored = StoredRow({}, {})
    if inexact:
        events = event.pgh_tracking.event_table
        columns = [events.c[column.name] for column in inexact]
        query = select(*selected(columns, "is")).where(events.c.pgh_id == event.pgh_id)
        found = rows.execute(query).mappings().one()
        stored = stored_values(found, [column.name for column in inexact], "is")
    row = StoredRow(
        {
            # Not to load what is deferred, since Python may not be able to read it.
            column.name: stored[column.name]
            if column.name in stored
            else getattr(event, name)
            for name, column in attributes.items()
        },
        stored.images,
    )
    unknown = AddedColumns(rows, event.pgh_tracking).unknown(event.pgh_id, row)
    unknown |= {attributes[name].name for name in erased_from(event) & {*attributes}}
    return {
        column: row.to_write(column.name)
        for column in attributes.values()
        if column.name not in unknown
    }


def is_always_identity(column: Column[Any]) -> bool:
    """Return whether a column is ``GENERATED ALWAYS AS IDENTITY``."""
    return column.identity is not None and bool(column.identity.always)
