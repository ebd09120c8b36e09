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
from typing import Final

from sa_history._types import Row
from sa_history.ddl.citus import CLOCK
from sa_history.ddl.elements import NEW_ROWS, OLD_ROWS
from sa_history.sql.compose import Fragment, Joined, Qualified, Raw, RegClass
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


def find_shard(events: Qualified) -> Fragment:
    """Return the statement that finds the shard of the events beside a shard of rows.

    :param events: the event table.
    """
    return Joined(
        (
            Raw("    SELECT shard_name("),
            RegClass(events),
            Raw(
                ", beside.shardid, false) INTO STRICT pgh_shard\n"
                "      FROM pg_dist_shard AS here JOIN pg_dist_shard AS beside"
                " ON beside.shardminvalue IS NOT DISTINCT FROM here.shardminvalue\n"
                "      WHERE here.shardid ="
                " substring(TG_TABLE_NAME FROM '[0-9]+$')::bigint\n"
                "        AND beside.logicalrelid = "
            ),
            RegClass(events),
            Raw(";\n"),
        )
    )


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
