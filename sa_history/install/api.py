"""The public functions: what a database has, beside what the models expect.

All of it looks at what is marked as sa_history's own and at nothing else. Changes are
made in one transaction, by one process at a time.
"""

from __future__ import annotations

import datetime
from dataclasses import replace

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sa_history.exc import CommandError, DistributionError, InstallError
from sa_history.install.drift import Problem, kind_of, name_of
from sa_history.install.findings import MIGRATE, Finding, State, finding_of
from sa_history.install.maintenance import maintain
from sa_history.install.partition_plan import check_now, keep_since
from sa_history.install.partition_steps import PartitionReport, RunSettings
from sa_history.install.sizes import EventTableSize
from sa_history.install.survey import AllModels, explained, open_survey
from sa_history.util.arguments import metadata_of, require_number


def status(bind: Engine | Connection, *models: AllModels) -> list[State]:
    """Return the state of each function, trigger, view and sequence.

    :param bind: an engine or a connection; of an async one, ``await
        connection.run_sync(status, Base)``.
    :param models: declarative bases or MetaData.
    :return: what the models expect, in the order of its creation, and then what is
        there beside it.
    :raises InstallError: no model is tracked, has triggers or is a view, as if nobody
        had imported them; or the database cannot be read.

    Example::

        for state in status(engine, Base):
            print(state)
    """
    with open_survey(bind, models) as survey:
        wrong = {(d.kind, d.name): d.problem for d in survey.differences()}
        states: dict[tuple[str, str], Problem | None] = dict.fromkeys(
            (kind_of(o.definition), name_of(o.definition, survey.schemas))
            for o in survey.expected
        )
        return [State(*key, problem) for key, problem in {**states, **wrong}.items()]


def check(bind: Engine | Connection, *models: AllModels) -> list[Finding]:
    """Compare the database with the models; it only reads, and locks nothing.

    :param bind: as for :func:`status`.
    :param models: declarative bases or MetaData.
    :return: the findings; an empty list if the database is as the models say.
    :raises InstallError: no model is tracked, has triggers or is a view, as if nobody
        had imported them; or the database cannot be read.

    Example::

        assert not check(engine, Base)
    """
    with open_survey(bind, models) as survey:
        missing = survey.missing()
        found = [finding_of(difference) for difference in survey.differences()]
        if missing:
            # Functions and triggers come with the tables; before, none can be made.
            found = [
                replace(finding, command=None, advice=MIGRATE)
                if finding.problem is Problem.MISSING
                else finding
                for finding in found
            ]
        return [
            *missing,
            *survey.changed_kinds(),
            *survey.narrow_columns(),
            *found,
            *survey.bypassed(),
            *survey.partition_findings(),
            *survey.distributed(),
            *survey.bypassed_on_shards(),
        ]


def unclaimed(bind: Engine | Connection, *models: AllModels) -> list[Finding]:
    """Return what the database has, in any schema, that the models do not expect.

    :param bind: as for :func:`status`.
    :param models: declarative bases or MetaData.
    :return: the findings, each with the advice to import the models that it is of.
    :raises InstallError: the database cannot be read.

    Example::

        for finding in unclaimed(engine, Base):
            print(finding)
    """
    with open_survey(bind, models, may_track_nothing=True) as survey:
        return survey.unclaimed()


def install(
    bind: Engine | Connection,
    *models: AllModels,
    prune: bool = False,
    may_track_nothing: bool = False,
) -> list[str]:
    """Create what is missing, renew what is outdated, enable what is disabled.

    All of it is done in one transaction, or none of it. The tables have to exist.

    :param bind: as for :func:`status`; a connection's transaction is READ COMMITTED,
        and stays open.
    :param models: declarative bases or MetaData.
    :param prune: True to drop also what the models do not have any more.
    :param may_track_nothing: True if all models are imported and it may be that none is
        tracked any more; with ``prune``, all that is in the schemas of their tables is
        dropped then, but for what event tables need.
    :return: the steps that were done, in words; an empty list if there was nothing
        to do.
    :raises InstallError: no model is tracked, has triggers or is a view, unless that
        may be; a table is missing, or a privilege; a generated column is VIRTUAL and
        the model says STORED, or the other way round.
    :raises DistributionError: Citus distributes a table in a way that is not supported.

    Example::

        install(engine, Base)
    """
    with open_survey(
        bind, models, write=True, may_track_nothing=may_track_nothing
    ) as survey:
        missing = survey.missing()
        if missing:
            raise InstallError(
                "nothing is installed, since the database has no "
                f"{', '.join(f'{m.kind} {m.name}' for m in missing)}; {MIGRATE}"
            )
        if wrong := survey.changed_kinds():
            raise InstallError(
                "nothing is installed, since triggers would see other values than the "
                f"models say: {'; '.join(map(str, wrong))}"
            )
        if distributed := survey.distributed():
            advice = "; ".join(finding.advice for finding in distributed)
            raise DistributionError(f"nothing is installed: {advice}")
        return survey.install(prune)


def size(
    bind: Engine | Connection, *models: AllModels, keep: str | None = None
) -> list[EventTableSize]:
    """Tell how large event tables are, how fast they grow, and what could be removed.

    :param bind: as for :func:`status`.
    :param models: declarative bases or MetaData.
    :param keep: for how long events would be kept, as for :func:`partitions`; None to
        tell of no removal.
    :return: an entry for each event table. Rows are about as many as the statistics of
        PostgreSQL say; a table without any is counted.
    :raises CommandError: ``keep`` is no time.
    :raises InstallError: a table is missing, or the database cannot be read.

    Example::

        for table in size(engine, Base, keep="24 months"):
            print(table.name, table.bytes, table.bytes_a_month, table.removed_bytes)
    """
    with open_survey(bind, models) as survey:
        return survey.sizes(keep)


def uninstall(bind: Engine | Connection, *models: AllModels) -> list[str]:
    """Drop the triggers and their functions; tables, events and views stay.

    Shared functions stay as well, as long as other models call them.

    :param bind: as for :func:`status`; a connection's transaction is READ COMMITTED,
        and stays open.
    :param models: declarative bases or MetaData.
    :return: the steps that were done, in words; an empty list if there was nothing
        to do.
    :raises InstallError: a privilege is missing.

    Example::

        uninstall(engine, Base)
    """
    with open_survey(bind, models, write=True) as survey:
        return survey.uninstall()


def harden(
    bind: Engine | Connection, *models: AllModels, role: str, dry_run: bool = False
) -> list[str]:
    """Leave the application's role no way to its history but to read it.

    The role keeps its rights to write tracked tables, and what it writes is recorded.
    It can neither write events nor contexts, nor disable a trigger. The owner of the
    tables and superusers can still do anything.

    :param bind: as for :func:`status`; its user has to be the owner of the tables, and
        a connection's transaction READ COMMITTED.
    :param models: declarative bases or MetaData.
    :param role: the application's role.
    :param dry_run: True to change nothing, and only return the statements.
    :return: the statements, for a migration or a DBA.
    :raises InstallError: the role owns a table or its schema, is a superuser, or does
        not exist; it has a privilege that the owner has not granted, or one on the
        server that gets around triggers, such as ``pg_execute_server_program``; the
        tracking of a table can be ignored by any client.

    Example::

        harden(engine, Base, role="app")
    """
    with open_survey(bind, models, write=not dry_run) as survey:
        return survey.harden(role, dry_run)


def partitions(
    bind: Engine,
    *models: AllModels,
    keep: str | None = None,
    keep_last_events: bool = True,
    without_archive: bool = False,
    convert: bool = False,
    dry_run: bool = False,
    now: datetime.datetime | None = None,
    lock_timeout: int = 500,
    attempts: int = 5,
) -> list[PartitionReport]:
    """End the partitions of event tables in time, and remove old ones.

    To be called again and again, as by cron. A call that comes late does no harm: the
    last partition has no end, and takes what comes.

    :param bind: an engine, whose user owns the tables. It needs connections of its own
        that keep their session, so no pooler in transaction mode.
    :param models: declarative bases or MetaData.
    :param keep: for how long events are kept, such as ``"24 months"``, ``"90 days"`` or
        ``"1 year"``; None to remove nothing. A partition is removed when all its
        events are older.
    :param keep_last_events: True to keep, of the events that are removed, the last one
        of each row that is there, so that :func:`as_of` sees rows as of any later time;
        False to keep none, which removes a partition in an instant, and ends
        :func:`as_of` for the table.
    :param without_archive: True to remove old partitions that are not in an archive; a
        table of which some are, by :func:`archive`, keeps the others until then.
    :param convert: True to give an event table its partitions that is one table in the
        database, while others write it; a step that waits for a lock is tried again for
        a minute.
    :param dry_run: True to change nothing, and only say what would be done first.
    :param now: the time, with its time zone; that of the database, if None.
    :param lock_timeout: how long a step waits for a lock, in milliseconds. Writers wait
        behind it.
    :param attempts: how often a step tries to get its locks, before it is left to the
        next call.
    :return: a report for each partitioned event table.
    :raises CommandError: ``keep`` is no time, ``now`` has no time zone, or a number is
        none.
    :raises DialectError: the engine is of another database than PostgreSQL.
    :raises InstallError: an event table that is to have partitions is none with them
        in the database; the bind is no engine, its pool gives one connection only, or
        it connects to a pooler in transaction mode; or a privilege is missing. What was
        done before stays.

    Example::

        for report in history.partitions(engine, Base, keep="24 months"):
            print(report.table, *report.done)
    """
    if not isinstance(bind, Engine):
        raise InstallError(
            f"partitions takes an engine, got {bind!r}; some of its statements cannot "
            "be in a transaction, so give one of create_engine(...), such as of psycopg"
        )
    if keep is not None:
        keep_since(keep, datetime.datetime.now(datetime.timezone.utc))
    check_now(now)
    require_number("lock_timeout is milliseconds", lock_timeout, CommandError, 0)
    require_number("attempts is a number of times", attempts, CommandError, 1)
    settings = RunSettings(
        engine=bind,
        keep=keep,
        keeps_last=keep_last_events,
        converts=convert,
        without_archive=without_archive,
        now=now,
        lock_timeout=lock_timeout,
        attempts=attempts,
    )
    try:
        # Several models of one base have the same MetaData.
        metadatas = dict.fromkeys(metadata_of(model, InstallError) for model in models)
        return maintain(list(metadatas), settings, dry_run)
    except DBAPIError as error:
        raise InstallError(explained(error)) from error
