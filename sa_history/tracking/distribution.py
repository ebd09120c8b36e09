"""Where Citus has the tables of a tracking, and whether its events are right there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Table,
    Text,
    func,
    literal_column,
)
from sqlalchemy import cast as sql_cast

from sa_history.capture import distributed_events
from sa_history.ddl.citus import (
    LOCAL,
    Placement,
    distribute,
    distribution_problem,
    placements_in_run,
    recording_problem,
    refuse,
    sharded_schema_problem,
)
from sa_history.ddl.execution import (
    REFUSE_TRIGGERS,
    SEQUENTIAL,
    execute_statements,
    server_in_run,
)
from sa_history.exc import DistributionError
from sa_history.sql.compose import Qualified, Raw
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
    if tracking.distributed_by is not None:
        return distribution_problem(tables, tracking.distributed_by)
    if tracking.is_distributed:
        return sharded_schema_problem(tables)
    return recording_problem(tables)


def distribute_tables(
    tracking: Tracking, connection: Connection, memo: dict[str, Any]
) -> None:
    """Have Citus distribute a table and its events, as the tracking says.

    :param memo: the memo of the run of ``create_all``.
    :raises DistributionError: the database has no Citus.
    """
    if not tracking.is_distributed:
        return
    column, server = tracking.distributed_by, server_in_run(connection, memo)
    tables = (tracking.table, tracking.event_table)
    if isinstance(connection, Connection) and not server.has_citus:
        refuse(
            f"track(distribute={tracking.options.distribute!r}) of {tracking.subject} "
            "needs a database with Citus; run CREATE EXTENSION citus, or leave "
            "distribute out"
        )
    if column is None:  # a sharded schema distributes all that is created in it
        return
    found = placements_in_run(connection, tables, memo) or {
        table: (Qualified(table.schema, table.name), LOCAL)
        for table in tables  # of a mock connection, which prints all of DDL
    }
    tracked, events = (found[table] for table in tables)
    statements = distribute(tracked, events, column)
    if statements and server.has_citus:
        # Citus refuses a table that has triggers then, which might record the copying.
        statements = [Raw(SEQUENTIAL), Raw(REFUSE_TRIGGERS), *statements]
    execute_statements(connection, statements, memo)


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


def current_transaction(trackings: Iterable[Tracking]) -> ColumnElement[int]:
    """Return the number that the events of the session's transaction have.

    :param trackings: those whose events are meant. If Citus has any of them, it is the
        number that all nodes know.
    """
    if any(tracking.is_distributed for tracking in trackings):
        return literal_column(distributed_events.current_transaction(), BigInteger)
    return sql_cast(sql_cast(func.pg_current_xact_id(), Text), BigInteger)


def refuse_distributed(tracking: Tracking, what: str) -> None:
    """Refuse to write an event by a statement where only triggers number events.

    :param what: what writes the event, for the message.
    :raises DistributionError: Citus has the events.
    """
    if tracking.is_distributed:
        raise DistributionError(
            f"{what} cannot write events of {tracking.subject}, which has "
            f"distribute={tracking.options.distribute!r}: only triggers know the "
            "numbers that hold on all nodes of Citus; let them write the events"
        )


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
                f"{what} cannot write events of {name.dotted}, which is "
                f"{placement.distribution.value} of Citus: they would have numbers of "
                "another node, and be in a wrong order; let triggers write them"
            )
