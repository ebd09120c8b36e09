"""The base class of triggers that refuse a change."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sa_history._types import Deferrable, Level, Operation
from sa_history.ddl.elements import PGFunction, PGTrigger, transition_tables
from sa_history.definition.operations import Operations, Truncate
from sa_history.definition.row_order import ROWS, operations_seen_by_row
from sa_history.exc import DefinitionError, RefusedError
from sa_history.sql.compose import Fragment, Joined, Literal, Raw, join
from sa_history.sql.functions import refuse
from sa_history.sql.ignore_switch import switched
from sa_history.triggers.base import TableTrigger, TriggerTarget
from sa_history.triggers.transition_rows import (
    PAIRS,
    ROW_NUMBER,
    USE_COLUMN,
    holds_for_pair,
    refuse_hidden_rows,
    rows_of,
    truncated_rows,
)
from sa_history.util.arguments import as_names
from sa_history.util.identifiers import unstorable

FOUND = "pgh_found"
"""The PL/pgSQL variable with the values of the row that is refused."""


@dataclass(frozen=True)
class Refusal:
    """The rows of one operation that are refused, and the error.

    :param operation: the operation.
    :param condition: the condition of rows that are refused, SQL over ``OLD`` and
        ``NEW``; None for every row.
    :param reason: the end of the message, with a percent sign for each name and each
        value.
    :param hint: the hint of the error, which tells what to do instead.
    :param names: the names in the reason.
    :param values: the values in the reason, SQL of type text over ``OLD`` and ``NEW``.
    :param column: the column in the error's fields; None for none.
    """

    operation: Operation
    condition: str | None
    reason: str
    hint: Literal
    names: tuple[Literal, ...] = ()
    values: tuple[Fragment, ...] = ()
    column: str | None = None


@dataclass(frozen=True)
class _Part:
    """What one of several triggers has.

    :param operations: the operations that fire it.
    :param by_row: whether it fires for each row.
    :param condition: the condition in its WHEN, SQL over ``OLD`` and ``NEW``; None for
        every row, or if the function looks for it.
    """

    operations: tuple[Operation, ...]
    by_row: bool
    condition: str | None = None

    @property
    def name(self) -> str:
        """The part of the trigger's name that tells it from the others."""
        return "_".join(operation.value.lower() for operation in self.operations)


@dataclass(frozen=True, eq=False, kw_only=True)
class RefusingTrigger(TableTrigger):
    """The base of the triggers that refuse a change.

    At row level the conditions are in WHEN, and the function is called only to refuse.
    At statement level the function looks at all rows of the statement, after it; but at
    the updates of a partitioned table, and at the changes of one that inherits, row by
    row as well: PostgreSQL does not tell a trigger for each statement of all of them.

    :param deferrable: ``"deferred"`` refuses at the end of the transaction,
        ``"immediate"`` too if ``SET CONSTRAINTS`` says so; None refuses at once.
    :param hint: the hint of the error, which tells what to do instead; None for a
        general one.
    :param search_path: schemas in which a condition at statement level finds
        operators.
    """

    deferrable: Deferrable | None = None
    hint: str | None = None
    search_path: Sequence[str] = ()

    error: ClassVar[type[RefusedError]]

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        super().__post_init__()
        owner = type(self).__name__
        path = as_names(f"{owner}: search_path", self.search_path)
        object.__setattr__(self, "search_path", path)
        check_deferrable(owner, self.deferrable)
        if self.deferrable is not None and self.level is not Level.ROW:
            raise DefinitionError(
                f"{owner}: only a trigger of level row is deferrable; leave one out"
            )
        if self.hint is not None and not isinstance(self.hint, str):
            raise DefinitionError(f"{owner}: hint is a text, got {self.hint!r}")
        wrong = None if self.hint is None else unstorable(self.hint)
        if wrong is not None:
            raise DefinitionError(
                f"{owner}: PostgreSQL text cannot contain {wrong}, got the hint "
                f"{self.hint!r}; remove it"
            )

    @abstractmethod
    def refusals(self, target: TriggerTarget) -> list[Refusal]:
        """Return a refusal for each operation that has one.

        :param target: the table, and the names on it.
        :raises DefinitionError: it does not fit the table.
        """

    def update_columns(self) -> tuple[str, ...]:
        """Return the attribute names of ``UpdateOf``; none for any update."""
        return ()

    def function_at(self, target: TriggerTarget) -> PGFunction:
        """Return the function: it refuses, at statement level if it finds a row."""
        refusals = self.refusals(target)
        branches = {r.operation: self._branch(target, r) for r in refusals}
        reads = any(self._reads_rows(target, refusal) for refusal in refusals)
        if len(set(branches.values())) == 1:
            code = branches[refusals[0].operation]
        else:
            code = _by_operation(branches)
        body = Joined(
            (
                Raw(USE_COLUMN if reads else "\n"),
                Raw(f"DECLARE\n  {FOUND} text[];\n" if reads else ""),
                Raw("BEGIN\n"),
                code,
                Raw("  RETURN NULL;\n" if reads else ""),
                Raw("END\n"),
            )
        )
        # A function that reads rows has operators, which no caller may replace.
        return PGFunction(
            target.function,
            body,
            definer=reads,
            search_path=tuple(self.search_path) if reads else None,
        )

    def triggers_at(self, target: TriggerTarget) -> list[PGTrigger]:
        """Return one trigger for all operations without a condition, or several."""
        refusals = self.refusals(target)
        self._check_target(target, [refusal.operation for refusal in refusals])
        parts = self._parts(target, refusals)
        triggers = [
            self._trigger(target, part, part.name if len(parts) > 1 else "")
            for part in parts
        ]
        if any(refusal.operation is Operation.TRUNCATE for refusal in refusals):
            triggers.append(
                PGTrigger(
                    name=target.trigger_name("truncate" if parts else ""),
                    table=target.relation,
                    function=target.function,
                    timing="BEFORE",  # after it the rows are gone
                    operations=(Operation.TRUNCATE,),
                    level=Level.STATEMENT,
                    when=target.switch,
                )
            )
        return triggers

    def _parts(self, target: TriggerTarget, refusals: list[Refusal]) -> list[_Part]:
        """Return what its triggers have, without the one for TRUNCATE.

        A condition in WHEN and a transition table are of one operation; the operations
        that have neither share a trigger, which comes first.
        """
        shared: tuple[Operation, ...] = ()
        single = []
        for refusal in refusals:
            if refusal.operation is Operation.TRUNCATE:
                continue
            operations = (refusal.operation,)
            if not self._looks_by_row(target, refusal.operation):
                single.append(_Part(operations, by_row=False))
            elif refusal.condition is not None:
                single.append(_Part(operations, True, refusal.condition))
            else:
                shared += operations
        return [_Part(shared, by_row=True), *single] if shared else single

    def _check_target(self, target: TriggerTarget, operations: list[Operation]) -> None:
        owner, table = type(self).__name__, target.columns.table
        if target.is_view:
            raise DefinitionError(
                f"{target.subject}: {owner} needs a table; attach it to those of the "
                "view"
            )
        if Operation.UPDATE not in operations:
            return
        if self.deferrable and table.dialect_options["postgresql"]["partition_by"]:
            # https://www.postgresql.org/docs/current/trigger-definition.html
            raise DefinitionError(
                f"{target.subject}: {table.name!r} is partitioned, and for triggers "
                "that can be deferred an update that moves a row to another partition "
                "is none; leave deferrable out"
            )
        names = {column.name for column in table.columns}
        by_row = self._looks_by_row(target, Operation.UPDATE)
        if not by_row and ROW_NUMBER in names:
            raise DefinitionError(
                f"{target.subject}: {table.name!r} has a column {ROW_NUMBER!r}, which "
                "is what the rows of a statement are paired by; rename it, or give "
                'level="row"'
            )

    def _trigger(self, target: TriggerTarget, part: _Part, name: str) -> PGTrigger:
        by_row = part.by_row
        updates = Operation.UPDATE in part.operations
        columns = self.update_columns() if updates else ()
        return PGTrigger(
            name=target.trigger_name(name),
            table=target.relation,
            function=target.function,
            timing="BEFORE" if by_row and self.deferrable is None else "AFTER",
            operations=part.operations,
            level=Level.ROW if by_row else Level.STATEMENT,
            columns=tuple(
                target.columns.named("UpdateOf", name).name for name in columns
            ),
            referencing=None if by_row else transition_tables(part.operations[0]),
            deferrable=self.deferrable.upper() if self.deferrable else None,
            when=switched(
                Raw(part.condition) if part.condition else None, target.switch
            ),
        )

    def runs_before(self, target: TriggerTarget, operation: Operation) -> bool:
        """Return whether it runs for a row before the row is written.

        :param target: the table, and the names on it.
        :param operation: the operation on a row.
        """
        return self._looks_by_row(target, operation) and self.deferrable is None

    def statement_operations(self, target: TriggerTarget) -> frozenset[Operation]:
        """Return the operations whose rows it looks at once for each statement.

        :param target: the table, and the names on it.
        """
        refused = {refusal.operation for refusal in self.refusals(target)}
        return ROWS.intersection(refused) - operations_seen_by_row(
            target.columns.table, self.level
        )

    def _looks_by_row(self, target: TriggerTarget, operation: Operation) -> bool:
        return operation in operations_seen_by_row(target.columns.table, self.level)

    def _reads_rows(self, target: TriggerTarget, refusal: Refusal) -> bool:
        if refusal.operation is Operation.TRUNCATE:
            return refusal.condition is not None
        return not self._looks_by_row(target, refusal.operation)

    def _branch(self, target: TriggerTarget, refusal: Refusal) -> Fragment:
        if not self._reads_rows(target, refusal):
            return self._refuse(refusal, refusal.values)
        operation = refusal.operation
        condition = refusal.condition
        rows: Fragment
        if operation is Operation.UPDATE:
            rows = Raw(PAIRS)
            condition = holds_for_pair(condition or "true")
        elif operation is Operation.TRUNCATE:
            # Better one too many is refused than a protected row is gone.
            rows = truncated_rows(target.relation, may_be_left=True)
        else:
            row = "new" if operation.has_new else "old"
            rows = rows_of(operation, target.relation, row)
        numbers = range(1, len(refusal.values) + 1)
        return Joined(
            (
                refuse_hidden_rows(operation, "  "),
                Raw("  SELECT ARRAY["),
                join(", ", refusal.values),
                Raw(f"]::text[] INTO {FOUND}\n    FROM "),
                rows,
                Raw(f"\n    WHERE {condition}" if condition else ""),
                Raw("\n    LIMIT 1;\n  IF FOUND THEN\n"),
                self._refuse(refusal, tuple(Raw(f"{FOUND}[{n}]") for n in numbers)),
                Raw("  END IF;\n"),
            )
        )

    def _refuse(self, refusal: Refusal, values: tuple[Fragment, ...]) -> Fragment:
        subject = (Raw("TG_OP"), Raw("TG_TABLE_SCHEMA"), Raw("TG_TABLE_NAME"))
        return refuse(
            Literal(f"% of %.% is refused: {refusal.reason}"),
            (*subject, *refusal.names, *values),
            self.error.sqlstate,
            refusal.hint,
            indent="  ",
            column=refusal.column,
        )

    def error_hint(self, default: str, target: TriggerTarget) -> Literal:
        """Return the hint of its errors: that of the definition, or a default.

        :param default: the default, to which the name to ignore is added.
        :param target: the table, and the names on it.
        """
        if self.hint is not None:
            return Literal(self.hint)
        ignoring = (
            " Where it is meant, make the change inside a history.ignore(...) of "
            f'"{target.name}".'
            if target.ignorable
            else ""
        )
        return Literal(default + ignoring)


def check_deferrable(owner: str, deferrable: object) -> None:
    """Refuse anything but ``"immediate"``, ``"deferred"`` and None.

    :param owner: the definition, for messages.
    :raises DefinitionError: it is something else.
    """
    if deferrable not in ("immediate", "deferred", None):
        raise DefinitionError(
            f'{owner}: deferrable is "immediate", "deferred" or None, got '
            f"{deferrable!r}"
        )


def check_operations(owner: str, operation: object) -> Operations:
    """Return the operations, and refuse anything else.

    :param owner: the definition, for messages.
    :raises DefinitionError: it is something else.
    """
    if not isinstance(operation, Operations):
        raise DefinitionError(
            f"{owner} takes operations such as Update | Delete, got {operation!r}; "
            "import them from sa_history"
        )
    return operation


def with_truncate(operation: Operations) -> tuple[Operation, ...]:
    """Return the operations, and TRUNCATE if DELETE is among them."""
    deletes = Operation.DELETE in operation.members
    return (operation | Truncate if deletes else operation).members


def _by_operation(branches: dict[Operation, Fragment]) -> Fragment:
    parts: list[Fragment] = []
    for operation, code in branches.items():
        keyword = "ELSIF" if parts else "IF"
        # The operator has its schema: the search_path may be the caller's.
        test = f"TG_OP OPERATOR(pg_catalog.=) '{operation.value}'"
        parts += [Raw(f"  {keyword} {test} THEN\n"), code]
    return Joined((*parts, Raw("  END IF;\n")))
