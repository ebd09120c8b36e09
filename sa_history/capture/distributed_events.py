"""Events where Citus distributes the rows: their numbers, their times, their shard.

A sequence and ``pg_current_xact_id()`` count on each node by themselves: new events of
a shard that was moved could come before its older ones, and a transaction that writes
on several nodes would have several numbers and times.

- ``pgh_id`` is the clock of the node: the milliseconds since 2020, in 41 bits, which
  last until 2089; a counter within them, in 14 bits; the node, in 8 bits. A row's
  events are numbered by the node that has its shard. After a move that is another one,
  whose clock is later, if the servers agree on the time.
- ``pgh_xact_id`` is the transaction of Citus: the microseconds since 2020 at which it
  began, in 51 bits; the node that it began on, in 8 bits; its number there, in 4 bits,
  as two can begin at once.

Citus writes an event for each row to the shard that has the row. It cannot do so from a
transition table; so once for each statement, the function that is called on a shard of
the rows writes to the shard of the events beside it, which is an ordinary table there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sa_history._types import Row
from sa_history.ddl.citus import CLOCK
from sa_history.ddl.elements import NEW_ROWS, OLD_ROWS
from sa_history.sql.compose import (
    Fragment,
    Idents,
    Joined,
    Literal,
    Qualified,
    Raw,
    RegClass,
    RowIdents,
    join,
)
from sa_history.sql.functions import refuse
from sa_history.triggers.transition_rows import pairs_with

DECLARE_NUMBERS: Final = (
    "  pgh_clock text;\n"
    "  pgh_node bigint;\n"
    "  pgh_began timestamptz;\n"
    "  pgh_transaction bigint;\n"
)
"""The variables of the statements below."""

TRANSACTION: Final = "pgh_transaction"
"""The variable that is the number of the transaction."""

_EPOCH: Final = 1577836800
"""2020 in seconds."""


def read_transaction() -> Fragment:
    """Return the statement that reads the transaction, once for each call.

    Where Citus sends a statement to one node and needs no transaction of its own, its
    number is 0, and the transaction is that of the node.
    """
    return Raw(
        "  SELECT here.groupid & 255,\n"
        "      CASE WHEN t.transaction_number = 0 THEN now()"
        " ELSE t.transaction_stamp END,\n"
        "      CASE WHEN t.transaction_number = 0\n"
        "        THEN (here.groupid & 255) << 4"
        " | (pg_current_xact_id()::text::bigint & 15)\n"
        "        ELSE (t.initiator_node_identifier & 255) << 4"
        " | (t.transaction_number & 15)\n"
        "      END\n"
        "    INTO pgh_node, pgh_began, pgh_transaction\n"
        "    FROM pg_dist_local_group AS here, get_current_transaction_id() AS t;\n"
        "  pgh_transaction := pgh_transaction"
        f" + ((EXTRACT(epoch FROM pgh_began) - {_EPOCH}) * 1000000)::bigint * 4096;\n"
    )


def current_transaction() -> str:
    """Return SQL of the number of a client's transaction on Citus, as events have it.

    Its events give it a number, so it is asked for after they were written.
    """
    return (
        "(SELECT ((t.node << 4) | (t.number & 15))"
        f" + ((EXTRACT(epoch FROM t.began) - {_EPOCH}) * 1000000)::bigint * 4096"
        " FROM (SELECT CASE WHEN transaction_number = 0"
        " THEN (SELECT groupid FROM pg_dist_local_group)"
        " ELSE initiator_node_identifier END & 255 AS node,"
        " CASE WHEN transaction_number = 0 THEN pg_current_xact_id()::text::bigint"
        " ELSE transaction_number END AS number,"
        " CASE WHEN transaction_number = 0 THEN now() ELSE transaction_stamp END"
        " AS began FROM get_current_transaction_id()) AS t)"
    )


def transactions_from(microseconds: int) -> int:
    """Return the least number of a transaction that begins at a time or after it.

    :param microseconds: the time, since 1970.
    """
    return (microseconds - _EPOCH * 1_000_000) * 4096


def read_clock() -> Fragment:
    """Return the statement that reads the clock, before each event."""
    return Raw(f"    pgh_clock := btrim({CLOCK}::text, '()');\n")


def _numbers(node: str, began: str, transaction: str) -> dict[str, Fragment]:
    return {
        "pgh_id": Raw(
            f"((split_part(pgh_clock, ',', 1)::bigint - {_EPOCH}000) << 22)"
            f" + (split_part(pgh_clock, ',', 2)::bigint << 8) + {node}"
        ),
        "pgh_created_at": Raw(began),
        "pgh_xact_id": Raw(transaction),
    }


NUMBERS: Final[Mapping[str, Fragment]] = _numbers("pgh_node", "pgh_began", TRANSACTION)
"""The columns of an event that have such values, with their SQL in the function."""

TABLE: Final = "TG_TABLE_SCHEMA, regexp_replace(TG_TABLE_NAME, '_[0-9]+$', '')"
"""The schema and the name of the table whose shard the function is called on."""

DECLARE_SHARD: Final = "  pgh_shard text;\n  pgh_rows integer;\n  pgh_event record;\n"
"""The variables of the statements below."""


@dataclass(frozen=True)
class Shards:
    """Where the events of a table are that Citus distributes.

    Citus finds the shard of a value by what it keeps in memory, in a microsecond. A
    query of its catalog takes more than 100, with a few tables.

    :param tracked: the tracked table.
    :param events: the event table.
    :param column: the column by whose value a row is in a shard, in both tables; None,
        if each has a single shard.
    """

    tracked: Qualified
    events: Qualified
    column: str | None

    def find(self, row: str) -> Fragment:
        """Return the statement that finds the shard of the event of a row.

        :param row: the row, a record of PL/pgSQL.
        """
        value = None if self.column is None else RowIdents(row, (self.column,))
        return Joined((Raw("      pgh_shard := "), self._shard(value), Raw(";\n")))

    def find_for_rows(self, row: Row) -> Fragment:
        """Return the statement that finds the shard of the events of a statement.

        One row says it of all, so it refuses tables whose shards differ. The statement
        has a row.

        :param row: the rows that the statement has: the old or the new ones.
        """
        rows = NEW_ROWS if row == "new" else OLD_ROWS
        value = None if self.column is None else Idents((self.column,))
        return Joined(
            (
                Raw("      SELECT "),
                self._shard(value),
                Raw(f" INTO pgh_shard\n        FROM {rows}\n        WHERE "),
                self._colocation(self.tracked),
                Raw(" = "),
                self._colocation(self.events),
                Raw("\n        LIMIT 1;\n      IF NOT FOUND THEN\n"),
                refuse(
                    Literal(
                        "% of %.% is refused: Citus does not keep its events together "
                        "with its rows"
                    ),
                    (Raw("TG_OP"), Raw(TABLE)),
                    "55000",
                    Literal(
                        "Have Citus distribute both tables alike; sa-history check "
                        "says what differs."
                    ),
                    indent="        ",
                ),
                Raw("      END IF;\n"),
            )
        )

    def _shard(self, value: Fragment | None) -> Fragment:
        events = RegClass(self.events)
        number = [events] if value is None else [events, value]
        return Joined(
            (
                Raw("shard_name("),
                events,
                Raw(", get_shard_id_for_distribution_column("),
                join(", ", number),
                Raw("), false)"),
            )
        )

    def _colocation(self, table: Qualified) -> Fragment:
        number = Raw(
            "(SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = "
        )
        return number + RegClass(table) + Raw(")")


def count_rows(row: Row) -> Fragment:
    """Return the statement that asks whether there is no row, one or more.

    :param row: the rows that it has: the old or the new ones.
    """
    rows = NEW_ROWS if row == "new" else OLD_ROWS
    return Raw(
        f"    SELECT count(*) INTO pgh_rows FROM (SELECT FROM {rows} LIMIT 2) AS few;\n"
    )


SHARD_NUMBERS: Final[Mapping[str, Fragment]] = _numbers("$1", "$2", "$3")
"""The same columns in an INSERT into a shard, which is given parameters."""

SHARD_TABLE: Final = "$4, $5"
"""What :data:`TABLE` is in such an INSERT."""

PARAMETERS: Final = f"pgh_node, pgh_began, {TRANSACTION}, {TABLE}"
"""The parameters."""


def numbered_rows(row: Row, is_paired: bool) -> str:
    """Return the FROM item with the rows of a statement, each with a number of its own.

    :param row: the old or the new rows.
    :param is_paired: whether both are needed.
    """
    clock = f"btrim({CLOCK}::text, '()') AS pgh_clock, "
    if is_paired:
        return pairs_with(clock)
    rows = NEW_ROWS if row == "new" else OLD_ROWS
    return f"(SELECT {clock}* FROM {rows}) AS {row.upper()}"
