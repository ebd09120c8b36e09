"""The function and the triggers that write a table's events.

An operation is recorded for each statement, by one INSERT ... SELECT of each tracker
from the transition tables, or for each row, by one INSERT of the row's values. The
forms of the statements were chosen by measurements on 100,000 rows; the reason stands
beside each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from sa_history._types import Level, Op, Operation, Row
from sa_history.capture.distributed_events import (
    DECLARE_NUMBERS,
    DECLARE_SHARD,
    NUMBERS,
    PARAMETERS,
    SHARD_NUMBERS,
    SHARD_TABLE,
    TABLE,
    TRANSACTION,
    Shards,
    count_rows,
    numbered_rows,
    read_clock,
    read_transaction,
)
from sa_history.capture.event_table import OLD_KEY
from sa_history.capture.statement_order import (
    COMES_AFTER_AN_INSERT,
    CURRENT_TRANSACTION,
    DECLARE_DELETED,
    DECLARE_FOUND,
    DECLARE_NESTED,
    IS_AROUND_NESTED,
    KeyColumn,
    OrderCheck,
    notice_nested_writes,
    remember_deleted_rows,
)
from sa_history.ddl.elements import (
    OLD_ROWS,
    PGFunction,
    PGTrigger,
    transition_tables,
)
from sa_history.sql.compose import (
    DollarQuoted,
    Fragment,
    Idents,
    Joined,
    Literal,
    Qualified,
    Raw,
    RegClass,
    RowIdents,
    join,
)
from sa_history.triggers.transition_rows import (
    PAIRS,
    USE_COLUMN,
    holds_for_pair,
    refuse_hidden_rows,
    rows_of,
)

_OPS = {
    Operation.INSERT: Op.INSERT,
    Operation.UPDATE: Op.UPDATE,
    Operation.DELETE: Op.DELETE,
    Operation.TRUNCATE: Op.TRUNCATE,
}

# PostgreSQL reads a trigger's WHEN from the catalog for each statement: 1 microsecond
# for each column that is compared, 2 to 3 microseconds for a comparison of both rows.
_FEW_COLUMNS = 3
_ROW_CHANGES = "OLD.* OPERATOR(pg_catalog.*<>) NEW.*"


@dataclass(frozen=True)
class Recording:
    """What one tracker writes for one operation.

    :param operation: the operation that the trigger fires on.
    :param label: the tracker's label.
    :param row: the row that is stored, the old or the new one.
    :param columns: pairs of an event column and the tracked column that it stores.
    :param condition: SQL over ``OLD`` and ``NEW``; every row is recorded, if None.
    :param reads_old_row: whether the condition compares both rows of an update.
    :param watched_columns: in how many columns the condition looks for a change; 0, if
        it does not look for one.
    :param user_condition: the part of the condition that the user gave; None, if it
        only looks for a change.
    :param key: the columns of the primary key.
    :param key_changes: SQL over ``OLD`` and ``NEW`` that is true if an update changes
        the key; None, if the event stores no old key.
    """

    operation: Operation
    label: str
    row: Row
    columns: tuple[tuple[str, str], ...]
    condition: str | None = None
    reads_old_row: bool = False
    watched_columns: int = 0
    user_condition: str | None = None
    key: tuple[str, ...] = ()
    key_changes: str | None = None

    @property
    def when(self) -> str | None:
        """The WHEN of a trigger for each row, None if it fires for every row.

        A comparison of many columns is replaced by one of both rows, which is cheaper
        to set up and true of more updates; the function checks the condition itself
        then.
        """
        if self.watched_columns <= _FEW_COLUMNS:
            return self.condition
        if self.user_condition is None:
            return _ROW_CHANGES
        return f"({self.user_condition}) AND {_ROW_CHANGES}"

    @property
    def when_is_exact(self) -> bool:
        """Whether :attr:`when` is the condition, so that nothing is left to check."""
        return self.when == self.condition

    @property
    def reads_both_rows(self) -> bool:
        """Whether the old and the new row of an update have to be paired."""
        return self.operation is Operation.UPDATE and (
            self.reads_old_row or self.key_changes is not None
        )


@dataclass(frozen=True)
class ContextColumn:
    """A key of the context that is stored in a column of the event table.

    :param name: the column, and the key.
    :param type: the column's type.
    :param required: whether a change without the key is refused.
    :param as_json: whether the type is a JSON one.
    """

    name: str
    type: Fragment
    required: bool
    as_json: bool


@dataclass(frozen=True)
class Capture:
    """What is recorded of a table, and into which event table.

    :param tracked: the tracked table.
    :param events: the event table.
    :param function: the name of the function.
    :param recordings: what the trackers write, in order.
    :param row_operations: the operations that fire a trigger for each row; the others
        fire one for each statement.
    :param context_values: event columns that store the context, with their SQL.
    :param context_value: the function that reads a key of the context.
    :param context_columns: keys of the context that have columns of their own.
    :param ignored: SQL that is true while nothing is to be recorded, as in an
        ``ignore`` block; None, if it cannot be ignored.
    :param search_path: schemas in which conditions find operators.
    :param notify: the channel to NOTIFY of new events; no NOTIFY, if None.
    :param settings: the settings that the JSON of a former key depends on.
    :param key: the columns of the table's key; none, if it has no key.
    :param is_distributed: whether Citus distributes the table and its events, so that
        they need numbers and times that hold on all nodes.
    :param distributed_by: the column by which Citus distributes both; None, if it does
        not, or has a single shard of each.
    """

    tracked: Qualified
    events: Qualified
    function: Qualified
    recordings: tuple[Recording, ...]
    row_operations: frozenset[Operation]
    context_values: tuple[tuple[str, Fragment], ...]
    context_value: Qualified
    context_columns: tuple[ContextColumn, ...]
    ignored: Fragment | None = None
    search_path: tuple[str, ...] = ()
    notify: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    key: tuple[KeyColumn, ...] = ()
    is_distributed: bool = False
    distributed_by: str | None = None

    @property
    def shards(self) -> Shards:
        """Where Citus has the events."""
        return Shards(self.tracked, self.events, self.distributed_by)

    def of(self, operation: Operation) -> list[Recording]:
        """Return the recordings of one operation, in order."""
        return [r for r in self.recordings if r.operation is operation]

    @cached_property
    def operations(self) -> list[Operation]:
        """The operations that have a recording."""
        return [operation for operation in Operation if self.of(operation)]

    def by_row(self, operation: Operation) -> bool:
        """Return whether an operation fires its trigger for each row."""
        return operation in self.row_operations

    @cached_property
    def checks_deleted_rows(self) -> bool:
        """Whether a deletion may come after the INSERT of a row in its place.

        Triggers for each row fire in the order in which the rows change.
        """
        return self.checks_nested_writes and all(
            self.of(operation) and not self.by_row(operation)
            for operation in (Operation.INSERT, Operation.DELETE)
        )

    @cached_property
    def checks_nested_writes(self) -> bool:
        """Whether a row may have two events, whose order has to be that of the changes.

        A row cannot come twice, or go twice, without the other in between.
        """
        operations = set(self.operations) - {Operation.TRUNCATE}
        return bool(self.key) and (
            Operation.UPDATE in operations or len(operations) > 1
        )

    def when(self, operation: Operation) -> Fragment | None:
        """Return the WHEN of the trigger of an operation, None if it has none.

        It spares the call of the function for rows that no tracker records. Only a
        trigger for each row can have one.
        """
        conditions = dict.fromkeys(recording.when for recording in self.of(operation))
        if not self.by_row(operation) or None in conditions:
            return None
        if len(conditions) == 1:
            return Raw(str(*conditions))
        return join(" OR ", (Raw(f"({condition})") for condition in conditions))


def record_function(capture: Capture) -> PGFunction:
    """Return the trigger function, which has one branch for each operation."""
    branches: list[Fragment] = []
    for operation in capture.operations:
        keyword = "ELSIF" if branches else "IF"
        insert = _insert_for_row if capture.by_row(operation) else _insert_for_statement
        inserts = [insert(capture, recording) for recording in capture.of(operation)]
        if capture.is_distributed and operation is Operation.TRUNCATE:
            inserts = []  # its rows are elsewhere
        branches.append(
            Joined(
                (
                    Raw(f"  {keyword} TG_OP = '{operation.value}' THEN\n"),
                    refuse_hidden_rows(operation, "    "),
                    *_count_rows_on_shard(capture, operation),
                    *_order_checks(capture, operation),
                    *_on_citus(capture, operation),
                    *inserts,
                )
            )
        )
    body = Joined(
        (
            Raw(f"{USE_COLUMN}{_declarations(capture)}BEGIN\n"),
            _unless_ignored(capture),
            notice_nested_writes() if capture.checks_nested_writes else Raw(""),
            read_transaction() if capture.is_distributed else Raw(""),
            *branches,
            Raw("  END IF;\n"),
            _notify(capture),
            Raw("  RETURN NULL;\nEND\n"),
        )
    )
    return PGFunction(
        capture.function,
        body,
        search_path=capture.search_path,
        settings=capture.settings,
    )


def _declarations(capture: Capture) -> str:
    numbers = f"{DECLARE_NUMBERS}{DECLARE_SHARD}" if capture.is_distributed else ""
    checks = f"{DECLARE_FOUND}{DECLARE_NESTED}" if capture.checks_nested_writes else ""
    deleted = DECLARE_DELETED if capture.checks_deleted_rows else ""
    declared = f"{numbers}{deleted}{checks}"
    return f"DECLARE\n{declared}" if declared else ""


def _order_checks(capture: Capture, operation: Operation) -> list[Fragment]:
    """Return what comes before the events are written, so that none is among them."""
    if not capture.checks_nested_writes or operation is Operation.TRUNCATE:
        return []
    checks: list[Fragment] = []
    if capture.checks_deleted_rows and operation is Operation.INSERT:
        checks.append(remember_deleted_rows())
    for recording in capture.of(operation):
        by_row = capture.by_row(operation)
        check = OrderCheck(
            capture.tracked,
            capture.events,
            capture.key,
            by_row,
            Raw("") if by_row else _source(capture, recording),
            [name for _, name in recording.columns],
            None if by_row and _is_checked(capture, recording) else recording.condition,
            Raw(TRANSACTION) if capture.is_distributed else CURRENT_TRANSACTION,
            capture.shards if capture.is_distributed else None,
        )
        if operation is not Operation.DELETE:
            checks.append(check.refuse_late_row())
        elif capture.checks_deleted_rows:
            checks.append(
                check.refuse_late_deletion(
                    f"{IS_AROUND_NESTED} OR {COMES_AFTER_AN_INSERT}"
                )
            )
        else:
            checks.append(check.refuse_late_deletion(IS_AROUND_NESTED))
    return checks


def _count_rows_on_shard(capture: Capture, operation: Operation) -> list[Fragment]:
    """Return what counts the rows of a statement, if the table is a shard of Citus."""
    is_of_shard = capture.is_distributed and operation is not Operation.TRUNCATE
    if not is_of_shard or capture.by_row(operation):
        return []
    rows = {recording.row for recording in capture.of(operation)}
    return [count_rows("new" if "new" in rows else "old")]


def _on_citus(capture: Capture, operation: Operation) -> list[Fragment]:
    """Return what a TRUNCATE does where Citus has the rows on another node.

    The trigger fires where the statement is given, and not where the rows are. There
    they are deleted first, one by one, by triggers for each row. Then the trigger may
    fire there too, of a table with another name: a move gives it to the table.

    A capture that does not record DELETE would miss them, so it refuses.
    """
    if operation is not Operation.TRUNCATE:
        return []
    emptied: Fragment = Raw("      DELETE FROM ") + capture.tracked
    if not capture.of(Operation.DELETE):
        emptied = Raw(
            "      RAISE EXCEPTION 'TRUNCATE of %.% is not recorded on Citus',"
            " TG_TABLE_SCHEMA, TG_TABLE_NAME"
        )
    if capture.is_distributed:
        is_whole = Raw("    IF TG_RELID = ") + RegClass(capture.tracked)
        return [is_whole, Raw(" THEN\n"), emptied, Raw(";\n    END IF;\n")]
    return [
        Raw("    IF TG_RELID <> "),
        RegClass(capture.tracked),
        Raw(
            " THEN\n      RETURN NULL;\n"
            "    ELSIF EXISTS (SELECT FROM pg_trigger AS t"
            " JOIN pg_proc AS f ON f.oid = t.tgfoid\n"
            "      WHERE t.tgrelid = TG_RELID AND f.proname = 'citus_truncate_trigger')"
            " THEN\n"
        ),
        emptied,
        Raw(";\n      RETURN NULL;\n    END IF;\n"),
    ]


def _is_checked(capture: Capture, recording: Recording) -> bool:
    """Return whether the WHEN of a trigger for each row has checked the condition."""
    return recording.when_is_exact and len(capture.of(recording.operation)) == 1


def _unless_ignored(capture: Capture) -> Fragment:
    if capture.ignored is None:
        return Raw("")
    return Joined(
        (Raw("  IF "), capture.ignored, Raw(" THEN\n    RETURN NULL;\n  END IF;\n"))
    )


def _notify(capture: Capture) -> Fragment:
    if capture.notify is None:
        return Raw("")
    # PostgreSQL sends equal notifications of a transaction once, after its commit.
    channel = Literal(capture.notify)
    return Joined((Raw("  PERFORM pg_notify("), channel, Raw(", '');\n")))


def _insert_for_statement(capture: Capture, recording: Recording) -> Fragment:
    if capture.is_distributed:
        return _insert_into_shard(capture, recording)
    values = {
        **_labels(recording),
        # An expression of a SELECT is evaluated for each of its rows; an uncorrelated
        # subquery once, and only if there is a row.
        **{name: _once(value) for name, value in _statement_values(capture).items()},
        **_former_key(recording),
    }
    return Joined(
        (
            _insert_into(capture, recording, values),
            Raw("    SELECT "),
            join(", ", (*values.values(), *_stored(recording))),
            _source(capture, recording),
            _where(recording),
            Raw(";\n"),
        )
    )


def _insert_into_shard(capture: Capture, recording: Recording) -> Fragment:
    """Return the INSERT into the shard that is beside the one which fired the trigger.

    Its text is not that of a statement in PL/pgSQL, so it has no variables, and is
    planned each time, which takes long for a SELECT from the rows. So a single row is
    read before, by a statement whose plan is kept.
    """
    context = _context_values(capture, SHARD_TABLE)
    values = {
        **_labels(recording),
        **SHARD_NUMBERS,
        **{name: _once(value) for name, value in context.items()},
        **_former_key(recording),
    }
    rows = numbered_rows(recording.row, recording.reads_both_rows)
    from_rows = Joined((Raw(f"\n    FROM {rows}"), _where(recording)))
    insert = Joined(
        (
            Raw(" ("),
            Idents((*values, *(event for event, _ in recording.columns))),
            Raw(")\n    "),
        )
    )
    all_rows = Joined(
        (
            insert,
            Raw("SELECT "),
            join(", ", (*values.values(), *_stored(recording))),
            from_rows,
        )
    )
    row_alone = numbered_rows(recording.row, is_paired=False)
    if recording.reads_both_rows:
        row_alone = f"{numbered_rows('new', is_paired=False)}, {OLD_ROWS} AS OLD"
    is_recorded = recording.condition or "true"
    from_row = Raw(f"\n    FROM {row_alone}\n    WHERE {is_recorded}")
    single = {**values, **NUMBERS, **_context_values(capture, TABLE)}
    fields = [*single, *(name for _, name in recording.columns)]
    row = Joined(
        (
            insert,
            Raw("VALUES ("),
            Raw(", ".join(f"${n}" for n in range(1, len(fields) + 1))),
            Raw(")"),
        )
    )
    return Joined(
        (
            Raw("    IF pgh_rows = 1 THEN\n    SELECT "),
            join(
                ", ",
                (
                    *(
                        Joined((value, Raw(" AS "), Idents((name,))))
                        for name, value in single.items()
                    ),
                    *_stored(recording),
                ),
            ),
            Raw("\n    INTO pgh_event"),
            from_row,
            Raw(";\n    IF FOUND THEN\n"),
            capture.shards.find("pgh_event"),
            Raw("    EXECUTE 'INSERT INTO ' || pgh_shard || "),
            DollarQuoted(row),
            Raw(" USING "),
            RowIdents("pgh_event", tuple(fields)),
            Raw(";\n    END IF;\n    ELSIF pgh_rows > 1 THEN\n"),
            capture.shards.find_for_rows(recording.row),
            Raw("    EXECUTE 'INSERT INTO ' || pgh_shard || "),
            DollarQuoted(all_rows),
            Raw(f" USING {PARAMETERS};\n    END IF;\n"),
        )
    )


def _once(value: Fragment) -> Fragment:
    """Return a value that is evaluated once for a statement."""
    return Joined((Raw("(SELECT "), value, Raw(")")))


def _insert_for_row(capture: Capture, recording: Recording) -> Fragment:
    values = {
        **_labels(recording),
        **_statement_values(capture),
        **_former_key(recording),
    }
    insert = Joined(
        (
            read_clock() if capture.is_distributed else Raw(""),
            _insert_into(capture, recording, values),
            Raw("    VALUES ("),
            join(", ", (*values.values(), *_stored(recording))),
            Raw(");\n"),
        )
    )
    if recording.condition is None or _is_checked(capture, recording):
        return insert
    return Joined(
        (Raw(f"    IF {recording.condition} THEN\n"), insert, Raw("    END IF;\n"))
    )


def _insert_into(
    capture: Capture, recording: Recording, values: Iterable[str]
) -> Fragment:
    names = Idents((*values, *(event for event, _ in recording.columns)))
    return Joined(
        (Raw("    INSERT INTO "), capture.events, Raw(" ("), names, Raw(")\n"))
    )


def _stored(recording: Recording) -> list[Fragment]:
    """Return the columns of the row that is stored, if any are, in one fragment."""
    names = tuple(name for _, name in recording.columns)
    return [RowIdents(recording.row.upper(), names)] if names else []


# pgh_id and pgh_created_at have defaults.


def _labels(recording: Recording) -> dict[str, Fragment]:
    return {
        "pgh_label": Literal(recording.label),
        "pgh_op": Literal(_OPS[recording.operation]),
    }


def _statement_values(capture: Capture) -> dict[str, Fragment]:
    """Return the values that are the same for all events of a statement.

    Where Citus distributes the rows, the number of the event is among them.
    """
    if capture.is_distributed:
        return {**NUMBERS, **_context_values(capture, TABLE)}
    return {
        "pgh_xact_id": CURRENT_TRANSACTION,
        **_context_values(capture, "TG_TABLE_SCHEMA, TG_TABLE_NAME"),
    }


def _context_values(capture: Capture, table: str) -> dict[str, Fragment]:
    """Return the values of the context's columns.

    :param table: SQL of the schema and the name of the table, for messages.
    """
    return {
        **dict(capture.context_values),
        **{c.name: _context_value(capture, c, table) for c in capture.context_columns},
    }


def _former_key(recording: Recording) -> dict[str, Fragment]:
    """Return the value of the column of the key before an update, if it has one."""
    if recording.key_changes is None:
        return {}
    return {OLD_KEY: _old_key(recording.key, recording.key_changes)}


def _old_key(key: tuple[str, ...], changes: str) -> Fragment:
    columns = RowIdents("OLD", key)
    return Joined(
        (Raw(f"CASE WHEN {changes} THEN jsonb_build_array("), columns, Raw(") END"))
    )


def _context_value(capture: Capture, column: ContextColumn, table: str) -> Fragment:
    return Joined(
        (
            Raw("CAST("),
            capture.context_value,
            Raw("("),
            Literal(column.name),
            Raw(f", {_boolean(column.required)}, {_boolean(column.as_json)}, "),
            Raw(f"{table}) AS "),
            column.type,
            Raw(")"),
        )
    )


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _source(capture: Capture, recording: Recording) -> Fragment:
    if recording.reads_both_rows:
        return Raw(f"\n    FROM {PAIRS}")
    return Raw("\n    FROM ") + rows_of(
        recording.operation, capture.tracked, recording.row
    )


def _where(recording: Recording) -> Fragment:
    if recording.reads_both_rows:
        return Raw(f"\n    WHERE {holds_for_pair(recording.condition or 'true')}")
    if recording.condition is None:
        return Raw("")
    return Raw(f"\n    WHERE {recording.condition}")


def record_triggers(
    capture: Capture, name: Callable[[Sequence[Operation]], str]
) -> list[PGTrigger]:
    """Return the triggers that call the function, as few as there can be.

    :param name: makes a trigger's name of the operations that it fires on.
    """
    triggers = []
    for operations in _firings(capture):
        first = operations[0]
        by_row = capture.by_row(first)
        truncate = first is Operation.TRUNCATE
        triggers.append(
            PGTrigger(
                name=name(operations),
                table=capture.tracked,
                function=capture.function,
                # After a TRUNCATE the rows are gone.
                timing="BEFORE" if truncate else "AFTER",
                operations=operations,
                level=Level.ROW if by_row else Level.STATEMENT,
                referencing=(None if by_row or truncate else transition_tables(first)),
                when=capture.when(first),
            )
        )
    return triggers


def operations_key(operations: Sequence[Operation]) -> str:
    """Return the part of a trigger's name that lists its operations."""
    return "_".join(operation.value.lower() for operation in operations)


def _firings(capture: Capture) -> list[tuple[Operation, ...]]:
    """Return the operations of each trigger.

    PostgreSQL gives transition tables to triggers of one operation only, and a WHEN is
    that of one operation. All other triggers for each row are joined into one.
    """
    shared = tuple(
        operation
        for operation in capture.operations
        if capture.by_row(operation) and capture.when(operation) is None
    )
    single = [(each,) for each in capture.operations if each not in shared]
    return [*([shared] if shared else []), *single]
