"""What is not known any more, since partitions with old events were removed."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Text,
    cast,
    column,
    func,
    literal,
    select,
    true,
    types,
)
from sqlalchemy.dialects.postgresql import REGCLASS

from sa_history.capture.partitioning import Horizon
from sa_history.contexts.frame import time_of_id
from sa_history.exc import EventsRemovedError
from sa_history.sql.compose import quote_ident
from sa_history.tracking.completeness import missing_operations
from sa_history.tracking.registry import Tracking
from sa_history.util.arguments import Time


@dataclass(frozen=True)
class Asked:
    """What a question names that may be before all events that are left.

    :param transaction: the number of a transaction; None for any.
    :param context: the id of a context; None for any.
    :param since: the time from which events are asked for, or an SQL expression of it;
        None for any.
    :param until: the time before which events are asked for, likewise.
    :param after: the position in the feed, a transaction and an event, after which
        events are asked for; None for any.
    """

    transaction: int | None = None
    context: uuid.UUID | None = None
    since: Time | None = None
    until: Time | None = None
    after: tuple[int, int] | None = None

    @property
    def is_anything(self) -> bool:
        """Whether it names no time."""
        return all(getattr(self, field.name) is None for field in fields(self))

    def require_events(
        self,
        connection: Connection,
        trackings: Iterable[Tracking],
        parameters: Any = None,
    ) -> None:
        """Refuse to answer by what is left where events may have been removed.

        What names no time is answered by what is left.

        :param trackings: whose events are asked for.
        :param parameters: what the statement is executed with.
        :raises EventsRemovedError: names the table, until when, and the archive.
        """
        if self.is_anything:
            return
        horizons = read_horizons(connection, trackings)
        if horizons and self.transaction is not None:
            # In a copy of the database, numbers begin anew that say nothing of these.
            following = connection.scalar(_FOLLOWING_TRANSACTION)
            horizons = {
                t: horizon
                for t, horizon in horizons.items()
                if horizon.transaction < following
            }
        if not horizons:
            return
        times = [*self._times(connection, parameters)]
        found = [
            (t, h)
            for t, h in horizons.items()
            if self._may_be_before(h) or any(time <= h.until for time in times)
        ]
        if not found:
            return
        tracking, horizon = max(found, key=lambda pair: pair[1].transaction)
        hint = "ask for what came later, or leave that table out"
        if self.after is not None:
            hint = (
                f"go on after {(horizon.transaction, horizon.first_id - 1)}, or give "
                "targets without it"
            )
        raise EventsRemovedError(
            f"the events of {tracking.table.name!r} until {horizon.until} (transaction "
            f"{horizon.transaction}) were removed, and some of what is asked for may "
            "have been among them",
            f"{hint}{horizon.archive_hint}",
        )

    def _times(
        self, connection: Connection, parameters: Any
    ) -> Iterator[datetime.datetime]:
        """Yield the times that are named, with a time zone.

        The database says what an expression is, and what a time without a zone means.
        """
        begun = None if self.context is None else time_of_id(self.context)
        for time in (begun, self.since, self.until):
            if time is None:
                continue
            if isinstance(time, datetime.datetime) and time.tzinfo is not None:
                yield time
                continue
            known = select(cast(time, types.DateTime(timezone=True)))
            value = connection.scalar(known, parameters)
            if value is not None:
                yield value

    def _may_be_before(self, horizon: Horizon) -> bool:
        if self.after is not None:
            # In a copy of the database the numbers of transactions begin anew.
            transaction, event = self.after
            return transaction < horizon.transaction and event < horizon.first_id
        return self.transaction is not None and self.transaction <= horizon.transaction


ANYTHING = Asked()
"""A question that names no time."""


_FOLLOWING_TRANSACTION: Any = select(
    cast(
        cast(func.pg_snapshot_xmax(func.pg_current_snapshot()), Text), types.BigInteger
    )
)
"""The number that no transaction of the cluster has yet."""


def read_horizons(
    connection: Connection, trackings: Iterable[Tracking]
) -> dict[Tracking, Horizon]:
    """Return how far back the events of tables were removed; of those that lost some.

    :param trackings: those without partitions have lost none.
    """
    by_name = {
        _name_in(connection, tracking): tracking
        for tracking in trackings
        if tracking.options.partition_by is not None
    }
    if not by_name:
        return {}
    names = func.unnest(literal([*by_name], ARRAY(Text))).table_valued(
        column("name", Text)
    )
    # Not by a SELECT of the catalog, which a session of the past refuses.
    tree: Any = func.pg_partition_tree(cast(func.to_regclass(names.c.name), REGCLASS))
    partitions = tree.table_valued(column("relid", types.Integer)).lateral()
    comment = func.obj_description(partitions.c.relid, "pg_class")
    statement = select(names.c.name, comment).select_from(
        names.join(partitions, true())
    )
    found = {}
    for name, text in connection.execute(statement):
        if (horizon := Horizon.of_comment(text)) is not None:
            found[by_name[name]] = horizon
    return found


def _name_in(connection: Connection, tracking: Tracking) -> str:
    events = tracking.event_table
    schema = connection.schema_for_object(events)
    # Not as the dialect quotes, which writes a % twice for the text of a statement.
    return ".".join(quote_ident(part) for part in (schema, events.name) if part)


def read_horizon(connection: Connection, tracking: Tracking) -> Horizon | None:
    """Return how far back the events of a partitioned table were removed.

    :return: None if none were.
    """
    return read_horizons(connection, [tracking]).get(tracking)


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
