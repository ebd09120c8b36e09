"""The maintenance of partitions: ending them in time, and removing old ones.

Each step is a transaction of its own, or a statement that must not be in one, and
begins with what the database has then. So a run that was interrupted is finished by the
next one, and two runs at once do nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import BigInteger, Connection, Engine, MetaData, cast, func, select
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import StaticPool

from sa_history.ddl.advisory_lock import KEY
from sa_history.ddl.execution import schema_names
from sa_history.exc import InstallError
from sa_history.install.context_partitions import ContextMaintenance
from sa_history.install.event_partitions import EventMaintenance
from sa_history.install.partition_steps import PartitionReport, RunSettings
from sa_history.install.partition_survey import MaintenanceSurvey
from sa_history.tracking.registry import history_of, trackings_in
from sa_history.util.postgresql import require_postgresql

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
    trackings = trackings_in(*metadatas)
    if not any(tracking.partitioning() for tracking in trackings):
        return []
    with turn(settings.engine) as connection:
        schemas = schema_names(connection)
        events = [
            EventMaintenance(settings, connection, tracking, partitioning, schemas)
            for tracking in trackings
            if (partitioning := tracking.partitioning()) is not None
        ]
        contexts = [
            ContextMaintenance(
                settings,
                connection,
                of_contexts,
                [t for t in trackings if t.history is history],
                schemas,
            )
            for history in filter(None, map(history_of, metadatas))
            if (of_contexts := history.shared.partitioning) is not None
        ]
        survey = MaintenanceSurvey(
            connection,
            {table.table.name: table.comment for table in (*events, *contexts)},
            [table.state for table in events],
        )
        reports = [table.run(dry_run, survey) for table in events]
        # After the events that have them.
        reports += [
            table.run(dry_run, survey)
            for table in contexts
            if table.table.name in survey.partitions or settings.converts
        ]
    return reports


@contextmanager
def turn(engine: Engine) -> Iterator[Connection]:
    """Wait until no other run goes on; give a connection that commits by itself.

    :raises DialectError: the engine is of another database than PostgreSQL.
    :raises InstallError: the engine has one connection only, in which a transaction of
        the block would be; or it connects to a pooler in transaction mode.
    """
    if isinstance(engine.pool, StaticPool):
        raise InstallError(
            f"a {type(engine.pool).__name__} gives one connection to all, and "
            "partitions needs two at once; give an engine with another pool"
        )
    lock, unlock = (
        select(function(cast(_RUN_KEY, BigInteger)))
        for function in (func.pg_advisory_lock, func.pg_advisory_unlock)
    )
    with engine.connect() as connection:
        require_postgresql(connection, "partitions")
        connection.execution_options(isolation_level="AUTOCOMMIT")
        _require_session(engine, connection)
        connection.execute(lock)
        try:
            yield connection
        finally:
            # One that was lost, or interrupted amid a statement, has no lock any more.
            if not connection.invalidated:
                connection.execute(unlock)


def _second_connection(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except PoolTimeout as error:
        raise InstallError(
            f"the pool of the engine gave no second connection ({error}), and "
            "partitions needs two at once; give an engine with a larger pool_size"
        ) from error


def _require_session(engine: Engine, connection: Connection) -> None:
    """Refuse a pooler that gives sessions of the server to one transaction at a time.

    The lock of the run would stay with some session there, and stop all later runs.

    :param connection: a connection that commits by itself.
    :raises InstallError: while another connection is in a transaction, this one is in
        another session than before.
    """
    session = select(func.pg_backend_pid())
    before = connection.scalar(session)
    with _second_connection(engine) as other:
        keeps_its_own = other.scalar(session) != before == connection.scalar(session)
    if not keeps_its_own:
        raise InstallError(
            f"{str(engine.url)!r} is that of a pooler in transaction mode, and "
            "partitions needs sessions of its own; give the URL of the server"
        )
