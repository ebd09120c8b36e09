"""The maintenance of partitions: ending them in time, and removing old ones.

Each step is a transaction of its own, or a statement that must not be in one, and
begins with what the database has then. So a run that was interrupted is finished by the
next one, and two runs at once do nothing twice.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import (
    BigInteger,
    Connection,
    Delete,
    Engine,
    MetaData,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from sa_history.capture.partitioning import (
    FIRST_ID,
    KEPT_OFFSET,
    EventPartitioning,
    Horizon,
)
from sa_history.ddl.advisory_lock import KEY, wait_for_turn
from sa_history.ddl.catalog import InstalledTrigger, read_catalog
from sa_history.ddl.elements import PGTrigger, Statement
from sa_history.ddl.execution import begin, create_objects, schema_names
from sa_history.ddl.partitions import (
    REMOVED,
    TIME_CHECK,
    RangePartition,
    change_owner,
    comment_on_table,
    drop_time_check,
    read_range_partitions,
    revoke_all,
    time_check,
    validate_time_check,
)
from sa_history.exc import InstallError
from sa_history.install.drift import dotted, in_database
from sa_history.install.expected import trackings_in
from sa_history.install.partition_plan import (
    is_full,
    keep_since,
    planned_cut,
    removable,
)
from sa_history.install.partition_state import (
    PartitionState,
    sorted_out,
    time_in_database,
)
from sa_history.query.as_of_rows import PointInTime, last_events
from sa_history.query.removed_events import read_horizon
from sa_history.sql.compose import Fragment, Ident, Joined, Qualified, Raw
from sa_history.sql.naming import AS_OF
from sa_history.tracking.completeness import missing_operations
from sa_history.tracking.registry import Tracking
from sa_history.util.postgresql import sqlstate_of

_RUN_KEY = KEY + 1
"""The advisory lock of a whole run; each of its transactions has that of installing."""

_LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK = "40P01"


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
class _Step:
    """Something to do, once in a run.

    :param key: what it does, and to what.
    :param what: the same in words.
    :param run: does it.
    """

    key: tuple[str, ...]
    what: str
    run: Callable[[], None]


class _Postponed(Exception):
    """A step cannot be done now; the text says why."""


@dataclass(frozen=True, eq=False)
class Maintenance:
    """One run for all partitioned event tables of some models.

    :param engine: the engine, whose user owns the tables.
    :param metadatas: the models.
    :param keep: for how long events are kept; None to remove nothing.
    :param keeps_last: True to keep the last event of each row when others are removed.
    :param now: the time; None for that of the database.
    :param lock_timeout: how long a step waits for a lock, in milliseconds.
    :param attempts: how often a step tries to get its locks.
    """

    engine: Engine
    metadatas: Sequence[MetaData]
    keep: str | None
    keeps_last: bool
    now: datetime.datetime | None
    lock_timeout: int
    attempts: int

    def run(self, dry_run: bool) -> list[PartitionReport]:
        """Do what there is to do, table by table.

        :param dry_run: True to only say what would be done first.
        """
        partitioned = [
            (tracking, partitioning)
            for metadata in self.metadatas
            for tracking in trackings_in(metadata)
            for partitioning in [tracking.partitioning()]
            if partitioning is not None
        ]
        if not partitioned:
            return []
        with self._turn() as connection:
            return [
                _TableMaintenance(self, connection, *each).run(dry_run)
                for each in partitioned
            ]

    @contextmanager
    def _turn(self) -> Iterator[Connection]:
        """Wait until no other run goes on; give a connection that commits by itself."""
        lock, unlock = (
            select(function(cast(_RUN_KEY, BigInteger)))
            for function in (func.pg_advisory_lock, func.pg_advisory_unlock)
        )
        with self.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(lock)
            try:
                yield connection
            finally:
                connection.execute(unlock)


@dataclass(eq=False)
class _TableMaintenance:
    """The maintenance of one event table.

    :param settings: the run.
    :param connection: a connection that commits each statement.
    :param tracking: the tracking with the event table.
    :param partitioning: how the event table is partitioned.
    :param done: the steps that were done, in words.
    :param postponed: the steps that could not be done, with the reason.
    """

    settings: Maintenance
    connection: Connection
    tracking: Tracking
    partitioning: EventPartitioning
    done: list[str] = field(default_factory=list)
    postponed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Find out how the tables are called."""
        self.schemas = schema_names(self.connection)
        self.state = PartitionState(self.tracking, self.partitioning, self.schemas)
        self.table = self.state.table
        self.kept = in_database(self.partitioning.kept, self.schemas)
        self.event_table = self.tracking.event_table

    def run(self, dry_run: bool) -> PartitionReport:
        """Do one step after the other, and return the report."""
        name = dotted(self.table.name)
        if self.state.partitions(self.connection) is None:
            raise InstallError(
                f"{name} is no partitioned table in the database; create it by a "
                "migration or create_all(), or convert it"
            )
        if dry_run:
            next_id = self.state.next_id(self.connection)
            self.done += [step.what for step in self._steps(next_id)]
        else:
            # What others write meanwhile is left to the next run.
            next_id = self.state.next_id(self.connection)
            tried: set[tuple[str, ...]] = set()
            while step := next(
                (s for s in self._steps(next_id) if s.key not in tried), None
            ):
                tried.add(step.key)
                self._try(step)
        return PartitionReport(
            name,
            tuple(self.done),
            tuple(self.postponed),
            tuple(self.state.partitions(self.connection) or ()),
        )

    def _try(self, step: _Step) -> None:
        why = "others are using the table"
        for attempt in range(self.settings.attempts):
            try:
                step.run()
            except _Postponed as postponed:
                why = str(postponed)
                break
            except DBAPIError as error:
                if sqlstate_of(error.orig) not in (_LOCK_NOT_AVAILABLE, _DEADLOCK):
                    raise
                time.sleep(0.05 * 2**attempt)
            else:
                self.done.append(step.what)
                return
        self.postponed.append(f"{step.what}: {why}")

    # What there is to do.

    def _steps(self, next_id: int) -> list[_Step]:
        """Return the steps that there are now, in their order.

        :param next_id: the number that the sequence gave next when the run began.
        """
        found = self.state.partitions(self.connection) or []
        kept, used = sorted_out(found)
        # PostgreSQL detaches one at a time, and an interrupted one has to be finished.
        going = sorted(
            (p for p in used if p.is_going), key=lambda p: not p.is_detaching
        )
        steps = [
            *map(self._drop, self._left_over()),
            *map(self._detach, going[:1]),
        ]
        used = [p for p in used if not p.is_going]
        steps += self._mend(kept, used, next_id)
        usage = self.state.usage(self.connection, used, next_id, self._now())
        cut = planned_cut(usage, self.partitioning.partition_by) if usage else None
        if usage is not None and cut is not None:
            empty = usage.following if cut.partition is usage.partition else ()
            steps.append(self._cut(cut.partition, empty, cut.upper))
        steps += [
            self._close(partition)
            for partition in used
            if is_full(partition, next_id) and not partition.is_closed
        ]
        if self.settings.keep is not None and not going:
            since = keep_since(self.settings.keep, self._now())
            steps += map(self._remove, removable(used, since, next_id))
        return steps

    def _now(self) -> datetime.datetime:
        return self.settings.now or time_in_database(self.connection)

    def _left_over(self) -> list[Qualified]:
        """Return partitions that are detached, and not yet dropped."""
        query = text(
            "SELECT c.relname FROM pg_catalog.pg_class AS c"
            " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND c.relkind = 'r' AND NOT c.relispartition"
            " AND obj_description(c.oid, 'pg_class') = :comment ORDER BY c.relname"
        )
        schema = self.table.name.schema
        going = {"schema": schema, "comment": REMOVED + self.partitioning.comment}
        names = self.connection.scalars(query, going)
        return [Qualified(schema, name) for name in names]

    # The steps.

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
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

    def _execute(self, connection: Connection, *statements: Fragment) -> None:
        for statement in statements:
            rendered = Raw(statement.render(self.schemas))
            connection.execute(Statement(rendered))

    def _lock(self, connection: Connection, mode: str) -> None:
        parts = (Raw("LOCK TABLE "), self.table.name, Raw(f" IN {mode} MODE"))
        self._execute(connection, Joined(parts))

    def _mend(
        self, kept: list[RangePartition], used: list[RangePartition], next_id: int
    ) -> Iterator[_Step]:
        """Yield the steps that make partitions as they have to be."""
        if (used and used[-1].upper is not None) or not used:
            yield self._create_tail((used[-1].upper if used else None) or FIRST_ID)
        for partition in used:
            if partition.is_validated is not None and not is_full(partition, next_id):
                # It would refuse the events that come.
                name = partition.name
                what = f"drop constraint {TIME_CHECK} of {dotted(name)}"
                yield self._statement(what, drop_time_check(name))
        yield from self._protect([*kept, *used])

    def _create_tail(self, lower: int) -> _Step:
        def run() -> None:
            with self._transaction() as connection:
                tail = in_database(self.partitioning.name(lower), self.schemas)
                self._execute(connection, self.table.create(tail, lower, None))
                self._adopt(connection, tail)

        name = dotted(self.table.name)
        what = f"create the last partition of {name}, from event {lower}"
        return _Step((what,), what, run)

    def _protect(self, partitions: list[RangePartition]) -> Iterator[_Step]:
        """Yield the steps that give partitions their triggers, and no other rights."""
        triggers = read_catalog(
            self.connection, [str(self.table.name.schema)], definitions=False
        ).triggers
        for partition in partitions:
            name = partition.name
            for guard in self.partitioning.guards(name):
                there = triggers.get((name, guard.name))
                if there is None or there.enabled == "D":
                    yield self._guard(guard, there)
            for grantee in partition.grantees:
                yield self._statement(
                    f"revoke all on {dotted(name)} from {grantee or 'PUBLIC'}",
                    revoke_all(name, grantee),
                )
            if partition.owner is not None:
                yield self._statement(
                    f"give {dotted(name)} to {partition.owner}",
                    change_owner(name, partition.owner),
                )

    def _guard(self, guard: PGTrigger, there: InstalledTrigger | None) -> _Step:
        if there is not None:
            what = f"enable trigger {guard.name} on {dotted(guard.table)}"
            return self._statement(what, there.enable("O"))

        def run() -> None:
            with self._transaction() as connection:
                create_objects(connection, guard)

        what = f"create trigger {guard.name} on {dotted(guard.table)}"
        return _Step((what,), what, run)

    def _statement(self, what: str, *statements: Fragment) -> _Step:
        def run() -> None:
            with self._transaction() as connection:
                self._execute(connection, *statements)

        return _Step((what,), what, run)

    def _cut(
        self, partition: RangePartition, empty: Sequence[RangePartition], upper: int
    ) -> _Step:
        """Return the step that gives a partition an end, with a new tail after it.

        It keeps all others out, and so no event is being written meanwhile. If there
        are events in the partition, PostgreSQL reads them once.

        :param empty: the partitions after it, which go.
        """

        def run() -> None:
            with self._transaction() as connection:
                lock = Joined(
                    (
                        Raw("LOCK TABLE "),
                        self.table.name,
                        Raw(" IN ACCESS EXCLUSIVE MODE"),
                    )
                )
                self._execute(connection, lock)
                end = max(upper, self.state.next_id(connection))
                for each in empty:
                    events = self.state.rows_of(each.name)
                    if connection.execute(select(events.c.pgh_id).limit(1)).first():
                        raise _Postponed(f"{dotted(each.name)} has events")
                    self._execute(connection, Raw("DROP TABLE ") + each.name)
                if partition.is_tail:
                    last = select(func.max(self.state.rows_of(partition.name).c.pgh_id))
                    end = max(end, (connection.execute(last).scalar_one() or 0) + 1)
                self._execute(
                    connection,
                    self.table.detach(partition.name),
                    self.table.attach(partition.name, partition.lower, end),
                )
                tail = in_database(self.partitioning.name(end), self.schemas)
                self._execute(connection, self.table.create(tail, end, None))
                self._adopt(connection, tail)

        name = dotted(partition.name)
        return _Step(("end", name), f"end {name} before event {upper}", run)

    def _adopt(self, connection: Connection, partition: Qualified) -> None:
        """Give a new partition its comment, its triggers, and the right owner."""
        self._execute(
            connection, comment_on_table(partition, self.partitioning.comment)
        )
        create_objects(connection, *self.partitioning.guards(partition))
        schema = str(self.table.name.schema)
        found = read_range_partitions(connection, [schema])[self.table.name]
        for made in found:
            if made.name == partition:
                # By ALTER DEFAULT PRIVILEGES a role may have got some.
                self._execute(
                    connection, *(revoke_all(partition, g) for g in made.grantees)
                )
                if made.owner is not None:
                    self._execute(connection, change_owner(partition, made.owner))

    def _close(self, partition: RangePartition) -> _Step:
        """Return the step that makes known between which times its events were made."""
        name = partition.name

        def run() -> None:
            with self._transaction() as connection:
                # No event of its numbers comes after those that are being written. It
                # is the lock that waits for them; it ends with the transaction.
                self._lock(connection, "SHARE ROW EXCLUSIVE")
            events = self.state.rows_of(name)
            times = select(
                func.min(events.c.pgh_created_at), func.max(events.c.pgh_created_at)
            )
            since, until = self.connection.execute(times).one()
            if since is None:
                since = until = self._now()
            with self._transaction() as connection:
                self._execute(
                    connection, drop_time_check(name), time_check(name, since, until)
                )
            try:
                with self._transaction() as connection:
                    self._execute(connection, validate_time_check(name))
            except IntegrityError:
                with self._transaction() as connection:
                    self._execute(connection, drop_time_check(name))
                raise _Postponed("an event came in with a number of its own") from None

        return _Step(("close", dotted(name)), f"close {dotted(name)}", run)

    def _remove(self, partition: RangePartition) -> _Step:
        """Return the step that begins to remove a partition.

        It notes that its events are gone, and keeps the last one of each row. The rest
        is done by the steps that follow, of this run or of another.
        """

        def run() -> None:
            with self._transaction() as connection:
                # Deletions of kept events have to see what others have committed.
                horizon = self._horizon_without(connection, partition)
                self._ensure_kept(connection)
                if horizon.keeps_last:
                    self._keep_last_events(connection, partition)
                else:
                    self._delete_kept(connection, delete(self.state.rows_of(self.kept)))
                going = REMOVED + self.partitioning.comment
                self._execute(
                    connection,
                    comment_on_table(self.kept, horizon.comment),
                    comment_on_table(partition.name, going),
                )

        name = dotted(partition.name)
        return _Step(("remove", name), f"remove {name}", run)

    def _horizon_without(
        self, connection: Connection, partition: RangePartition
    ) -> Horizon:
        """Return how far back events will have been removed."""
        assert partition.upper is not None
        assert partition.until is not None
        before = read_horizon(connection, self.tracking)
        events = self.state.rows_of(partition.name)
        last = connection.execute(select(func.max(events.c.pgh_xact_id))).scalar_one()
        horizon = Horizon(
            partition.upper, partition.until, last or 0, self.settings.keeps_last
        )
        if before is None:
            return horizon
        return Horizon(
            partition.upper,
            max(horizon.until, before.until),
            max(horizon.transaction, before.transaction),
            # What once was not kept is not known any more.
            horizon.keeps_last and before.keeps_last,
        )

    def _ensure_kept(self, connection: Connection) -> None:
        schema = str(self.table.name.schema)
        found = read_range_partitions(connection, [schema])[self.table.name]
        for partition in sorted_out(found)[0]:
            self.kept = partition.name
            return
        self._execute(
            connection,
            self.table.create_alike(self.kept),
            self.table.attach(self.kept, None, FIRST_ID),
        )
        self._adopt(connection, self.kept)

    def _keep_last_events(
        self, connection: Connection, partition: RangePartition
    ) -> None:
        """Copy the last event of each row that is there, below all other numbers."""
        assert partition.upper is not None
        if missing_operations(self.tracking):
            return  # the events do not tell what rows there are
        value = func.set_config(AS_OF, str(partition.upper - 1), True)
        connection.execute(select(value))
        last = last_events(self.tracking, PointInTime.EVENT).subquery()
        kept = self.state.rows_of(self.kept)
        is_last = select(last.c.pgh_id).where(last.c.pgh_id == kept.c.pgh_id).exists()
        self._delete_kept(connection, delete(kept).where(~is_last))
        values = {c.name: last.columns[c.key] for c in self.event_table.columns} | {
            "pgh_id": last.c.pgh_id - KEPT_OFFSET
        }
        rows = select(*values.values()).where(
            last.c.pgh_id >= bindparam("lower", partition.lower)
        )
        connection.execute(insert(kept).from_select(list(values), rows))

    def _delete_kept(self, connection: Connection, statement: Delete) -> None:
        """Delete kept events, past the trigger that refuses it."""
        guards = self.partitioning.guards(self.kept)
        for state in ("DISABLE", "ENABLE"):
            for guard in guards:
                self._execute(
                    connection,
                    Joined((Raw("ALTER TABLE "), self.kept, Raw(f" {state} TRIGGER ")))
                    + Ident(guard.name),
                )
            if state == "DISABLE":
                connection.execute(statement)

    def _detach(self, partition: RangePartition) -> _Step:
        """Return the step that detaches a partition, while others go on."""

        def statement() -> Fragment:
            # Also by an attempt before this one.
            is_begun = any(
                p.is_detaching and p.name == partition.name
                for p in self.state.partitions(self.connection) or ()
            )
            return self.table.detach(
                partition.name, "FINALIZE" if is_begun else "CONCURRENTLY"
            )

        return self._outside(f"detach {dotted(partition.name)}", statement)

    def _drop(self, partition: Qualified) -> _Step:
        drop = Raw("DROP TABLE ") + partition
        return self._outside(f"drop {dotted(partition)}", lambda: drop)

    def _outside(self, what: str, statement: Callable[[], Fragment]) -> _Step:
        """Return a step outside of a transaction, as it has some of its own."""

        def run() -> None:
            setting = select(func.current_setting("lock_timeout"))
            before = self.connection.scalar(setting)
            self._set_lock_timeout(self.connection, self.settings.lock_timeout, False)
            try:
                self._execute(self.connection, statement())
            finally:
                self._set_lock_timeout(self.connection, before, False)

        return _Step((what,), what, run)
