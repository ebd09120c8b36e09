"""The maintenance of the partitions of an event table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnClause,
    Connection,
    and_,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    table,
)
from sqlalchemy.exc import IntegrityError

from sa_history.capture.partitioning import (
    FIRST_ID,
    KEPT_OFFSET,
    EventPartitioning,
    Horizon,
)
from sa_history.ddl.elements import PGTrigger
from sa_history.ddl.partitions import (
    REMOVED,
    TIME_CHECK,
    RangePartition,
    comment_on_table,
    drop_table,
    drop_time_check,
    lock_table,
    time_check,
    validate_time_check,
)
from sa_history.ddl.table_properties import (
    create_foreign_keys,
    disabled_triggers,
    drop_foreign_keys,
    read_copied_columns,
    read_foreign_keys,
    validate_constraint,
)
from sa_history.install.partition_plan import (
    is_full,
    planned_cut,
    removable,
)
from sa_history.install.partition_state import PartitionState, sorted_out
from sa_history.install.partition_steps import (
    MaintenanceStep,
    Postponed,
    RunSettings,
    TableMaintenance,
)
from sa_history.install.partition_survey import MaintenanceSurvey
from sa_history.query.as_of_rows import are_last_no_more, last_events
from sa_history.query.removed_events import read_horizon
from sa_history.sealing.removal import last_sealed_id, record_removal
from sa_history.sealing.sources import wait_for_erasures
from sa_history.sql.compose import Qualified, SchemaNames
from sa_history.tracking.completeness import missing_operations
from sa_history.tracking.registry import Tracking


class EventMaintenance(TableMaintenance):
    """The maintenance of the partitions of one event table.

    :param tracking: the tracking with the event table.
    :param partitioning: how the event table is partitioned.
    """

    def __init__(
        self,
        settings: RunSettings,
        connection: Connection,
        tracking: Tracking,
        partitioning: EventPartitioning,
        schemas: SchemaNames,
    ) -> None:
        self.state = PartitionState(tracking, partitioning, schemas)
        super().__init__(
            settings,
            connection,
            self.state.table,
            schemas,
            partitioning.comment,
            tracking.event_table.metadata,
        )
        self.tracking = tracking
        self.partitioning = partitioning
        self.event_table = tracking.event_table
        self.kept = partitioning.kept.in_database(schemas)

    def first_partition(self) -> tuple[Qualified, int]:
        """Return the name of the first partition, and its lower bound."""
        return self.partitioning.name(FIRST_ID).in_database(self.schemas), FIRST_ID

    def guards(self, partition: Qualified) -> list[PGTrigger]:
        """Return the append-only trigger of a partition, if it has to have one."""
        return self.partitioning.guards(partition)

    def steps(self, survey: MaintenanceSurvey) -> Iterator[MaintenanceStep]:
        """Yield the steps that there are now, in their order.

        :param survey: what there was when the run began.
        """
        kept, used = sorted_out(self.current())
        going = [p for p in used if p.is_going]
        used = [p for p in used if not p.is_going]
        next_id = survey.next_ids[self.state.sequence]
        now = self.settings.now or survey.now
        yield from self.finish_removals(going, survey)
        yield from self._mend(kept, used, survey)
        usage = self.state.usage(self.connection, used, next_id, now)
        cut = planned_cut(usage, self.state.partition_by) if usage else None
        if usage is not None and cut is not None:
            empty = usage.following if cut.partition is usage.partition else ()
            yield self._cut(cut.partition, empty, cut.upper)
        for partition in used:
            if is_full(partition, next_id) and not partition.is_closed:
                yield self._close(partition)
        if self.settings.removes_some and not going:
            since = self.settings.keeps_since(now)
            # One at a time: what is kept of a partition comes before all that stays.
            yield from map(self._remove, removable(used, since, next_id)[:1])

    def _mend(
        self,
        kept: list[RangePartition],
        used: list[RangePartition],
        survey: MaintenanceSurvey,
    ) -> Iterator[MaintenanceStep]:
        """Yield the steps that make partitions as they have to be."""
        if (used and used[-1].upper is not None) or not used:
            lower = (used[-1].upper if used else None) or FIRST_ID
            tail = self.partitioning.name(lower).in_database(self.schemas)
            what = (
                f"create the last partition of {self.table.name.dotted}, from event "
                f"{lower}"
            )
            yield self.create_tail(tail, lower, what)
        for partition in used:
            if partition.is_validated is not None and not is_full(
                partition, survey.next_ids[self.state.sequence]
            ):
                # It would refuse the events that come.
                name = partition.name
                what = f"drop constraint {TIME_CHECK} of {name.dotted}"
                yield self.statement(what, drop_time_check(name))
        yield from self.protect([*kept, *used], survey)

    def _cut(
        self, partition: RangePartition, empty: Sequence[RangePartition], upper: int
    ) -> MaintenanceStep:
        """Return the step that gives a partition an end, with a new tail after it.

        It keeps all others out, and so no event is being written meanwhile. If there
        are events in the partition, PostgreSQL reads them once.

        :param empty: the partitions after it, which go.
        """

        def run() -> None:
            with self.transaction() as connection:
                self.lock(connection, "ACCESS EXCLUSIVE")
                end = max(upper, self.state.next_id(connection))
                for each in empty:
                    events = self.state.rows_of(each.name)
                    if connection.execute(select(events.c.pgh_id).limit(1)).first():
                        raise Postponed(f"{each.name.dotted} has events")
                    self.execute(connection, drop_table(each.name))
                # Else PostgreSQL does not detach a partition that rows refer to.
                keys = read_foreign_keys(connection, self.table.name)
                # Events with numbers of their own may be ahead of the sequence.
                last = select(func.max(self.state.rows_of(partition.name).c.pgh_id))
                end = max(end, (connection.execute(last).scalar_one() or 0) + 1)
                self.execute(
                    connection,
                    *drop_foreign_keys(keys),
                    self.table.detach(partition.name),
                    self.table.attach(partition.name, partition.lower, end),
                    *create_foreign_keys(keys),
                )
                tail = self.partitioning.name(end).in_database(self.schemas)
                self.create_partition(connection, tail, end, None)
            for key in keys:
                if key.is_validated:
                    referring = Qualified(key.schema, key.name)
                    validation = validate_constraint(referring, key.constraint_name)
                    with self.transaction() as connection:
                        self.execute(connection, validation)

        name = partition.name.dotted
        return MaintenanceStep(("end", name), f"end {name} before event {upper}", run)

    def _close(self, partition: RangePartition) -> MaintenanceStep:
        """Return the step that makes known between which times its events were made."""
        name = partition.name

        def run() -> None:
            with self.transaction() as connection:
                # No event of its numbers comes after those that are being written. It
                # is the lock that waits for them; it ends with the transaction.
                self.lock(connection, "SHARE ROW EXCLUSIVE")
            events = self.state.rows_of(name)
            times = select(
                func.min(events.c.pgh_created_at), func.max(events.c.pgh_created_at)
            )
            since, until = self.connection.execute(times).one()
            if since is None:
                since = until = self.now()
            with self.transaction() as connection:
                self.execute(
                    connection, drop_time_check(name), time_check(name, since, until)
                )
            try:
                with self.transaction() as connection:
                    self.execute(connection, validate_time_check(name))
            except IntegrityError:
                with self.transaction() as connection:
                    self.execute(connection, drop_time_check(name))
                raise Postponed("an event came in with a number of its own") from None

        return MaintenanceStep(("close", name.dotted), f"close {name.dotted}", run)

    def _remove(self, partition: RangePartition) -> MaintenanceStep:
        """Return the step that begins to remove a partition.

        It notes that its events are gone, and keeps the last one of each row. The rest
        is done by the steps that follow it, or by those of another run.
        """

        def run() -> None:
            with self.transaction() as connection:
                # Before it waits for who uses it.
                self.require_removable(connection, partition)
                is_first = self._hold(connection, partition)
                self._require_unreferred(connection, partition)
                self._require_sealed(connection, partition)
                # Deletions of kept events have to see what others have committed.
                folder = self.require_archived(connection, partition)
                horizon = self._horizon_without(connection, partition, folder)
                if is_first:
                    self._create_kept(connection)
                # What an event has set off is not to be set off by its copy.
                with disabled_triggers(connection, self.kept):
                    if not horizon.keeps_last:
                        connection.execute(delete(self.state.rows_of(self.kept)))
                    elif horizon.first_id == partition.upper:
                        self._keep_last_events(connection, partition, is_first)
                    # Else others of later numbers were removed before it was attached.
                if is_first:
                    self._attach_kept(connection)
                self._tell_seals(connection, partition)
                going = REMOVED + self.comment
                self.execute(
                    connection,
                    comment_on_table(self.kept, horizon.comment),
                    comment_on_table(partition.name, going),
                )

        name = partition.name.dotted
        then = (self.detach(partition),)
        return MaintenanceStep(("remove", name), f"remove {name}", run, then)

    def _hold(self, connection: Connection, partition: RangePartition) -> bool:
        """Keep a partition as it is until the end of the transaction.

        What is erased of its events has to be erased of their copies, too. So it is
        erased before these are made, or after.

        :return: True if there is no partition of kept events yet.
        """
        if self.tracking.options.is_erasable:
            # An erasure reads the numbers of the events first.
            wait_for_erasures(connection)
        self.execute(connection, lock_table(partition.name, "SHARE"))
        partitions = self.partitions(connection)
        if partition not in partitions:
            raise Postponed("somebody has detached or changed it")
        for default in (p.name.dotted for p in partitions if p.is_default):
            raise Postponed(
                f"while there is the default partition {default}, PostgreSQL detaches "
                "no other one concurrently; detach it"
            )
        return not self._find_kept(partitions)

    def _find_kept(self, partitions: Sequence[RangePartition]) -> bool:
        """Find the partition of kept events; return False if there is none yet."""
        kept, _ = sorted_out(partitions)
        for partition in kept[:1]:
            self.kept = partition.name
        return bool(kept)

    def _require_sealed(
        self, connection: Connection, partition: RangePartition
    ) -> None:
        """Postpone the removal of events that are to be sealed, and are not yet.

        The last ones of their rows are kept, which a verification would take for events
        that somebody has added to what was sealed without them.
        """
        if not self.tracking.options.sealed or not self.settings.keeps_last:
            return
        last_id = last_sealed_id(
            connection, self.event_table.metadata, self.event_table.fullname
        )
        events = self.state.rows_of(partition.name)
        unsealed = select(literal(1)).where(events.c.pgh_id > last_id).limit(1)
        if connection.execute(unsealed).first():
            raise Postponed(
                "some of its events are not sealed yet; seal them, or give "
                "keep_last_events=False (--without-last-events)"
            )

    def _tell_seals(self, connection: Connection, partition: RangePartition) -> None:
        """Record the removal for verifications, if the events are sealed."""
        if not self.tracking.options.sealed:
            return
        assert partition.upper is not None
        record_removal(
            connection,
            self.event_table.metadata,
            self.event_table.fullname,
            partition.lower or FIRST_ID,
            partition.upper - 1,
            self._reason(),
        )

    def _reason(self) -> str:
        keep = self.settings.keep
        return "archived" if keep is None else f"kept for {keep}"

    def _require_unreferred(
        self, connection: Connection, partition: RangePartition
    ) -> None:
        """Postpone the removal of events that rows of other tables refer to."""
        events = self.state.rows_of(partition.name)
        for key in read_foreign_keys(connection, self.table.name):
            referring = table(key.name, *map(column, key.columns), schema=key.schema)
            refers = and_(
                *(
                    events.c[referred] == referring.c[name]
                    for name, referred in zip(key.columns, key.referred, strict=True)
                )
            )
            found = select(literal(1)).select_from(referring.join(events, refers))
            if connection.execute(found.limit(1)).first():
                raise Postponed(
                    f"rows of {key.schema}.{key.name} refer to its events "
                    f"({key.constraint_name})"
                )

    def _horizon_without(
        self, connection: Connection, partition: RangePartition, folder: str | None
    ) -> Horizon:
        """Return how far back events will have been removed.

        :param folder: that of the archive of the partition; None if it is in none.
        :raises Postponed: the last events before the partition cannot be kept.
        """
        assert partition.upper is not None
        assert partition.until is not None
        before = read_horizon(connection, self.tracking)
        first_id = FIRST_ID if before is None else before.first_id
        if self.settings.keeps_last and (partition.lower or FIRST_ID) > first_id:
            raise Postponed(
                f"the events from {first_id} on are not there, so that the last one of "
                "each row cannot be kept; attach their partition, or give "
                "keep_last_events=False (--without-last-events)"
            )
        events = self.state.rows_of(partition.name)
        last = connection.execute(select(func.max(events.c.pgh_xact_id))).scalar_one()
        horizon = Horizon(
            partition.upper,
            partition.until,
            last or 0,
            self.settings.keeps_last,
            folder,
        )
        if before is None:
            return horizon
        return Horizon(
            max(horizon.first_id, before.first_id),
            max(horizon.until, before.until),
            max(horizon.transaction, before.transaction),
            # What once was not kept is not known any more.
            horizon.keeps_last and before.keeps_last,
            horizon.archive or before.archive,
        )

    def _create_kept(self, connection: Connection) -> None:
        """Create what becomes the partition of kept events.

        It gets its indexes when it is attached, since it takes a fraction of the time
        and of the log to build them of all events at once.
        """
        self.execute(
            connection,
            # The lock of attaching it, before it is filled.
            lock_table(self.table.name, "SHARE UPDATE EXCLUSIVE", recurse=False),
            self.table.create_alike(self.kept, has_indexes=False),
        )

    def _attach_kept(self, connection: Connection) -> None:
        self.execute(connection, self.table.attach(self.kept, None, FIRST_ID))
        self.adopt(connection, self.kept)

    def _keep_last_events(
        self, connection: Connection, partition: RangePartition, is_first: bool
    ) -> None:
        """Copy the last event of each row that is there, below all other numbers.

        :param is_first: True if none was kept before.
        """
        assert partition.upper is not None
        if missing_operations(self.tracking):
            return  # the events do not tell what rows there are
        lower = partition.lower or FIRST_ID
        kept = self.state.rows_of(self.kept)
        if not is_first:
            for criterion in are_last_no_more(
                self.tracking, kept, lower, partition.upper
            ):
                connection.execute(delete(kept).where(criterion))
        last = last_events(self.tracking, lower, partition.upper).subquery()
        values = {c.name: last.columns[c.key] for c in self.event_table.columns} | {
            "pgh_id": last.c.pgh_id - KEPT_OFFSET
        }
        rows = select(*values.values())
        # Others may have added columns to the table.
        present = read_copied_columns(connection, partition.name)
        added: list[ColumnClause[Any]] = [
            column(name) for name in present if name not in values
        ]
        if added:
            events = table(
                partition.name.name,
                column("pgh_id"),
                *added,
                schema=partition.name.schema,
            )
            rows = rows.join(events, events.c.pgh_id == last.c.pgh_id)
            rows = rows.add_columns(*added)
            values |= {each.name: each for each in added}
        names = list(values)
        copies = table(self.kept.name, *map(column, names), schema=self.kept.schema)
        connection.execute(insert(copies).from_select(names, rows))
