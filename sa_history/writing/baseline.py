"""A first event for rows that were there before their table was tracked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    literal,
    literal_column,
    select,
    tuple_,
)

from sa_history._types import Op
from sa_history.capture.event_table import key_columns
from sa_history.ddl.execution import begin, require_postgresql
from sa_history.exc import EventsError
from sa_history.tracking.events import trackings_of
from sa_history.tracking.registry import Tracking
from sa_history.writing.create_event import context_values

LABEL = "baseline"
"""The label of such events, where no other is given."""


def baseline(
    bind: Engine | Connection,
    target: type[Any] | Table,
    *,
    events: str = "events",
    label: str = LABEL,
    batch: int = 10_000,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Give each row that has no event yet its first one, with the row as it is.

    It goes through the table by its key, a batch of rows at a time. With an engine each
    batch is a transaction of its own, and after an interruption the next call goes on
    where it was. A row that has an event of any kind is left out. Writers of the rows
    of a batch wait until it is done, and it waits for them.

    :param bind: an engine, or a connection, whose transaction stays open.
    :param target: a tracked class or table.
    :param events: the attribute of the tracking.
    :param label: the label of the events; their ``pgh_op`` is ``Op.BASELINE``.
    :param batch: the number of rows that are looked at in one statement.
    :param progress: called after each batch, with the number of events so far.
    :return: the number of events.
    :raises EventsError: the target is not tracked, or has no key, or a batch is empty.

    Example::

        baseline(engine, Account, progress=print)
    """
    if batch < 1:
        raise EventsError(f"a batch has one row at least, got batch={batch!r}")
    tracking = _tracking(target, events)
    columns = tracking.tracked_columns
    key = [columns.by_attribute[name] for name in columns.key]
    written = 0
    after: tuple[Any, ...] | None = None
    while True:
        with _transaction(bind) as connection:
            row = connection.execute(_end_of_batch(key, after, batch)).first()
            last = None if row is None else tuple(row)
            statement = baseline_insert(tracking, label, *_between(key, after, last))
            # SQLAlchemy keeps no rowcount of an INSERT.
            made = statement.returning(literal_column("1")).cte()
            made_now = connection.scalar(select(func.count()).select_from(made))
            written += made_now or 0
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
    """Return the INSERT of the first events of rows that have none.

    :param where: which rows.
    :param limit: how many at most.
    """
    columns, table = tracking.tracked_columns, tracking.table
    event_key = key_columns(columns, tracking.event_table)
    key = [columns.by_attribute[name] for name in columns.key]
    values: dict[str, ColumnElement[Any]] = {
        "pgh_label": literal(label),
        "pgh_op": literal(Op.BASELINE.value),
    }
    if columns.object_id:
        values[columns.object_id] = key[0]
    for name in columns.stored:
        values[columns.column_name(name)] = columns.by_attribute[name]
    values.update(context_values(tracking))
    known = exists().where(
        *(event == own for event, own in zip(event_key, key, strict=True))
    )
    rows = (
        select(*values.values())
        .where(~known, *where)
        .order_by(*key)
        .limit(limit)
        # A change that is not committed yet shall not come before the baseline.
        .with_for_update(read=True, of=table)
    )
    return insert(tracking.event_table).from_select(list(values), rows)


def _tracking(target: Any, events: str) -> Tracking:
    for tracking in trackings_of(target):
        if tracking.options.events == events:
            if not tracking.tracked_columns.key:
                raise EventsError(
                    f"{tracking.subject} has no primary key, so its rows cannot be "
                    "told apart"
                )
            return tracking
    raise EventsError(f"{target!r} has no events named {events!r}")


@contextmanager
def _transaction(bind: Engine | Connection) -> Iterator[Connection]:
    if isinstance(bind, Connection):
        require_postgresql(bind)
        yield bind
    elif isinstance(bind, Engine):
        with begin(bind) as connection:
            yield connection
    else:
        raise EventsError(
            f"bind is an engine or a connection, got {bind!r}; of an async engine, "
            "await connection.run_sync(...)"
        )


def _end_of_batch(
    key: list[Any], after: tuple[Any, ...] | None, batch: int
) -> Select[Any]:
    """Return the query of the key that a batch ends with; none for the last one.

    It locks the rows, so that the next statement sees the events of all who have
    written them: one that locks while it looks does not.
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
    types = [column.type for column in key]
    bounds = []
    if after is not None:
        bounds.append(tuple_(*key) > tuple_(*map(literal, after, types)))
    if last is not None:
        bounds.append(tuple_(*key) <= tuple_(*map(literal, last, types)))
    return bounds
