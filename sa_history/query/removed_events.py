"""What is not known any more, since partitions with old events were removed."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import Connection, cast, column, func, select, types
from sqlalchemy.dialects.postgresql import REGCLASS

from sa_history.capture.partitioning import Horizon
from sa_history.exc import EventsRemovedError
from sa_history.sql.compose import quote_ident
from sa_history.tracking.completeness import missing_operations
from sa_history.tracking.registry import Tracking


def read_horizon(connection: Connection, tracking: Tracking) -> Horizon | None:
    """Return how far back the events of a partitioned table were removed.

    :return: None if none were.
    """
    events = tracking.event_table
    schema = connection.schema_for_object(events)
    # Not as the dialect quotes, which writes a % twice for the text of a statement.
    name = ".".join(quote_ident(part) for part in (schema, events.name) if part)
    # Not by a SELECT of the catalog, which a session of the past refuses.
    tree: Any = func.pg_partition_tree(cast(func.to_regclass(name), REGCLASS))
    partitions = tree.table_valued(column("relid", types.Integer))
    comments = select(func.obj_description(partitions.c.relid, "pg_class"))
    found = map(Horizon.of_comment, connection.scalars(comments))
    return next((horizon for horizon in found if horizon is not None), None)


def require_version(
    connection: Connection, tracking: Tracking, at: int | datetime.datetime
) -> None:
    """Refuse to say that a row did not exist where its events may have been removed.

    :param at: the number of an event, or a time, by which the row has no event.
    :raises EventsRemovedError: names the table, and until when.
    """
    if tracking.options.partition_by is None:
        return
    horizon = read_horizon(connection, tracking)
    if horizon is None:
        return
    is_before = at < horizon.first_id if isinstance(at, int) else at < horizon.until
    is_kept = horizon.keeps_last and not missing_operations(tracking)
    if is_before or not is_kept:
        raise EventsRemovedError(
            f"the events of {tracking.table.name!r} until {horizon.until} were "
            "removed, so what the row was then is not known",
            f"give a later time{horizon.archive_hint}",
        )
