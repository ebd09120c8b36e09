"""Baselines: a first event for rows that are older than their table's tracking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Insert,
    Select,
    Table,
    exists,
    func,
    insert,
    inspect,
    literal,
    literal_column,
    select,
    tuple_,
)

from sa_history._types import Op
from sa_history.capture.event_table import key_columns
from sa_history.ddl.execution import connection_of
from sa_history.definition.mapped_tables import Model
from sa_history.exc import EventsError
from sa_history.sql.session_settings import ASK_CITUS
from sa_history.tracking.distribution import refuse_distributed, refuse_elsewhere
from sa_history.tracking.events import trackings_of
from sa_history.tracking.registry import Tracking
from sa_history.util.arguments import is_number
from sa_history.writing.create_event import context_values

LABEL = "baseline"
"""The default label of the events."""


def baseline(
    bind: Engine | Connection,
    target: Model,
    *,
    events: str = "events",
    label: str = LABEL,
    batch: int = 10_000,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write a first event for each row that has no event, with the row as it is now.

    The table is read by its key, a batch of rows at a time. With an engine, each batch
    is a transaction of its own, so a call after an interruption finds what is still to
    do. The rows of a batch are locked against writers until its transaction ends.

    :param bind: an engine, or a connection, whose transaction stays open.
    :param target: a tracked class or table.
    :param events: the ``events`` option of the tracking, the attribute that has its
        events.
    :param label: the label of the events; their ``pgh_op`` is ``Op.BASELINE``.
    :param batch: the number of rows that one statement reads, at least 1.
    :param progress: called after each batch with the number of events so far; None for
        no calls.
    :return: the number of events that were written.
    :raises EventsError: the target is not tracked or has no primary key, a batch has
        no row, or the bind is neither an engine nor a connection.
    :raises DialectError: the database is not PostgreSQL.
    :raises DistributionError: Citus has the events on another node.

    Example::

        baseline(engine, Account, progress=print)
    """
    if not is_number(batch, 1):
        raise EventsError(
            f"a batch has one row at least, got batch={batch!r}; give a number of rows"
        )
    tracking = _tracking(target, events)
    refuse_distributed(tracking, "baseline")
    columns = tracking.tracked_columns
    key = columns.columns_of_key
    written = 0
    after: tuple[Any, ...] | None = None
    while True:
        with connection_of(bind, EventsError) as connection:
            row = connection.execute(_end_of_batch(key, after, batch)).first()
            last = None if row is None else tuple(row)
            statement = baseline_insert(tracking, label, *_between(key, after, last))
            # SQLAlchemy keeps no rowcount of an INSERT.
            made = statement.returning(literal_column("1")).cte()
            citus: ColumnElement[Any] = literal_column(ASK_CITUS)
            count = select(func.count(), citus).select_from(made)
            made_now, has_citus = connection.execute(count).one()
            if has_citus:
                refuse_elsewhere(tracking, connection, "baseline")
            written += int(made_now)
        if progress is not None:
            progress(written)
        if last is None:
            return written
        after = last


def baseline_insert(
    tracking: Tracking,
    label: str,
    *where: ColumnElement[bool],
    limit: int | None = None,
) -> Insert:
    """Return the INSERT of first events for rows that have none.

    :param label: the label of the events.
    :param where: criteria of the rows, all of which a row has to meet.
    :param limit: the greatest number of rows; None for all.
    """
    columns, table = tracking.tracked_columns, tracking.table
    key = columns.columns_of_key
    values: dict[str, ColumnElement[Any]] = {
        "pgh_label": literal(label),
        "pgh_op": literal(Op.BASELINE.value),
    }
    if columns.object_id:
        values[columns.object_id] = key[0]
    for name in columns.stored:
        values[columns.column_name(name)] = columns.by_attribute[name]
    values.update(context_values(tracking))
    rows = (
        select(*values.values())
        .where(~_has_event(tracking), *where)
        .order_by(*key)
        .limit(limit)
        # Wait for uncommitted changes, whose events would come before the baseline.
        .with_for_update(read=True, of=table)
    )
    return insert(tracking.event_table).from_select(list(values), rows)


def rows_without_events(
    bind: Engine | Connection, target: Model, *, events: str = "events"
) -> int:
    """Return the number of rows that :func:`baseline` has an event to write for.

    PostgreSQL reads the table and its events for it.

    :param bind: as for :func:`baseline`, and so are the other parameters.
    :raises EventsError: as :func:`baseline` does.
    :raises DialectError: the database is not PostgreSQL.

    Example::

        rows_without_events(engine, Account)
    """
    tracking = _tracking(target, events)
    rows = select(func.count()).select_from(tracking.table)
    with connection_of(bind, EventsError) as connection:
        return connection.execute(rows.where(~_has_event(tracking))).scalar_one()


def _has_event(tracking: Tracking) -> ColumnElement[bool]:
    """Return the criterion of rows that have an event."""
    columns = tracking.tracked_columns
    event_key = key_columns(columns, tracking.event_table)
    key = columns.columns_of_key
    return exists().where(
        *(event == own for event, own in zip(event_key, key, strict=True))
    )


def _tracking(target: Any, events: str) -> Tracking:
    if not isinstance(target, (type, Table)):
        raise EventsError(f"baseline takes a tracked class or table, got {target!r}")
    if isinstance(target, type) and inspect(target, raiseerr=False) is None:
        raise EventsError(
            f"baseline takes one tracked class or table, got {target!r}, which is not "
            "mapped; call it for each, or run sa-history baseline, which takes a base"
        )
    for tracking in trackings_of(target):
        if tracking.options.events == events:
            if not tracking.tracked_columns.key:
                raise EventsError(
                    f"{tracking.subject} has no primary key, so its rows cannot be "
                    "told apart"
                )
            return tracking
    raise EventsError(
        f"{target!r} has no events named {events!r}; see track(events=...)"
    )


def _end_of_batch(
    key: list[Any], after: tuple[Any, ...] | None, batch: int
) -> Select[Any]:
    """Return a SELECT of the key that a batch ends with; no row for the last batch.

    It locks the rows of the batch. The next statement then sees the events of all
    transactions that have written them. A statement that locks and looks for events at
    once would not: it looks with a snapshot from before it waited for the lock.

    :param after: the key that the batch before ended with, None for the first batch.
    """
    table = key[0].table
    rows = (
        select(*key)
        .where(*_between(key, after, None))
        .order_by(*key)
        .limit(batch)
        .with_for_update(read=True, of=table)
        .subquery()
    )
    return select(rows).order_by(*rows.c).offset(batch - 1).limit(1)


def _between(
    key: list[Any], after: tuple[Any, ...] | None, last: tuple[Any, ...] | None
) -> list[ColumnElement[bool]]:
    """Return the criteria of keys after one key, up to another; None for no bound."""
    types = [column.type for column in key]
    bounds = []
    if after is not None:
        bounds.append(tuple_(*key) > tuple_(*map(literal, after, types)))
    if last is not None:
        bounds.append(tuple_(*key) <= tuple_(*map(literal, last, types)))
    return bounds
