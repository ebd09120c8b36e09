"""A table with rows becomes partitioned, or one table again, while others write it.

What takes long lets others write. At last the name of the table is given to another
one, which locks it for some milliseconds; it waits for the lock only shortly, and asks
again, since whoever writes would wait behind it. On the way to partitions each step is
a transaction, and a run that is interrupted goes on where it was. The way back is one
transaction, so that no row changes between its copy and the end.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from sa_history.ddl.elements import Statement, drop_trigger
from sa_history.ddl.execution import (
    execute_statements,
    require_new_snapshots,
    server_in_run,
)
from sa_history.ddl.partitions import (
    PartitionedTable,
    RangePartition,
    comment_on_table,
    drop_table,
    lock_table,
    read_partitions_of,
    revoke_all,
)
from sa_history.ddl.table_properties import (
    TableProperties,
    create_foreign_keys,
    drop_foreign_keys,
    grantees_of,
    read_copied_columns,
    read_foreign_keys,
    read_properties,
    read_table,
    rename_index,
    rename_table,
    validate_constraint,
)
from sa_history.exc import InstallError
from sa_history.sql import table_queries as queries
from sa_history.sql.compose import Fragment, Ident, Idents, Joined, Qualified, Raw
from sa_history.sql.naming import shortened
from sa_history.util.postgresql import LOCK_REFUSALS, sqlstate_of

LOWER_CHECK = "pgh_lower_check"
"""The constraint by which PostgreSQL knows that all rows fit the first partition."""

_COPY_COMMENT = "Rows of a partitioned table that becomes one table"

Report = Callable[[str], None]
"""Is told what has been done, in words."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a lock.

    :param lock: the milliseconds of one attempt, which others may have to wait as well.
    :param pause: the milliseconds between two attempts.
    :param total: the seconds after which to give up.
    """

    lock: int = 100
    pause: int = 200
    total: float = 60


@dataclass(frozen=True)
class Repartition:
    """A table and the partition that its rows are in, as long as there is one only.

    :param connection: its transactions are begun and ended here, unless it is in one.
    :param table: the table; its name has the schema.
    :param first: the name of the first partition.
    :param lower: the lowest key that the first partition takes; None for any.
    :param report: is told each step that was done.
    :param patience: how long to wait for a lock.
    """

    connection: Connection
    table: PartitionedTable
    first: Qualified
    lower: int | None
    report: Report
    patience: Patience = Patience()
    _memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def partition(self) -> None:
        """Make a plain table partitioned; its rows are in the first partition.

        :raises InstallError: the table has what cannot be given to another table, or
            rows that the first partition does not take; it is never free; or the
            transaction is not READ COMMITTED.
        """
        with _transaction(self.connection):
            own = self._own()
            if own.kind != "p":
                self._refuse_what_stays(own)
        if own.kind != "p":
            self._check_lower_bound()
            with self._transaction_without_ddl() as is_own:
                if self._own().kind != "p":  # else another run was faster
                    self._replace(self._give_rows_to_first, is_part=is_own)
            self.report(f"{self.table.name.dotted} is partitioned")
        self._validate_foreign_keys()

    def unpartition(self) -> None:
        """Make a partitioned table a plain one, which has the rows of all partitions.

        The rows of closed partitions, in which nobody changes any meanwhile, are copied
        before the table is locked, those of the others while it is. A sole partition
        becomes the table, without a copy.

        :raises InstallError: the table has what cannot be given to another table; it
            is never free; or the transaction is not READ COMMITTED.
        """
        with self._transaction_without_ddl() as is_own:
            own = self._own()
            if own.kind == "p":
                self._refuse_what_stays(own)
                found = read_partitions_of(self.connection, self.table.name) or []
                # Of one whose removal has begun, what is kept is in another one.
                partitions = [p for p in found if not p.is_going]
                copied = self._copy_closed(partitions) if len(found) != 1 else []
                rows = found[0].name if len(found) == 1 else self._copy
                self._replace(
                    lambda old: self._give_rows_back(old, rows, partitions, copied),
                    is_part=is_own,
                )
        if own.kind == "p":
            self.report(f"{self.table.name.dotted} is one table")
        self._validate_foreign_keys()

    # ------------------------------------------------------------ both ways

    def _own(self) -> Row[Any]:
        own = read_table(self.connection, self.table.name)
        if own is None:
            raise InstallError(
                f"there is no table {self.table.name.dotted}; create it first, by "
                "create_all() or a migration"
            )
        return own

    def _refuse_what_stays(self, own: Row[Any]) -> None:
        parameters = {"oid": own.oid, "key": self.table.key}
        reasons = []
        if own.kind not in ("r", "p") or own.persistence != "p" or own.is_partition:
            reasons.append("it is no ordinary table")
        if own.has_policies:
            reasons.append("it has row level security")
        for name in self.connection.execute(
            text(queries.UNIQUE_WITHOUT), parameters
        ).scalars():
            reasons.append(f"its unique index {name} is without {self.table.key}")
        for what in self.connection.execute(
            text(queries.DEPENDENT), parameters
        ).scalars():
            reasons.append(f"{what} depends on it")
        if reasons:
            raise InstallError(
                f"the partitions of {self.table.name.dotted} cannot be made or taken "
                f"away: {'; '.join(reasons)}; drop that, and make it again afterwards"
            )

    def _execute(self, *statements: Fragment) -> None:
        for statement in statements:
            self.connection.execute(Statement(statement))

    @contextmanager
    def _transaction_without_ddl(self) -> Iterator[bool]:
        """Give a block a transaction in which nobody else changes the table's DDL.

        Others read and write it. No partition is attached or detached until the end,
        and there is no other run. If an autovacuum is in the way, PostgreSQL ends it
        once this has waited for ``deadlock_timeout``, which is longer than anybody
        waits for the lock that keeps out writers.

        :return: True if the transaction ends with the block.
        """
        with _transaction(self.connection) as is_own:
            self._own()
            # What others write until the lock would stay behind.
            remedy = "convert it at READ COMMITTED, as in autocommit_block()"
            require_new_snapshots(
                self.connection, InstallError, f"{remedy} of a revision"
            )
            self._execute(
                lock_table(self.table.name, "SHARE UPDATE EXCLUSIVE", recurse=False)
            )
            yield is_own

    def _replace(
        self, work: Callable[[TableProperties], None], *, is_part: bool
    ) -> None:
        """Have another table take the name of this one, while nobody else has it.

        What it has is read before it is locked. Views and privileges can be changed
        until then; if they were, it is read again.

        :param work: is given what the table has.
        :param is_part: as for :meth:`_with_lock`.
        """
        own = self._own()
        version = self._version(own)
        self._refuse_what_stays(own)
        read = read_properties(self.connection, self.table.name)
        server_in_run(self.connection, self._memo)

        def replace() -> None:
            if self._version(own) == version:
                work(read)
            else:
                self._refuse_what_stays(own)
                work(read_properties(self.connection, self.table.name))

        self._with_lock(replace, is_part=is_part)

    def _version(self, own: Row[Any]) -> str:
        """Return a text that is another one after each change of what the table has."""
        found = self.connection.execute(text(queries.VERSION), {"oid": own.oid})
        return str(found.scalar_one())

    def _with_lock(self, work: Callable[[], None], *, is_part: bool = False) -> None:
        """Do work in a transaction that has locked the table.

        :param is_part: True in a transaction that was begun here; it is a part of that.
        """
        given_up = time.monotonic() + self.patience.total
        while True:
            attempt = (
                _savepoint(self.connection)
                if is_part
                else _transaction(self.connection)
            )
            try:
                with attempt as may_repeat:
                    self._execute(
                        Raw(f"SET LOCAL lock_timeout = {self.patience.lock}"),
                        lock_table(self.table.name, "ACCESS EXCLUSIVE"),
                    )
                    work()
            except DBAPIError as error:
                if sqlstate_of(error.orig) not in LOCK_REFUSALS or not may_repeat:
                    raise
                if time.monotonic() > given_up:
                    raise InstallError(
                        f"{self.table.name.dotted} was in use for "
                        f"{self.patience.total:g} seconds; end the transaction that "
                        "has been open for so long (pg_stat_activity shows it), and "
                        "run it again"
                    ) from error
                time.sleep(self.patience.pause / 1000)
            else:
                return

    def _validate_foreign_keys(self) -> None:
        with _transaction(self.connection):
            keys = read_foreign_keys(self.connection, self.table.name)
        for key in keys:
            if not key.is_validated:
                with _transaction(self.connection):
                    self._execute(
                        validate_constraint(
                            Qualified(key.schema, key.name), key.constraint_name
                        )
                    )
                self.report(f"foreign key {key.constraint_name} is valid")

    def _change(self, old: TableProperties, *statements: Fragment) -> None:
        """Execute what gives the name to another table, and give that what is left.

        Others wait meanwhile, so it is few round trips.

        :param old: what the table had.
        """
        changes = [
            *statements,
            *old.create_triggers(),
            *create_foreign_keys(old.foreign_keys),
            *old.replace_views(),
        ]
        execute_statements(self.connection, changes, self._memo)
        unwanted = grantees_of(self.connection, self.table.name)
        execute_statements(self.connection, old.give(unwanted), self._memo)

    # ------------------------------------------------------- to partitions

    def _check_lower_bound(self) -> None:
        if self.lower is None:
            return
        name = self.table.name
        find = text(queries.CHECK)
        with _transaction(self.connection):
            found = self.connection.execute(
                find, {"oid": self._own().oid, "name": LOWER_CHECK}
            ).scalar()
        if found is None:
            with self._transaction_without_ddl() as is_own:
                self._with_lock(
                    lambda: self._execute(self._lower_check()), is_part=is_own
                )
        if not found:
            try:
                with _transaction(self.connection):
                    self._execute(validate_constraint(name, LOWER_CHECK))
            except IntegrityError as error:
                raise InstallError(
                    f"{name.dotted} has rows whose {self.table.key} is below "
                    f"{self.lower}, which no partition takes; give them other numbers "
                    "or delete them, and run it again"
                ) from error
            self.report(f"all rows of {name.dotted} fit the first partition")

    def _lower_check(self) -> Fragment:
        assert self.lower is not None
        return Joined(
            (
                Raw("ALTER TABLE "),
                self.table.name,
                Raw(" ADD CONSTRAINT "),
                Ident(LOWER_CHECK),
                Raw(" CHECK ("),
                Ident(self.table.key),
                Raw(" >= "),
                self.table.value(self.lower),
                Raw(") NOT VALID"),
            )
        )

    def _give_rows_to_first(self, old: TableProperties) -> None:
        name, first = self.table.name, self.first
        grantees = dict.fromkeys(grant.grantee for grant in old.grants)
        self._change(
            old,
            *drop_foreign_keys(old.foreign_keys),
            *old.drop_row_triggers(name),
            rename_table(name, first.name),
            *(
                rename_index(first, index, free)
                for index, free in zip(
                    old.indexes, self._index_names(old), strict=False
                )
            ),
            self._create_like(first),
            *old.create_indexes(),
            *old.create_own_foreign_keys(),
            self.table.attach(first, self.lower, None),
            _drop_check(name),
            _drop_check(first),
            *(revoke_all(first, role) for role in grantees),
        )

    def _index_names(self, old: TableProperties) -> Iterator[str]:
        """Yield names for the indexes of the first partition.

        A table that somebody has made of a partition by hand has some of these names,
        which go to the indexes of the new table.
        """
        used = {index.name for index in old.indexes}
        names = (shortened(f"{self.first.name}_{n}") for n in itertools.count(1))
        return (name for name in names if name not in used)

    def _create_like(self, first: Qualified) -> Fragment:
        return Joined(
            (
                Raw("CREATE TABLE "),
                self.table.name,
                Raw(" (LIKE "),
                first,
                Raw(
                    " INCLUDING ALL EXCLUDING INDEXES)"
                    f" PARTITION BY {self.table.partition_by}"
                ),
            )
        )

    # ------------------------------------------------------- to one table

    @property
    def _copy(self) -> Qualified:
        """The table that gets the rows of several partitions."""
        name = self.table.name
        return Qualified(name.schema, shortened(f"{name.name}_unpartitioned"))

    def _copy_closed(self, partitions: list[RangePartition]) -> list[Qualified]:
        """Copy the rows of closed partitions, and return which these are.

        Until the end of the transaction nobody changes a row of them.
        """
        found = read_table(self.connection, self._copy)
        if found is not None and found.comment != _COPY_COMMENT:
            raise InstallError(
                f"there is a table {self._copy.dotted}, which is not from an "
                "earlier run; rename it"
            )
        if found is not None:
            # Since that run, rows may have been removed.
            self._execute(drop_table(self._copy))
        self._execute(
            self.table.create_alike(self._copy),
            comment_on_table(self._copy, _COPY_COMMENT),
        )
        roles = grantees_of(self.connection, self._copy)
        self._execute(*(revoke_all(self._copy, role) for role in roles))
        copied = [partition.name for partition in partitions if partition.is_closed]
        for name in copied:
            self._execute(lock_table(name, "SHARE"), self._copy_rows(name))
            self.report(f"the rows of {name.dotted} are copied")
        return copied

    def _copy_rows(self, partition: Qualified) -> Fragment:
        """Return the statement that copies the rows of a partition."""
        names = Idents(tuple(read_copied_columns(self.connection, partition)))
        return Joined(
            (
                Raw("INSERT INTO "),
                self._copy,
                Raw(" ("),
                names,
                Raw(") SELECT "),
                names,
                Raw(" FROM "),
                partition,
            )
        )

    def _give_rows_back(
        self,
        old: TableProperties,
        rows: Qualified,
        partitions: Sequence[RangePartition],
        copied: Collection[Qualified],
    ) -> None:
        """Give the name to the table with all rows.

        :param old: what the table has.
        :param rows: the sole partition, or the table that gets the rows of several.
        :param partitions: the partitions whose rows stay.
        :param copied: those whose rows are copied.
        """
        name = self.table.name
        parent = Qualified(name.schema, shortened(f"{name.name}_partitioned"))
        if rows != self._copy:
            self._execute(*drop_foreign_keys(old.foreign_keys), self.table.detach(rows))
            own_keys: list[Fragment] = []
        else:
            own_keys = old.create_own_foreign_keys()
            self._execute(
                *drop_foreign_keys(old.foreign_keys),
                *(
                    self._copy_rows(partition.name)
                    for partition in partitions
                    if partition.name not in copied
                ),
            )
        held = read_properties(self.connection, rows)
        new_names = _matching(old, held)
        self._change(
            old,
            *(drop_trigger(rows, trigger.name) for trigger in held.triggers),
            rename_table(name, parent.name),
            rename_table(rows, name.name),
            *own_keys,
        )
        self._execute(
            drop_table(parent),
            *(rename_index(name, index, new) for index, new in new_names),
        )


def _matching(
    old: TableProperties, held: TableProperties
) -> list[tuple[Row[Any], str]]:
    """Return the indexes of a table, each with the name that its like has in another.

    :param old: the table with the names.
    :param held: the table whose indexes get them.
    """
    names: dict[Any, list[str]] = {}
    for index in old.indexes:
        names.setdefault(_shape(index), []).append(index.name)
    return [
        (index, names[_shape(index)].pop(0))
        for index in held.indexes
        if names.get(_shape(index))
    ]


def _shape(index: Row[Any]) -> Any:
    return tuple(index.parts), index.further, index.constraint_definition


_SETTINGS = ("search_path", "lock_timeout")
"""What is set for a transaction, to read definitions and while a table is locked."""


@contextmanager
def _transaction(connection: Connection) -> Iterator[bool]:
    """Run a block in a transaction; in that of the connection, if it is in one.

    :return: True if the transaction ends with the block.
    """
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        # As in autocommit_block() of Alembic: what SQLAlchemy begins there is none. At
        # other levels it would not see what others change until it has the lock.
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            yield True
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
    elif connection.in_transaction():
        # What comes after it has the settings that it had, not those made here.
        were = [func.current_setting(name) for name in _SETTINGS]
        values = connection.execute(select(*were)).one()
        yield False
        back = zip(_SETTINGS, values, strict=True)
        connection.execute(select(*(func.set_config(n, v, True) for n, v in back)))
    else:
        with connection.begin():
            yield True


@contextmanager
def _savepoint(connection: Connection) -> Iterator[bool]:
    """Run a block in a savepoint, so that it can be repeated.

    :return: True, as for :func:`_transaction`.
    """
    with connection.begin_nested():
        yield True


def _drop_check(table: Qualified) -> Fragment:
    return Joined(
        (
            Raw("ALTER TABLE "),
            table,
            Raw(" DROP CONSTRAINT IF EXISTS "),
            Ident(LOWER_CHECK),
        )
    )
