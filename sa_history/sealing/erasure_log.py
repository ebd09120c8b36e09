"""The log of erasures: what was erased or removed from history, when and why."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Text, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert

from sa_history.sealing.sources import Ledger, SealedTable, ledger_of
from sa_history.tracking.event_keys import have_key
from sa_history.tracking.registry import Tracking


@dataclass(frozen=True)
class LoggedErasure:
    """An erasure of an object, as the log has it.

    :param number: its number in the log.
    :param erased_at: when it was.
    :param events: how many events of the object it has erased first.
    """

    number: int
    erased_at: datetime.datetime
    events: int


def erasures_of(
    connection: Connection, tracking: Tracking, key: Sequence[Any]
) -> list[LoggedErasure]:
    """Return the erasures of the events that have a key, in their order.

    :param key: the values of the key, in its order.
    """
    ledger = ledger_of(connection, tracking.table.metadata)
    events = ledger.place(tracking.event_table)
    erased = ledger.place(ledger.tables.erased)
    log = ledger.place(ledger.tables.erasure)
    name = tracking.event_table.fullname
    number = SealedTable.of(tracking).number
    numbers = select(sql_cast(number(events.c.pgh_id), Text)).where(
        *have_key(tracking, events, key)
    )
    query = (
        select(log.c.id, log.c.erased_at, func.count())
        .join(erased, erased.c.erasure_id == log.c.id)
        .where(erased.c.table_name == name, erased.c.id.in_(numbers))
        .group_by(log.c.id, log.c.erased_at)
        .order_by(log.c.id)
    )
    return [LoggedErasure(*row) for row in connection.execute(query)]


def add_to_log(ledger: Ledger, **values: Any) -> int:
    """Add a row to the log of erasures, and return its number.

    Whoever adds one has the lock of who seals, so no number is given twice.
    """
    log = ledger.place(ledger.tables.erasure)
    next_number = select(func.coalesce(func.max(log.c.id), 0) + 1).scalar_subquery()
    statement = insert(log).values({"id": next_number, **values}).returning(log.c.id)
    number: int = ledger.connection.execute(statement).scalar_one()
    return number


def insert_erased(erased: Any, rows: Any) -> Any:
    """Return the INSERT of what is erased; a commitment is never replaced."""
    statement = insert(erased).from_select(
        ["table_name", "id", "erasure_id", "columns", "commitment"], rows
    )
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["table_name", "id"],
        set_={
            "columns": new.columns,
            "commitment": func.coalesce(erased.c.commitment, new.commitment),
        },
    )
