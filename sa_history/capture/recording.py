"""The function and triggers that write a table's events.

Statement level is the default: one INSERT ... SELECT per tracker and statement,
from the transition tables. The forms below were chosen by measurement on
100,000 rows; each has its reason beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sa_history._types import Level, Op, Operation, Row
from sa_history.ddl.elements import PGFunction, PGTrigger, transition_tables
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    Setting,
    join,
)
from sa_history.sql.naming import CONTEXT_ID, CONTEXT_METADATA
from sa_history.triggers.transition_rows import (
    PAIRS,
    USE_COLUMN,
    holds_for_pair,
    rows_of,
)

OPS = {
    Operation.INSERT: Op.INSERT,
    Operation.UPDATE: Op.UPDATE,
    Operation.DELETE: Op.DELETE,
    Operation.TRUNCATE: Op.TRUNCATE,
}


OLD_KEY = "pgh_old_key"
"""The column that says which key the row had before, if its key has changed."""

# PostgreSQL reads a trigger's WHEN from the catalog for each statement: 1 microsecond
# for each column that is compared, 2 to 3 for both rows as they are.
_FEW_COLUMNS = 3
_ROW_CHANGES = "OLD.* OPERATOR(pg_catalog.*<>) NEW.*"


@dataclass(frozen=True)
class Recording:
    """What one tracker writes for one operation.

    :param operation: what fires it.
    :param label: the tracker's label.
    :param row: which row is stored.
    :param columns: pairs of event column and tracked column.
    :param condition: SQL over ``OLD`` and ``NEW``, None for every row.
    :param compares: whether the condition reads both rows of an update.
    :param compared: in how many columns the condition looks for a change, 0 where it
        does not.
    :param asked: what the condition asks for beside a change, None for nothing.
    :param key: the columns of the primary key.
    :param key_changes: SQL over ``OLD`` and ``NEW`` that tells whether an update has
        changed the key, None for other operations.
    """

    operation: Operation
    label: str
    row: Row
    columns: tuple[tuple[str, str], ...]
    condition: str | None = None
    compares: bool = False
    compared: int = 0
    asked: str | None = None
    key: tuple[str, ...] = ()
    key_changes: str | None = None

    @property
    def when(self) -> str | None:
        """What a trigger for each row looks at before it calls the function."""
        if self.compared <= _FEW_COLUMNS:
            return self.condition
        return f"({self.asked}) AND {_ROW_CHANGES}" if self.asked else _ROW_CHANGES

    @property
    def is_looked_at(self) -> bool:
        """Whether :attr:`when` is all of the condition."""
        return self.when == self.condition

    @property
    def reads_both_rows(self) -> bool:
        """Whether the old and the new row of an update have to be paired."""
        return self.operation is Operation.UPDATE and (
            self.compares or self.key_changes is not None
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
    """What is recorded of a table, and where.

    :param tracked: the tracked table.
    :param events: the event table.
    :param function: the name of the function.
    :param recordings: what the trackers write, in order.
    :param level: statement or row.
    :param attach_context: the function that stores the context, None without one.
    :param context_value: the function that reads a key of the context.
    :param inline_context: whether the context is stored in the event.
    :param context_columns: keys of the context with columns of their own.
    :param ignored: SQL that is true where nothing is to be recorded.
    :param search_path: schemas in which conditions find operators.
    :param notify: the channel that is told of new events, None for none.
    """

    tracked: Qualified
    events: Qualified
    function: Qualified
    recordings: tuple[Recording, ...]
    level: Level
    attach_context: Qualified | None
    context_value: Qualified
    inline_context: bool
    context_columns: tuple[ContextColumn, ...]
    ignored: Fragment | None = None
    search_path: tuple[str, ...] = ()
    notify: str | None = None

    def of(self, operation: Operation) -> list[Recording]:
        """Return the recordings of one operation, in order."""
        return [r for r in self.recordings if r.operation is operation]

    @property
    def operations(self) -> list[Operation]:
        """The operations that have a recording."""
        return [operation for operation in Operation if self.of(operation)]

    def by_row(self, operation: Operation) -> bool:
        """Return whether an operation fires its trigger for each row."""
        return self.level is Level.ROW and operation is not Operation.TRUNCATE

    def when(self, operation: Operation) -> Fragment | None:
        """Return what a trigger looks at before it calls the function.

        It keeps the function from being called where there is nothing to write; only
        a trigger for each row can look at the row.
        """
        looks = dict.fromkeys(recording.when for recording in self.of(operation))
        if not self.by_row(operation) or None in looks:
            return None
        if len(looks) == 1:
            return Raw(str(*looks))
        return join(" OR ", (Raw(f"({look})") for look in looks))


def record_function(capture: Capture) -> PGFunction:
    """Return the trigger function: one branch per operation."""
    branches: list[Fragment] = []
    for operation in capture.operations:
        keyword = "ELSIF" if branches else "IF"
        inserts = [_insert(capture, recording) for recording in capture.of(operation)]
        branches.append(
            Raw(f"  {keyword} TG_OP = '{operation.value}' THEN\n") + join("", inserts)
        )
    body = Joined(
        (
            Raw(f"{USE_COLUMN}BEGIN\n"),
            _unless_ignored(capture),
            *branches,
            Raw("  END IF;\n"),
            _notify(capture),
            Raw("  RETURN NULL;\nEND\n"),
        )
    )
    return PGFunction(capture.function, body, search_path=capture.search_path)


def _unless_ignored(capture: Capture) -> Fragment:
    if capture.ignored is None:
        return Raw("")
    return Joined(
        (Raw("  IF "), capture.ignored, Raw(" THEN\n    RETURN NULL;\n  END IF;\n"))
    )


def _notify(capture: Capture) -> Fragment:
    if capture.notify is None:
        return Raw("")
    # PostgreSQL sends what is the same once for a transaction, after its commit.
    channel = Literal(capture.notify)
    return Joined((Raw("  PERFORM pg_notify("), channel, Raw(", '');\n")))


def _insert(capture: Capture, recording: Recording) -> Fragment:
    by_row = capture.by_row(recording.operation)

    def once(value: Fragment) -> Fragment:
        """Return an expression that is evaluated once, and only for an event.

        In a SELECT of many rows that takes an uncorrelated subquery.
        """
        return value if by_row else Joined((Raw("(SELECT "), value, Raw(")")))

    # pgh_id and pgh_created_at are filled by the columns' defaults.
    values: list[tuple[str, Fragment]] = [
        ("pgh_label", Literal(recording.label)),
        ("pgh_op", Literal(OPS[recording.operation])),
        ("pgh_xact_id", once(Raw("pg_current_xact_id()::text::bigint"))),
        *((name, once(value)) for name, value in _context_values(capture)),
    ]
    if recording.key_changes is not None:
        values.append((OLD_KEY, _old_key(recording.key, recording.key_changes)))
    row = Raw(f"{recording.row.upper()}.")
    values += [(event, row + Ident(name)) for event, name in recording.columns]
    columns = join(", ", (Ident(column) for column, _ in values))
    into = Joined((Raw("INSERT INTO "), capture.events, Raw(" ("), columns, Raw(")\n")))
    listed = join(", ", (value for _, value in values))
    if not by_row:
        return Joined(
            (
                Raw("    "),
                into,
                Raw("    SELECT "),
                listed,
                _source(capture, recording),
                _where(recording),
                Raw(";\n"),
            )
        )
    insert = Joined((Raw("    "), into, Raw("    VALUES ("), listed, Raw(");\n")))
    if recording.is_looked_at and len(capture.of(recording.operation)) == 1:
        return insert
    if recording.condition is None:
        return insert
    return Joined(
        (Raw(f"    IF {recording.condition} THEN\n"), insert, Raw("    END IF;\n"))
    )


def _old_key(key: Sequence[str], changes: str) -> Fragment:
    """Return the key that the row had before, where it has another now."""
    columns = join(", ", (Raw("OLD.") + Ident(name) for name in key))
    return Joined(
        (Raw(f"CASE WHEN {changes} THEN jsonb_build_array("), columns, Raw(") END"))
    )


def _context_values(capture: Capture) -> Iterable[tuple[str, Fragment]]:
    if capture.attach_context is not None:
        yield "pgh_context_id", capture.attach_context + Raw("()")
    if capture.inline_context:
        for event_column, name, type_ in (
            ("pgh_context_id", CONTEXT_ID, "uuid"),
            ("pgh_context", CONTEXT_METADATA, "jsonb"),
        ):
            yield event_column, Setting(name) + Raw(f"::{type_}")
    for column in capture.context_columns:
        yield (
            column.name,
            Joined(
                (
                    Raw("CAST("),
                    capture.context_value,
                    Raw("("),
                    Literal(column.name),
                    Raw(f", {_boolean(column.required)}, {_boolean(column.as_json)}, "),
                    Raw("TG_TABLE_SCHEMA, TG_TABLE_NAME) AS "),
                    column.type,
                    Raw(")"),
                )
            ),
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
    """Return the fewest triggers that run the function where it may write.

    :param name: gives a trigger's name for its operations.
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
    """Return the part of a trigger's name that says what fires it."""
    return "_".join(operation.value.lower() for operation in operations)


def _firings(capture: Capture) -> list[tuple[Operation, ...]]:
    """Return the operations of each trigger.

    A trigger with transition tables has one operation, as has one with a condition.
    The others that are for each row are one.
    """
    shared = tuple(
        operation
        for operation in capture.operations
        if capture.by_row(operation) and capture.when(operation) is None
    )
    single = [(each,) for each in capture.operations if each not in shared]
    return [*([shared] if shared else []), *single]
