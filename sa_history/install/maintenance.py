"""The maintenance of partitions: ending them in time, and removing old ones.

Each step is a transaction of its own, or a statement that must not be in one, and
begins with what the database has then. So a run that was interrupted is finished by the
next one, and two runs at once do nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import BigInteger, Connection, MetaData, cast, func, select

from sa_history.ddl.advisory_lock import KEY
from sa_history.install.event_partitions import EventMaintenance
from sa_history.install.expected import trackings_in
from sa_history.install.partition_steps import PartitionReport, RunSettings

_RUN_KEY = KEY + 1
"""The advisory lock of a whole run; each of its transactions has that of installing."""


def maintain(
    metadatas: Sequence[MetaData], settings: RunSettings, dry_run: bool
) -> list[PartitionReport]:
    """Do what there is to do, table by table.

    :param metadatas: the models.
    :param settings: what the run is told.
    :param dry_run: True to only say what would be done first.
    :return: a report for each partitioned table.
    """
    partitioned = [
        (tracking, partitioning)
        for metadata in metadatas
        for tracking in trackings_in(metadata)
        for partitioning in [tracking.partitioning()]
        if partitioning is not None
    ]
    if not partitioned:
        return []
    with _turn(settings) as connection:
        return [
            EventMaintenance(settings, connection, *each).run(dry_run)
            for each in partitioned
        ]


@contextmanager
def _turn(settings: RunSettings) -> Iterator[Connection]:
    """Wait until no other run goes on; give a connection that commits by itself."""
    lock, unlock = (
        select(function(cast(_RUN_KEY, BigInteger)))
        for function in (func.pg_advisory_lock, func.pg_advisory_unlock)
    )
    with settings.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(lock)
        try:
            yield connection
        finally:
            connection.execute(unlock)
