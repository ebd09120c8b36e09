"""Where Citus has the tables of a tracking, and whether its events are right there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table

from sa_history.ddl.citus import (
    Placement,
    placements_in_run,
    recording_problem,
    refuse,
)
from sa_history.exc import DistributionError
from sa_history.sql.compose import Qualified
from sa_history.tracking.registry import Tracking


def tables_written(tracking: Tracking) -> dict[str, Table]:
    """Return the tables of a tracking, by what they are called in messages.

    :return: the tracked table first, then those that its triggers write to.
    """
    tables = {"table": tracking.table, "event table": tracking.event_table}
    if tracking.options.context == "reference":
        tables["context table"] = tracking.history.shared.context_table
    return tables


def problem_of(
    tracking: Tracking, tables: Mapping[str, tuple[Qualified, Placement]]
) -> str | None:
    """Return why the events of a tracking may not be right; None if they are.

    :param tables: where the tables of :func:`tables_written` are.
    """
    by_statement = bool(tracking.statement_operations)
    return recording_problem(tables, by_statement, tracking.options.append_only)


def refuse_distribution(
    tracking: Tracking, connection: Connection, memo: dict[str, Any]
) -> None:
    """Refuse to record a table that Citus distributes in a way that is not supported.

    :param memo: the memo of the run of ``create_all``.
    :raises DistributionError: says how it is distributed, and what to do.
    """
    tables = tables_written(tracking)
    found = placements_in_run(connection, tables.values(), memo)
    if found:
        placements = {called: found[table] for called, table in tables.items()}
        refuse(problem_of(tracking, placements))


def refuse_elsewhere(tracking: Tracking, connection: Connection, what: str) -> None:
    """Refuse to write an event by a statement where Citus has the table elsewhere.

    Citus numbers it before it sends it to the node that has the table, which numbers
    the events of triggers by itself.

    :param what: what writes the event, for the message.
    :raises DistributionError: names the event table.
    """
    found = placements_in_run(connection, [tracking.event_table], {})
    for name, placement in found.values():
        if not placement.is_local:
            raise DistributionError(
                f"{what} cannot write events of {name.schema}.{name.name}, which is "
                f"{placement.distribution.value} of Citus: they would have numbers of "
                "another node, and be in a wrong order; let triggers write them"
            )
