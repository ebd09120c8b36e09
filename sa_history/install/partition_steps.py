"""The steps of the maintenance of one partitioned table, and how they are run."""

from __future__ import annotations

import datetime
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Row, func, select
from sqlalchemy.exc import DBAPIError

from sa_history.ddl.advisory_lock import wait_for_turn
from sa_history.ddl.catalog import InstalledTrigger
from sa_history.ddl.elements import PGTrigger, Statement
from sa_history.ddl.execution import begin, create_objects, time_in_database
from sa_history.ddl.partitions import (
    REMOVED,
    PartitionedTable,
    RangePartition,
    change_owner,
    comment_on_table,
    drop_table,
    lock_table,
    read_partitions_of,
    revoke_all,
)
from sa_history.ddl.repartition import Repartition
from sa_history.exc import InstallError
from sa_history.install.archived import ArchivedPartitions
from sa_history.install.partition_plan import keep_since
from sa_history.install.partition_survey import (
    MaintenanceSurvey,
    TriggersOf,
    triggers_of,
)
from sa_history.sql.compose import Fragment, Qualified, Raw, SchemaNames
from sa_history.util.postgresql import (
    FOREIGN_KEY_VIOLATION,
    LOCK_REFUSALS,
    UNDEFINED_TABLE,
    message_of,
    sqlstate_of,
)

_ENDS_AUTOVACUUM = 2_000
"""For how many milliseconds to wait for what an autovacuum is in the way of.

PostgreSQL ends the autovacuum once somebody has waited for ``deadlock_timeout``, which
is a second by default.
"""

_CHANGED_MEANWHILE = (FOREIGN_KEY_VIOLATION, UNDEFINED_TABLE)
"""The SQLSTATE of a row that refers to an event, and of a table that is not there."""


@dataclass(frozen=True)
class PartitionReport:
    """What was done to the partitions of one event table.

    :param table: the event table, with its schema.
    :param done: the steps that were done, in words; of a dry run those that would be
        done now.
    :param postponed: the steps that could not be done, each with the reason; the next
        run does them.
    :param partitions: the partitions as they are afterwards, in the order of their
        bounds.

    Example::

        (report,) = history.partitions(engine, Base)
        print(report.table, [partition.name.name for partition in report.partitions])
    """

    table: str
    done: tuple[str, ...]
    postponed: tuple[str, ...]
    partitions: tuple[RangePartition, ...]


@dataclass(frozen=True)
class RunSettings:
    """What a run is told.

    :param engine: the engine, whose user owns the tables.
    :param lock_timeout: how long a step waits for a lock, in milliseconds.
    :param attempts: how often a step tries to get its locks.
    :param keep: for how long events are kept; None to remove nothing.
    :param keeps_last: True to keep the last event of each row when others are removed.
    :param converts: True to give a table its partitions that has none yet.
    :param without_archive: True to remove partitions of an archived table also if they
        are not in the archive.
    :param removes: by the name of a table, the archived partitions to remove and no
        others, by their paths; None for those that ``keep`` says.
    :param now: the time; None for that of the database.
    """

    engine: Engine
    lock_timeout: int
    attempts: int
    keep: str | None = None
    keeps_last: bool = True
    converts: bool = False
    without_archive: bool = False
    removes: Mapping[str, Collection[str]] | None = None
    now: datetime.datetime | None = None

    @property
    def removes_some(self) -> bool:
        """True if old partitions are removed."""
        return self.keep is not None or self.removes is not None

    def keeps_since(self, now: datetime.datetime) -> datetime.datetime:
        """Return the time since which events are kept.

        :param now: the time.
        """
        if self.keep is None:
            return datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)
        return keep_since(self.keep, now)


@dataclass(frozen=True)
class MaintenanceStep:
    """Something to do, once in a run.

    :param key: what it does, and to what.
    :param what: the same in words.
    :param run: does it.
    :param then: the steps that it makes possible, to be done at once after it.
    """

    key: tuple[str, ...]
    what: str
    run: Callable[[], None]
    then: tuple[MaintenanceStep, ...] = ()


class Postponed(Exception):
    """A step cannot be done now; the text says why."""


class TableMaintenance(ABC):
    """The maintenance of one partitioned table.

    :param settings: what the run is told.
    :param connection: a connection that commits each statement.
    :param table: the table, with its schema in the database.
    :param schemas: gives the name in the database of a schema of the models.
    :param comment: the comment on each partition.
    :param metadata: the models of the table.
    """

    def __init__(
        self,
        settings: RunSettings,
        connection: Connection,
        table: PartitionedTable,
        schemas: SchemaNames,
        comment: str,
        metadata: MetaData,
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.table = table
        self.schemas = schemas
        self.comment = comment
        self.archived = ArchivedPartitions(metadata, table)
        self._done: list[str] = []
        self._postponed: list[str] = []
        self._current: list[RangePartition] | None = None
        self._triggers: tuple[set[Qualified], TriggersOf] | None = None
        self._lock_timeout: str | None = None

    def current(self) -> list[RangePartition]:
        """Return the partitions, as they are after the steps that are done.

        :raises InstallError: as by :meth:`partitions`.
        """
        if self._current is None:
            self._current = self.partitions(self.connection)
        return self._current

    def partitions(self, connection: Connection) -> list[RangePartition]:
        """Return the partitions in the order of their bounds.

        :raises InstallError: the table has none in the database.
        """
        found = read_partitions_of(connection, self.table.name)
        if found is None:
            raise InstallError(
                f"{self.table.name.dotted} has no partitions in the database; create "
                "it by a migration or create_all(), or let convert=True (--convert) "
                "give it some"
            )
        return found

    @abstractmethod
    def first_partition(self) -> tuple[Qualified, int | None]:
        """Return the name of the first partition, and its lower bound or None."""

    @abstractmethod
    def steps(self, survey: MaintenanceSurvey) -> Iterator[MaintenanceStep]:
        """Yield the steps that there are now, in their order.

        What only the later ones depend on is read when the earlier ones are taken, as
        the partitions are read anew after each step.

        :param survey: what there was when the run began.
        """

    def guards(self, partition: Qualified) -> list[PGTrigger]:
        """Return the triggers that a partition has to have."""
        return []

    def run(self, dry_run: bool, survey: MaintenanceSurvey) -> PartitionReport:
        """Do one step after the other, and return the report.

        :param dry_run: True to only say what would be done first.
        :param survey: what there was when the run began.
        """
        name = self.table.name.dotted
        self._current = survey.partitions.get(self.table.name)
        if self.settings.converts:
            if dry_run and self._current is None:
                return PartitionReport(name, (f"give {name} partitions",), (), ())
            if not dry_run:
                self._convert()
                self._note_change(survey)
        if dry_run:
            self._done += [step.what for step in self.steps(survey)]
        else:
            self._run_steps(survey)
        return PartitionReport(
            name, tuple(self._done), tuple(self._postponed), tuple(self.current())
        )

    def _run_steps(self, survey: MaintenanceSurvey) -> None:
        tried: set[tuple[str, ...]] = set()

        def next_step() -> MaintenanceStep | None:
            steps = self.steps(survey)
            return next((step for step in steps if step.key not in tried), None)

        step = next_step()
        if step is not None and survey.is_old:
            # The steps of other tables may have taken long.
            self._current = None
            step = next_step()
        while step is not None:
            self._do(step, tried)
            self._note_change(survey)
            step = next_step()

    def _note_change(self, survey: MaintenanceSurvey) -> None:
        self._current, survey.is_old = None, True

    def _do(self, step: MaintenanceStep, tried: set[tuple[str, ...]]) -> None:
        tried.add(step.key)
        if self._try(step):
            for following in step.then:
                self._do(following, tried)

    def _convert(self) -> None:
        """Give the table partitions, or finish what an interrupted run began."""
        first, lower = self.first_partition()
        with self.settings.engine.connect() as connection:
            connection.execution_options(isolation_level="READ COMMITTED")
            Repartition(
                connection, self.table, first, lower, self._done.append
            ).partition()
        # The table had them before it was a partition, with another fingerprint.
        with self.transaction() as connection:
            if any(p.name == first for p in self.partitions(connection)):
                create_objects(connection, *self.guards(first))

    def _try(self, step: MaintenanceStep) -> bool:
        """Do a step if it can be done now; return whether it was."""
        why = "others are using the table"
        for attempt in range(self.settings.attempts):
            try:
                step.run()
            except Postponed as postponed:
                why = str(postponed)
                break
            except DBAPIError as error:
                state = sqlstate_of(error.orig)
                if state in _CHANGED_MEANWHILE:
                    why = message_of(error.orig) or why
                    break
                if state not in LOCK_REFUSALS:
                    raise
                time.sleep(0.05 * 2**attempt)
            else:
                self._done.append(step.what)
                return True
        self._postponed.append(f"{step.what}: {why}")
        return False

    def now(self) -> datetime.datetime:
        """Return the time, which is that of the database if none is given."""
        return self.settings.now or time_in_database(self.connection)

    def reason_to_keep(
        self, archived: Sequence[Row[Any]], partition: RangePartition
    ) -> str | None:
        """Return why a partition is not to be removed, although it is old.

        :param archived: what is known of all archived partitions of the table.
        :return: None if it is in the archive, or if there is no archive of the table.
        """
        if self.settings.without_archive:
            return None
        found = self.archived.find(archived, partition)
        removes = self.settings.removes
        if removes is not None:
            paths = removes.get(self.table.name.dotted, ())
            is_one = found is not None and found.path in paths
            return None if is_one else "it is not in the archive"
        if found is None and archived:
            return (
                f"it is not in the archive {archived[-1].folder}; archive it, or give "
                "without_archive=True (--without-archive)"
            )
        return None

    def require_removable(
        self, connection: Connection, partition: RangePartition
    ) -> None:
        """Refuse to remove a partition that the archive has to have first.

        :raises Postponed: it has not.
        """
        self._require_removable(self.archived.all(connection), partition)

    def _require_removable(
        self, archived: Sequence[Row[Any]], partition: RangePartition
    ) -> None:
        why = self.reason_to_keep(archived, partition)
        if why is not None:
            raise Postponed(why)

    def require_archived(
        self, connection: Connection, partition: RangePartition
    ) -> str | None:
        """Note that a partition is dropped, if its archive has what it has.

        :return: the folder of the archive; None if the partition is in none.
        :raises Postponed: it has not.
        """
        archived = self.archived.all(connection)
        self._require_removable(archived, partition)
        found = self.archived.find(archived, partition)
        if found is None:
            return None
        if not self.settings.without_archive and self.archived.is_changed(
            connection, found, partition
        ):
            raise Postponed("it was changed since it was archived; archive it anew")
        self.archived.mark_dropped(connection, found)
        folder: str = found.folder
        return folder

    def finish_removals(
        self, going: list[RangePartition], survey: MaintenanceSurvey
    ) -> Iterator[MaintenanceStep]:
        """Yield the steps that finish removals that have begun.

        PostgreSQL detaches one partition at a time, and an interrupted detachment has
        to be finished before another.

        :param going: the partitions that are being removed.
        :param survey: what there was when the run began.
        """
        first = sorted(going, key=lambda partition: not partition.is_detaching)[:1]
        for name in survey.removed.get(REMOVED + self.comment, ()):
            if name.schema == self.table.name.schema:
                yield self.drop(name)
        yield from map(self.detach, first)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a block a transaction, in which waits for locks are short."""
        with begin(self.settings.engine) as connection:
            wait_for_turn(connection)
            self._set_lock_timeout(connection, self.settings.lock_timeout, True)
            yield connection

    def _set_lock_timeout(
        self, connection: Connection, timeout: object, is_local: bool
    ) -> None:
        """Set how long statements wait for locks.

        :param timeout: a number of milliseconds, or text as the setting has it.
        :param is_local: True for the rest of the transaction only.
        """
        setting = func.set_config("lock_timeout", str(timeout), is_local)
        connection.execute(select(setting))

    def execute(self, connection: Connection, *statements: Fragment) -> None:
        """Execute statements of DDL."""
        for statement in statements:
            rendered = Raw(statement.render(self.schemas))
            connection.execute(Statement(rendered))

    def lock(self, connection: Connection, mode: str) -> None:
        """Lock the table and its partitions until the end of the transaction.

        :param mode: as in LOCK TABLE.
        """
        # Others write while this waits, so it may wait for longer.
        timeout = max(self.settings.lock_timeout, _ENDS_AUTOVACUUM)
        self._set_lock_timeout(connection, timeout, True)
        without_vacuum = lock_table(self.table.name, "SHARE UPDATE EXCLUSIVE")
        self.execute(connection, without_vacuum)
        self._set_lock_timeout(connection, self.settings.lock_timeout, True)
        self.execute(connection, lock_table(self.table.name, mode))

    def protect(
        self, partitions: list[RangePartition], survey: MaintenanceSurvey
    ) -> Iterator[MaintenanceStep]:
        """Yield the steps that give partitions their triggers, and no other rights."""
        triggers = self._triggers_of(partitions, survey)
        for partition in partitions:
            name, guards = partition.name, self.guards(partition.name)
            there = {trigger.name: trigger for trigger in triggers.get(name, ())}
            for guard in guards:
                found = there.get(guard.name)
                if found is None or found.enabled == "D":
                    yield self._guard(guard, found)
            for trigger in there.values():
                is_ours = trigger.fingerprint is not None
                if is_ours and trigger.name not in [guard.name for guard in guards]:
                    what = f"drop trigger {trigger.name} on {name.dotted}"
                    yield self.statement(what, Raw("DROP ") + trigger.target())
            for grantee in partition.grantees:
                yield self.statement(
                    f"revoke all on {name.dotted} from {grantee or 'PUBLIC'}",
                    revoke_all(name, grantee),
                )
            if partition.owner is not None:
                yield self.statement(
                    f"give {name.dotted} to {partition.owner}",
                    change_owner(name, partition.owner),
                )

    def _triggers_of(
        self, partitions: list[RangePartition], survey: MaintenanceSurvey
    ) -> TriggersOf:
        """Return the triggers of partitions, read once for each of them.

        What a step has done about one since is not done again in the run.
        """
        if self._triggers is None:
            known = survey.partitions.get(self.table.name, ())
            self._triggers = {partition.name for partition in known}, survey.triggers
        if not self._triggers[0].issuperset(p.name for p in partitions):
            schemas = [str(self.table.name.schema)]
            found = triggers_of(self.connection, schemas, partitions)
            self._triggers = {partition.name for partition in partitions}, found
        return self._triggers[1]

    def _guard(
        self, guard: PGTrigger, there: InstalledTrigger | None
    ) -> MaintenanceStep:
        if there is not None:
            what = f"enable trigger {guard.name} on {guard.table.dotted}"
            return self.statement(what, there.enable("O"))

        def run() -> None:
            with self.transaction() as connection:
                create_objects(connection, guard)

        what = f"create trigger {guard.name} on {guard.table.dotted}"
        return MaintenanceStep((what,), what, run)

    def statement(self, what: str, *statements: Fragment) -> MaintenanceStep:
        """Return a step that executes statements in a transaction."""

        def run() -> None:
            with self.transaction() as connection:
                self.execute(connection, *statements)

        return MaintenanceStep((what,), what, run)

    def create_tail(
        self, name: Qualified, lower: int | None, what: str
    ) -> MaintenanceStep:
        """Return the step that creates a partition without an end.

        :param name: with its schema in the database.
        :param lower: its lower bound; None for none.
        :param what: what the step does, in words.
        """

        def run() -> None:
            with self.transaction() as connection:
                self.create_partition(connection, name, lower, None)

        return MaintenanceStep((what,), what, run)

    def create_partition(
        self,
        connection: Connection,
        name: Qualified,
        lower: int | None,
        upper: int | None,
    ) -> None:
        """Create a partition, with its comment, its triggers and the right owner."""
        self.execute(connection, self.table.create(name, lower, upper))
        self.adopt(connection, name)

    def adopt(self, connection: Connection, partition: Qualified) -> None:
        """Give a new partition its comment, its triggers, and the right owner."""
        self.execute(connection, comment_on_table(partition, self.comment))
        create_objects(connection, *self.guards(partition))
        for made in self.partitions(connection):
            if made.name == partition:
                # By ALTER DEFAULT PRIVILEGES a role may have got some.
                self.execute(
                    connection, *(revoke_all(partition, g) for g in made.grantees)
                )
                if made.owner is not None:
                    self.execute(connection, change_owner(partition, made.owner))

    def detach(self, partition: RangePartition) -> MaintenanceStep:
        """Return the step that detaches a partition, while others go on."""
        attempts = itertools.count()

        def statement() -> Fragment:
            is_begun = partition.is_detaching
            if next(attempts) > 0:
                # By the attempt before this one.
                is_begun = any(
                    p.is_detaching and p.name == partition.name
                    for p in self.partitions(self.connection)
                )
            return self.table.detach(
                partition.name, "FINALIZE" if is_begun else "CONCURRENTLY"
            )

        what = f"detach {partition.name.dotted}"
        return self._outside(what, statement, then=(self.drop(partition.name),))

    def drop(self, partition: Qualified) -> MaintenanceStep:
        """Return the step that drops a partition that is detached."""
        drop = drop_table(partition)
        return self._outside(f"drop {partition.dotted}", lambda: drop)

    def _outside(
        self,
        what: str,
        statement: Callable[[], Fragment],
        then: tuple[MaintenanceStep, ...] = (),
    ) -> MaintenanceStep:
        """Return a step outside of a transaction, as it has some of its own."""

        def run() -> None:
            if self._lock_timeout is None:
                setting = select(func.current_setting("lock_timeout"))
                self._lock_timeout = self.connection.scalar(setting)
            self._set_lock_timeout(self.connection, self.settings.lock_timeout, False)
            try:
                self.execute(self.connection, statement())
            finally:
                if not self.connection.invalidated:
                    self._set_lock_timeout(self.connection, self._lock_timeout, False)

        return MaintenanceStep((what,), what, run, then)
