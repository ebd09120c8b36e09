"""Which points in time are known from an archive and the live events together."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from sqlalchemy import Table

from sa_history.archiving.live_part import LivePart, gaps
from sa_history.archiving.read_tables import ReadTable
from sa_history.capture.partitioning import Horizon
from sa_history.exc import ArchiveError, EventsRemovedError
from sa_history.query.as_of_rows import PointInTime
from sa_history.query.removed_events import read_horizon
from sa_history.tracking.registry import Tracking


def require_known(
    tracking: Tracking,
    tables: Mapping[Table, ReadTable],
    live: LivePart | None,
    point: PointInTime,
    value: str,
) -> None:
    """Refuse a point in time by which the rows of a table are not known.

    :param tables: all event tables, with what the archive has of them.
    :param live: the live events; None if they are not read.
    :param value: the point in time, as text.
    :raises EventsRemovedError: events before it were removed, and never archived.
    :raises ArchiveError: it is after the last archived event, and the live ones are not
        read.
    """
    table = tables[tracking.event_table]
    if live is None:
        _require_archived(tracking, table, tables, point, value)
    horizon = None
    if live is not None and tracking.options.partition_by is not None:
        horizon = read_horizon(live.connection, tracking)
    missing = _end_of_missing(table, horizon, has_live=live is not None)
    if missing is not None and not _is_after(missing, table, horizon, point, value):
        raise EventsRemovedError(
            f"events of {tracking.table.name!r} before number {missing} were removed "
            "and are not in the archive, so what rows there were is not known; give a "
            "later moment"
        )


def _end_of_missing(
    table: ReadTable, horizon: Horizon | None, has_live: bool
) -> int | None:
    """Return the number before which events are missing; None if all are there."""
    removed = 0
    if horizon is not None:
        removed = horizon.first_id
    elif not has_live and table.parts:
        removed = int(table.parts[-1].upper or table.parts[-1].lower or 0)
    ends = [
        min(end or removed, removed)
        for start, end in gaps(table.parts)
        if start < removed
    ]
    return max(ends, default=None)


def _is_after(
    missing: int,
    table: ReadTable,
    horizon: Horizon | None,
    point: PointInTime,
    value: str,
) -> bool:
    """Return whether a point in time is after all events that are missing."""
    if horizon is None or not horizon.keeps_last:
        return False
    if point is PointInTime.EVENT:
        return int(value) >= missing
    if point is PointInTime.TRANSACTION:
        return int(value) >= horizon.transaction
    begins = [
        part.earliest
        for part in table.parts
        if part.earliest is not None and int(part.lower or 0) >= missing
    ]
    return datetime.datetime.fromisoformat(value) >= min([horizon.until, *begins])


def _require_archived(
    tracking: Tracking,
    table: ReadTable,
    tables: Mapping[Table, ReadTable],
    point: PointInTime,
    value: str,
) -> None:
    ends = [part.upper for part in table.parts]
    end = None if not ends or ends[-1] is None else int(ends[-1])
    if point is PointInTime.EVENT:
        is_archived = end is None or int(value) < end
    elif point is PointInTime.TRANSACTION:
        is_archived = True  # which is the last one is not written down
    else:
        when = datetime.datetime.fromisoformat(value)
        is_archived = any(when <= until for until in _times(table, tables, end))
    if not is_archived:
        raise ArchiveError(
            f"the archive has no events of {tracking.table.name!r} from {value} or "
            "later; give archived(..., live=engine) to read those of the database"
        )


def _times(
    table: ReadTable, tables: Mapping[Table, ReadTable], end: int | None
) -> Iterator[datetime.datetime]:
    """Yield times of events before the end of what is archived of a table.

    Those of other tables are among them, since one sequence numbers all events.
    """
    for other in tables.values():
        if other.archived is None:
            continue
        for part in other.archived.parts:
            is_before = end is None or (part.upper and int(part.upper) <= end)
            if part.latest is not None and (is_before or other is table):
                yield part.latest
