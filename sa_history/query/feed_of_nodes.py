"""Which transactions have ended on all nodes of Citus, for the feed.

The nodes have no snapshot in common. But the number of a transaction is the time at
which it began, so a page may go up to the time before which all that began have ended.
All nodes are asked first for their sessions that are in a transaction, and the events
are read after that. A transaction of which none has told has ended, and its events are
seen; or it has begun later.

The session that gave a statement is in its transaction until the nodes have committed
it. If it ends before that, as when its server stops, its parts wait on the nodes as
prepared transactions, until Citus commits them or rolls them back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from sa_history.capture.distributed_events import transactions_from
from sa_history.exc import EventsError
from sa_history.query.pages import PageReader
from sa_history.sql.catalog_queries import (
    COMMAND_ON_NODES,
    COORDINATOR,
    PREPARED_ON_NODE,
    SESSIONS_ON_NODE,
)
from sa_history.tracking.databases import ModelSession

HORIZON = "page_horizon"
"""The name of the parameter below whose value all transactions have ended."""

_MARGIN = 1_000_000
"""Microseconds by which the feed stays behind the nodes.

A session knows the time at which its transaction begins some microseconds before others
can see that it is in one.
"""


@dataclass(frozen=True, eq=False)
class NodesFeedReader:
    """A page of the feed of tables that Citus has, on whichever nodes.

    :param reader: reads the page, with the parameter :data:`HORIZON`.
    """

    reader: PageReader

    def read(self, session: Session) -> list[Row[Any]]:
        """Return the rows; none while it is unknown which transactions have ended."""
        asked = ModelSession(session, self.reader.sources[0].tracking)
        horizon = _horizon(asked)
        if horizon is None:
            return []
        values = {**self.reader.values, HORIZON: horizon}
        return replace(self.reader, values=values).read(session)


def _horizon(session: ModelSession) -> int | None:
    """Return the number below which all transactions have ended.

    :return: None while a prepared transaction waits for Citus to end it.
    """
    nodes = _ask(session, SESSIONS_ON_NODE)
    # In this order: a session that ends in between leaves what is prepared to be seen.
    for node, answer in _ask(session, PREPARED_ON_NODE).items():
        for initiator, pid, since in answer["prepared"]:
            sessions = nodes[initiator]["sessions"] if initiator in nodes else {}
            is_in_session = sessions.get(str(pid), since) < since
            if not is_in_session and (node not in nodes or since < nodes[node]["now"]):
                return None
    began = (time for answer in nodes.values() for time in answer["sessions"].values())
    return transactions_from(min(began) - _MARGIN)


def _ask(session: ModelSession, command: str) -> dict[int, Any]:
    """Return what each node says, by its number.

    :raises EventsError: it may not be all that there is.
    """
    rows = session.execute(text(COMMAND_ON_NODES).bindparams(command=command)).all()
    for row in rows:
        if row.isolation != "read committed":
            raise EventsError(
                "feed_page asks the nodes of Citus which transactions have ended, and "
                f"reads events after that; the session is in {row.isolation!r}, and "
                'sees what was before; give isolation_level="READ COMMITTED"'
            )
        if not row.sees_all:
            raise EventsError(
                "feed_page has to see the sessions of all roles, to know which "
                "transactions have ended on the nodes of Citus; GRANT "
                "pg_read_all_stats to the role of the session"
            )
        if not row.success:
            raise EventsError(
                "feed_page has to know which transactions have ended on all nodes of "
                f"Citus, and node {row.nodeid} does not answer: {row.result}"
            )
    answers = [json.loads(row.result) for row in rows]
    found = {answer["node"]: answer for answer in answers}
    if COORDINATOR not in found:
        raise EventsError(
            "feed_page has to ask all nodes of Citus which transactions have ended, "
            "but they do not know the coordinator; run citus_set_coordinator_host()"
        )
    return found
