"""Apache Spark: the events of an archive, and rows as they were, as data frames.

Install it with ``pip install sa_history[spark]``. It needs the models, and the folder
of an archive that the workers of Spark can read; it needs no database::

    import sa_history.spark as history_spark

    spark = SparkSession.builder.getOrCreate()
    history_spark.register(spark, "/archive", Base)
    spark.sql("SELECT pgh_op, count(*) FROM account_event GROUP BY pgh_op").show()

Spark does not read the database. ``sa-history archive --open`` writes the part that is
not closed, too. Each call finds what is in the archive at that time.
"""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, Table

from sa_history.archiving.folder import ArchiveFolder
from sa_history.archiving.known_times import require_known
from sa_history.archiving.read_tables import ReadTable, archived_table
from sa_history.archiving.views import ArchivedTable, EventViews, Writer, statements
from sa_history.exc import ArchiveError, EventsError
from sa_history.query.as_of_rows import PointInTime
from sa_history.query.time_travel import point_in_time
from sa_history.tracking.completeness import missing_operations
from sa_history.tracking.events import trackings_of
from sa_history.tracking.registry import History, Tracking, history_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["as_of", "contexts", "diffs", "events", "register"]

_SPARK = Writer("spark")


def register(spark: SparkSession, archive: str | Path, model: Any) -> list[str]:
    """Make temporary views of all archived tables, for SQL.

    For the table ``account`` these are ``account_event`` with its events,
    ``account_event_with_previous`` with the one before each,
    ``account_event_with_context`` with the metadata of their contexts, and the function
    ``account_as_of(pgh_moment)``; beside them there is ``pghistory_context``.

    :param spark: the session of Spark, with which they end.
    :param archive: the folder of the archive: a path, or a URI that both pyarrow and
        Spark know.
    :param model: a declarative base or a MetaData.
    :return: the names of the archived tables.
    :raises ArchiveError: none of its event tables is in the archive.

    Example::

        history_spark.register(spark, "/archive", Base)
        spark.sql("SELECT * FROM account_as_of(TIMESTAMP '2026-01-01 00:00:00Z')")
    """
    folder = _Archive(archive)
    history = _history_of(model)
    trackings = history.trackings.values()
    found = {t: table for t in trackings if (table := folder.find(t.event_table))}
    if not found:
        raise ArchiveError(
            f"{folder} has no events of {model!r}; give the folder that they were "
            "archived to"
        )
    of_contexts = folder.find(history.shared.context_table)
    for statement in statements("spark", found, of_contexts):
        spark.sql(statement)
    tables = [*found.values(), *filter(None, [of_contexts])]
    return [table.manifest.table for table in tables]


def events(
    spark: SparkSession,
    archive: str | Path,
    target: Any,
    *,
    name: str = "events",
    with_context: bool = False,
) -> DataFrame:
    """Return the events of a tracked class or table.

    :param spark: the session of Spark.
    :param archive: the folder of the archive, as for :func:`register`.
    :param target: a mapped class or a Table.
    :param name: the ``events`` option of the :func:`~sa_history.track` that is meant.
    :param with_context: True for a column ``pgh_context`` as well, with the metadata of
        the event's context as JSON; events that store it themselves have it anyway.
    :return: a data frame with the columns of the event table. What Spark has no type
        for is text as PostgreSQL writes it. What a type of Spark cannot hold, such as
        ``infinity``, is NULL and stands in ``pgh_exact``.
    :raises EventsError: the target is not tracked under that name.
    :raises ArchiveError: its events are not in the archive, or the contexts are not.

    Example::

        history_spark.events(spark, "/archive", Account).groupBy("pgh_op").count()
    """
    folder = _Archive(archive)
    tracking = _tracking_of(target, name)
    table = folder.table(tracking.event_table)
    if not with_context or tracking.options.context != "reference":
        return spark.sql(table.rows(_SPARK, table.columns))
    of_contexts = folder.contexts(tracking.event_table.metadata)
    rows = of_contexts.rows(_SPARK, of_contexts.columns)
    return spark.sql(_views(tracking, table).with_context(f"({rows})"))


def contexts(spark: SparkSession, archive: str | Path, model: Any) -> DataFrame:
    """Return the contexts of changes.

    :param spark: the session of Spark.
    :param archive: the folder of the archive, as for :func:`register`.
    :param model: a declarative base or a MetaData.
    :return: a data frame with the columns of the context table; ``metadata`` is JSON.
    :raises ArchiveError: they are not in the archive.

    Example::

        history_spark.contexts(spark, "/archive", Base).count()
    """
    table = _Archive(archive).contexts(model)
    return spark.sql(table.rows(_SPARK, table.columns))


def diffs(
    spark: SparkSession, archive: str | Path, target: Any, *, name: str = "events"
) -> DataFrame:
    """Return the events of a tracked class or table, each with the one before it.

    :param spark: the session of Spark.
    :param archive: the folder of the archive, as for :func:`register`.
    :param target: a mapped class or a Table.
    :param name: the ``events`` option of the :func:`~sa_history.track` that is meant.
    :return: a data frame with the columns of :func:`events`, and a column
        ``previous_<name>`` for each that comes from the tracked table, which is what it
        was before; all of them are NULL in the first event of a row.
    :raises EventsError: the target is not tracked under that name.
    :raises ArchiveError: its events are not in the archive, or do not tell which was
        before another.

    Example::

        changes = history_spark.diffs(spark, "/archive", Account)
        changes.where("balance < previous_balance").count()
    """
    folder = _Archive(archive)
    tracking = _tracking_of(target, name)
    table = folder.table(tracking.event_table)
    return spark.sql(_views(tracking, table).with_previous())


def as_of(
    spark: SparkSession, archive: str | Path, target: Any, when: datetime.datetime
) -> DataFrame:
    """Return the rows of a tracked class or table as of a point in time.

    :param spark: the session of Spark.
    :param archive: the folder of the archive, as for :func:`register`.
    :param target: a mapped class or a Table. Of joined inheritance, the rows of the
        class's own table.
    :param when: the time, with its time zone.
    :return: a data frame with the columns of the table; those that are not tracked are
        NULL.
    :raises EventsError: the target is not tracked.
    :raises PastError: the time has no time zone.
    :raises ArchiveError: the events are not in the archive, or do not record every
        change, or the time is after the last of them.
    :raises EventsRemovedError: events before the time were never archived.

    Example::

        when = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        history_spark.as_of(spark, "/archive", Account, when).count()
    """
    _, moment = point_in_time(when, is_transaction=False)
    first, *others = trackings_of(target)
    same = [first, *(t for t in others if t.table is first.table)]
    tracking = next((t for t in same if not missing_operations(t)), first)
    folder = _Archive(archive)
    table = folder.table(tracking.event_table)
    folder.require_known(tracking, when)
    views = _views(tracking, table.until(when))
    return spark.sql(views.rows_as_of(f"pgh_created_at <= {_SPARK.time(moment)}"))


def _views(tracking: Tracking, table: ArchivedTable) -> EventViews:
    """Return the views of the events in the files."""
    rows = table.rows(_SPARK, table.columns)
    return EventViews(tracking, table.columns, f"({rows})", _SPARK)


def _tracking_of(target: Any, name: str) -> Tracking:
    for tracking in trackings_of(target):
        if tracking.options.events == name:
            return tracking
    raise EventsError(f"{target!r} has no events named {name!r}; see track(events=...)")


def _history_of(model: Any) -> History:
    metadata = getattr(model, "metadata", model)
    found = history_of(metadata) if isinstance(metadata, MetaData) else None
    if found is None:
        raise ArchiveError(
            f"{model!r} has no tracked models; give their declarative base or its "
            "MetaData"
        )
    return found


class _Archive:
    """The folder of an archive, as it is read here, and as Spark reads it."""

    def __init__(self, place: str | Path) -> None:
        self._folder = ArchiveFolder(place)
        # Where a cluster has another file system by default, a path needs its scheme.
        scheme = "" if "://" in self._folder.name else "file://"
        self._root = scheme + self._folder.name

    def __str__(self) -> str:
        return self._folder.name

    def find(self, table: Table) -> ArchivedTable | None:
        """Return the files of a table; None if it has none."""
        found = archived_table(self._folder, table, None, with_open=True)
        return None if found is None else replace(found, root=self._root)

    def table(self, table: Table) -> ArchivedTable:
        """Return the files of a table.

        :raises ArchiveError: it has none.
        """
        found = self.find(table)
        if found is None:
            raise ArchiveError(
                f"{self} has no {table.fullname}; archive it first, by sa-history "
                "archive"
            )
        return found

    def contexts(self, model: Any) -> ArchivedTable:
        """Return the files of the context table.

        :raises ArchiveError: it has none.
        """
        return self.table(_history_of(model).shared.context_table)

    def require_known(self, tracking: Tracking, when: datetime.datetime) -> None:
        """Refuse a time by which the rows of a table are not known.

        :raises EventsRemovedError: events before it were never archived.
        :raises ArchiveError: it is after the last event in the archive.
        """
        found = {
            t.event_table: ReadTable(
                self._folder, t.event_table, self.find(t.event_table), None, None, 0
            )
            for t in tracking.history.trackings.values()
        }
        require_known(tracking, found, None, PointInTime.TIME, when.isoformat())
