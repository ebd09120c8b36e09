"""Numbers and times of events that hold on all nodes of Citus.

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
"""

from __future__ import annotations

from typing import Final

from sa_history.ddl.citus import CLOCK
from sa_history.sql.compose import Fragment, Raw

DECLARE_NUMBERS: Final = (
    "  pgh_clock text;\n"
    "  pgh_node bigint;\n"
    "  pgh_began timestamptz;\n"
    "  pgh_transaction bigint;\n"
)
"""The variables of the statements below."""

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


def read_clock() -> Fragment:
    """Return the statement that reads the clock, before each event."""
    return Raw(f"    pgh_clock := btrim({CLOCK}::text, '()');\n")


NUMBERS: Final[tuple[tuple[str, Fragment], ...]] = (
    (
        "pgh_id",
        Raw(
            f"((split_part(pgh_clock, ',', 1)::bigint - {_EPOCH}000) << 22)"
            " + (split_part(pgh_clock, ',', 2)::bigint << 8) + pgh_node"
        ),
    ),
    ("pgh_created_at", Raw("pgh_began")),
    ("pgh_xact_id", Raw("pgh_transaction")),
)
"""The columns of an event that have such values, with their SQL."""
