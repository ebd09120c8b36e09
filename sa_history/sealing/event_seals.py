"""The seals of single events, for who looks at events one by one."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ARRAY, BigInteger, Connection, MetaData, bindparam, func, select
from sqlalchemy import cast as sql_cast

from sa_history.capture.partitioning import FIRST_ID, KEPT_OFFSET
from sa_history.capture.seal_tables import seal_tables_of
from sa_history.ddl.execution import may_read, schema_names
from sa_history.sealing.chain import Seal, seal_of_row
from sa_history.sealing.sources import Ledger
from sa_history.sql.compose import Qualified
from sa_history.tracking.registry import Tracking, history_of


def seals_of_events(
    connection: Connection,
    metadata: MetaData,
    tracking: Tracking,
    numbers: Collection[int],
) -> dict[int, Seal | None] | None:
    """Return the seals of some events of a table, by the numbers of the events.

    It says by the numbers alone that an event is sealed, and verifies nothing.

    :param numbers: the numbers of the events, their ``pgh_id``.
    :return: None for an event that is not sealed yet. None for all, if the table is not
        sealed, or the connection cannot read the seals.
    """
    history, tables = history_of(metadata), seal_tables_of(metadata)
    if history is None or tables is None or not tracking.options.sealed:
        return None
    ledger = Ledger(connection, history, tables, schema_names(connection))
    if not may_read(connection, Qualified.of(tables.seal, ledger.schemas)):
        return None
    sealed_as = {number: sealed_number(tracking, number) for number in numbers}
    seals = ledger.place(tables.seal)
    given = bindparam(None, [*sealed_as.values()], ARRAY(BigInteger))
    one = func.unnest(sql_cast(given, ARRAY(BigInteger))).column_valued("number")
    has_one = select(one).where(one.between(seals.c.first_id, seals.c.last_id)).exists()
    query = select(seals).where(
        seals.c.table_name == tracking.event_table.fullname, has_one
    )
    found = [seal_of_row(row) for row in connection.execute(query)]
    return {
        number: next((s for s in found if s.first_id <= known <= s.last_id), None)
        for number, known in sealed_as.items()
    }


def sealed_number(tracking: Tracking, number: int) -> int:
    """Return the number that an event was sealed with.

    That of an event which is kept when others are removed was lowered.

    :param number: the number that it has now.
    """
    if tracking.options.partition_by is not None and number < FIRST_ID:
        return number + KEPT_OFFSET
    return number
