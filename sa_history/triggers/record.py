"""The function and triggers that write a table's events.

Statement level is the default: one INSERT ... SELECT per tracker and statement,
from the transition tables. The forms below were chosen by measurement on
100,000 rows; each has its reason beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sa_history._types import Level, Op, Operation, Row
from sa_history.ddl import Function, Trigger, transition_tables
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    join,
)
from sa_history.sql.naming import CONTEXT_ID, CONTEXT_METADATA
from sa_history.sql.switch import switched
from sa_history.triggers.rows import PAIRS, USE_COLUMN, holds_for_pair, rows_of

OPS = {
    Operation.INSERT: Op.INSERT,
    Operation.UPDATE: Op.UPDATE,
    Operation.DELETE: Op.DELETE,
    Operation.TRUNCATE: Op.TRUNCATE,
}


OLD_KEY = "pgh_old_key"
"""The column that says which key the row had before, if its key has changed."""


@dataclass(frozen=True)
class Recording:
    """What one tracker writes for one operation.

    :param operation: what fires it.
    :param label: the tracker's label.
    :param row: which row is stored.
    :param columns: pairs of event column and tracked column.
    :param condition: SQL over ``OLD`` and ``NEW``, None for every row.
    :param compares: whether the condition reads both rows of an update.
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
    key: tuple[str, ...] = ()
    key_changes: str | None = None

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
    :param switch: what stands in WHEN to have the triggers ignored.
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
    switch: Fragment | None = None
    search_path: tuple[str, ...] = ()
    notify: str | None = None

    def of(self, operation: Operation) -> list[Recording]:
        """Return the recordings of one operation, in order."""
        return [r for r in self.recordings if r.operation is operation]

    @property
    def operations(self) -> list[Operation]:
        """The operations that have a recording."""
        return [operation for operation in Operation if self.of(operation)]


def record_function(capture: Capture) -> Function:
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
            *branches,
            Raw("  END IF;\n"),
            _notify(capture),
            Raw("  RETURN NULL;\nEND\n"),
        )
    )
    return Function(capture.function, body, search_path=capture.search_path)


def _notify(capture: Capture) -> Fragment:
    if capture.notify is None:
        return Raw("")
    # PostgreSQL sends what is the same once for a transaction, after its commit.
    channel = Literal(capture.notify)
    return Joined((Raw("  PERFORM pg_notify("), channel, Raw(", '');\n")))


def _insert(capture: Capture, recording: Recording) -> Fragment:
    # pgh_id and pgh_created_at are filled by the columns' defaults.
    values: list[tuple[str, Fragment]] = [
        ("pgh_label", Literal(recording.label)),
        ("pgh_op", Literal(OPS[recording.operation])),
        # An uncorrelated subquery runs once for the statement, and only when there
        # is a row to write: no event, no context row.
        ("pgh_xact_id", Raw("(SELECT pg_current_xact_id()::text::bigint)")),
        *_context_values(capture),
    ]
    if recording.key_changes is not None:
        values.append((OLD_KEY, _old_key(recording.key, recording.key_changes)))
    row = Raw(f"{recording.row.upper()}.")
    values += [(event, row + Ident(name)) for event, name in recording.columns]
    return Joined(
        (
            Raw("    INSERT INTO "),
            capture.events,
            Raw(" ("),
            join(", ", (Ident(column) for column, _ in values)),
            Raw(")\n    SELECT "),
            join(", ", (value for _, value in values)),
            _source(capture, recording),
            _where(capture, recording),
            Raw(";\n"),
        )
    )


def _old_key(key: Sequence[str], changes: str) -> Fragment:
    """Return the key that the row had before, where it has another now."""
    columns = join(", ", (Raw("OLD.") + Ident(name) for name in key))
    return Joined(
        (Raw(f"CASE WHEN {changes} THEN jsonb_build_array("), columns, Raw(") END"))
    )


def _context_values(capture: Capture) -> Iterable[tuple[str, Fragment]]:
    if capture.attach_context is not None:
        attach = Raw("(SELECT ") + capture.attach_context + Raw("())")
        yield "pgh_context_id", attach
    if capture.inline_context:
        # A local setting reads '' and not NULL in later transactions.
        for event_column, name, type_ in (
            ("pgh_context_id", CONTEXT_ID, "uuid"),
            ("pgh_context", CONTEXT_METADATA, "jsonb"),
        ):
            value = f"NULLIF(current_setting('{name}', true), '')::{type_}"
            yield event_column, Raw(f"(SELECT {value})")
    for column in capture.context_columns:
        yield (
            column.name,
            Joined(
                (
                    Raw("(SELECT CAST("),
                    capture.context_value,
                    Raw("("),
                    Literal(column.name),
                    Raw(f", {_boolean(column.required)}, {_boolean(column.as_json)}, "),
                    Raw("TG_TABLE_SCHEMA, TG_TABLE_NAME) AS "),
                    column.type,
                    Raw("))"),
                )
            ),
        )


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _source(capture: Capture, recording: Recording) -> Fragment:
    truncate = recording.operation is Operation.TRUNCATE
    if capture.level is Level.ROW and not truncate:
        return Raw("")
    if recording.reads_both_rows:
        return Raw(f"\n    FROM {PAIRS}")
    return Raw("\n    FROM ") + rows_of(
        recording.operation, capture.tracked, recording.row
    )


def _where(capture: Capture, recording: Recording) -> Fragment:
    by_row = (
        capture.level is Level.ROW and recording.operation is not Operation.TRUNCATE
    )
    if recording.condition is None:
        if recording.reads_both_rows and not by_row:
            return Raw(f"\n    WHERE {holds_for_pair('true')}")
        return Raw("")
    if by_row and len(capture.of(recording.operation)) == 1:
        return Raw("")  # the trigger's WHEN has looked already
    if recording.reads_both_rows and not by_row:
        return Raw(f"\n    WHERE {holds_for_pair(recording.condition)}")
    return Raw(f"\n    WHERE {recording.condition}")


def record_triggers(
    capture: Capture, name: Callable[[Sequence[Operation]], str]
) -> list[Trigger]:
    """Return the fewest triggers that run the function where it may write.

    :param name: gives a trigger's name for its operations.
    """
    triggers = []
    for operations, when in _firings(capture):
        truncate = operations == (Operation.TRUNCATE,)
        triggers.append(
            Trigger(
                name=name(operations),
                table=capture.tracked,
                function=capture.function,
                # After a TRUNCATE the rows are gone.
                timing="BEFORE" if truncate else "AFTER",
                operations=operations,
                level=Level.STATEMENT if truncate else capture.level,
                referencing=(
                    transition_tables(operations[0])
                    if capture.level is Level.STATEMENT and not truncate
                    else None
                ),
                when=switched(when, capture.switch),
            )
        )
    return triggers


def operations_key(operations: Sequence[Operation]) -> str:
    """Return the part of a trigger's name that says what fires it."""
    return "_".join(operation.value.lower() for operation in operations)


def _firings(capture: Capture) -> list[tuple[tuple[Operation, ...], Fragment | None]]:
    """Return the operations of each trigger, with its WHEN.

    A trigger with transition tables has one operation, and no WHEN on the rows. Row
    triggers share one trigger where they have no condition; where each tracker of
    an operation has one, WHEN keeps the function from being called at all.
    """
    single: list[tuple[tuple[Operation, ...], Fragment | None]] = []
    shared: list[Operation] = []
    for operation in capture.operations:
        conditions = [recording.condition for recording in capture.of(operation)]
        if capture.level is Level.STATEMENT or operation is Operation.TRUNCATE:
            single.append(((operation,), None))
        elif any(condition is None for condition in conditions):
            shared.append(operation)
        else:
            either = join(" OR ", (Raw(f"({c})") for c in conditions))
            single.append(((operation,), either))
    return [*([(tuple(shared), None)] if shared else []), *single]
