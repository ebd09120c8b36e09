"""What triggers that refuse a change have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sa_history._types import Deferrable, Level, Operation
from sa_history.ddl.elements import PGFunction, PGTrigger, transition_tables
from sa_history.definition.operations import Operations, Truncate
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
    rows_of,
)
from sa_history.util.arguments import as_names
from sa_history.util.identifiers import unstorable

FOUND = "pgh_found"
"""The variable with the values of a row that is refused."""


@dataclass(frozen=True)
class Refusal:
    """What is refused of one operation.

    :param operation: what fires it.
    :param condition: SQL over ``OLD`` and ``NEW``, None for every row.
    :param reason: why, with a percent sign for each name and each value.
    :param names: the names in it.
    :param values: the values in it, as SQL of type text over ``OLD`` and ``NEW``.
    :param hint: what to do instead.
    :param column: the one that it is about.
    """

    operation: Operation
    condition: str | None
    reason: str
    hint: Literal
    names: tuple[Literal, ...] = ()
    values: tuple[Fragment, ...] = ()
    column: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class RefusingTrigger(TableTrigger):
    """The base of the triggers that refuse a change.

    At row level the conditions stand in WHEN, and the function is called only to
    refuse. At statement level it looks at the rows of the whole statement afterwards.

    :param deferrable: refuse at the end of the transaction: ``"deferred"``, or only
        when asked to by ``SET CONSTRAINTS``: ``"immediate"``.
    :param hint: what the error tells to do instead.
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
    def refusals(self, place: TriggerTarget) -> list[Refusal]:
        """Return what it refuses of each operation, on a table."""

    def update_columns(self) -> tuple[str, ...]:
        """Return the attributes of which an update has to set one, if any."""
        return ()

    def function_at(self, place: TriggerTarget) -> PGFunction:
        """Return the function: it refuses, where need be after a look at the rows."""
        refusals = self.refusals(place)
        branches = {r.operation: self._branch(place, r) for r in refusals}
        reads = any(self._reads_rows(refusal) for refusal in refusals)
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
        # What reads rows has operators in it, which no caller shall replace.
        return PGFunction(
            place.function,
            body,
            definer=reads,
            search_path=tuple(self.search_path) if reads else None,
        )

    def triggers_at(self, place: TriggerTarget) -> list[PGTrigger]:
        """Return one trigger for all operations that have no condition, or several."""
        refusals = self.refusals(place)
        self._check_place(place, [refusal.operation for refusal in refusals])
        triggers: list[PGTrigger] = []
        plain: list[Operation] = []
        for refusal in refusals:
            if refusal.operation is Operation.TRUNCATE:
                continue
            if self.level is Level.STATEMENT or refusal.condition is not None:
                triggers.append(self._trigger(place, (refusal.operation,), refusal))
            else:
                plain.append(refusal.operation)
        if plain:
            triggers.insert(0, self._trigger(place, tuple(plain), None))
        truncate = [r for r in refusals if r.operation is Operation.TRUNCATE]
        named = [
            _renamed(place, t, _part(t) if len(triggers) > 1 else "") for t in triggers
        ]
        if truncate:
            part = "truncate" if named else ""
            named.append(
                PGTrigger(
                    name=place.trigger_name(part),
                    table=place.relation,
                    function=place.function,
                    timing="BEFORE",  # after it the rows are gone
                    operations=(Operation.TRUNCATE,),
                    level=Level.STATEMENT,
                    when=place.switch,
                )
            )
        return named

    def _check_place(self, place: TriggerTarget, operations: list[Operation]) -> None:
        owner, table = type(self).__name__, place.columns.table
        if place.is_view:
            raise DefinitionError(
                f"{place.subject}: {owner} needs a table; attach it to those of the "
                "view"
            )
        if Operation.UPDATE not in operations:
            return
        if self.deferrable and table.dialect_options["postgresql"]["partition_by"]:
            # https://www.postgresql.org/docs/current/trigger-definition.html
            raise DefinitionError(
                f"{place.subject}: {table.name!r} is partitioned, and for triggers "
                "that can be deferred an update that moves a row to another partition "
                "is none; leave deferrable out"
            )
        names = {column.name for column in table.columns}
        if self.level is Level.STATEMENT and ROW_NUMBER in names:
            raise DefinitionError(
                f"{place.subject}: {table.name!r} has a column {ROW_NUMBER!r}, which "
                "is what the rows of a statement are paired by; rename it, or give "
                'level="row"'
            )

    def _trigger(
        self,
        place: TriggerTarget,
        operations: tuple[Operation, ...],
        refusal: Refusal | None,
    ) -> PGTrigger:
        by_row = self.level is Level.ROW
        condition = refusal.condition if refusal and by_row else None
        columns = self.update_columns() if Operation.UPDATE in operations else ()
        return PGTrigger(
            name="",
            table=place.relation,
            function=place.function,
            timing="BEFORE" if by_row and not self.deferrable else "AFTER",
            operations=operations,
            level=Level.ROW if by_row else Level.STATEMENT,
            columns=tuple(
                place.columns.named("UpdateOf", name).name for name in columns
            ),
            referencing=None if by_row else transition_tables(operations[0]),
            deferrable=self.deferrable.upper() if self.deferrable else None,
            when=switched(Raw(condition) if condition else None, place.switch),
        )

    @property
    def before(self) -> bool:
        """Whether it runs before the row is written."""
        return self.level is Level.ROW and self.deferrable is None

    def _reads_rows(self, refusal: Refusal) -> bool:
        if refusal.operation is Operation.TRUNCATE:
            return refusal.condition is not None
        return self.level is Level.STATEMENT

    def _branch(self, place: TriggerTarget, refusal: Refusal) -> Fragment:
        if not self._reads_rows(refusal):
            return self._refuse(refusal, refusal.values)
        operation = refusal.operation
        if operation is Operation.UPDATE:
            rows: Fragment = Raw(PAIRS)
            condition: str | None = holds_for_pair(refusal.condition or "true")
        else:
            row = "new" if operation.has_new else "old"
            rows = rows_of(operation, place.relation, row)
            condition = refusal.condition
        numbers = range(1, len(refusal.values) + 1)
        return Joined(
            (
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

    def the_hint(self, default: str, place: TriggerTarget) -> Literal:
        """Return the hint of its errors.

        :param default: what to do instead, where the definition does not say.
        """
        if self.hint is not None:
            return Literal(self.hint)
        ignoring = (
            " Where it is meant, make the change inside a history.ignore(...) of "
            f'"{place.name}".'
            if place.ignorable
            else ""
        )
        return Literal(default + ignoring)


def check_deferrable(owner: str, deferrable: object) -> None:
    """Refuse anything but what SQL has.

    :raises DefinitionError: it is something else.
    """
    if deferrable not in ("immediate", "deferred", None):
        raise DefinitionError(
            f'{owner}: deferrable is "immediate", "deferred" or None, got '
            f"{deferrable!r}"
        )


def check_operations(owner: str, operation: object) -> Operations:
    """Return the operations, refusing anything else.

    :raises DefinitionError: it is something else.
    """
    if not isinstance(operation, Operations):
        raise DefinitionError(
            f"{owner} takes operations such as Update | Delete, got {operation!r}"
        )
    return operation


def covered(operation: Operations) -> tuple[Operation, ...]:
    """Return the operations; where deletions are among them, TRUNCATE is as well."""
    deletes = Operation.DELETE in operation.members
    return (operation | Truncate if deletes else operation).members


def _by_operation(branches: dict[Operation, Fragment]) -> Fragment:
    parts: list[Fragment] = []
    for operation, code in branches.items():
        keyword = "ELSIF" if parts else "IF"
        # The operator is qualified: the path may be the caller's.
        test = f"TG_OP OPERATOR(pg_catalog.=) '{operation.value}'"
        parts += [Raw(f"  {keyword} {test} THEN\n"), code]
    return Joined((*parts, Raw("  END IF;\n")))


def _part(trigger: PGTrigger) -> str:
    return "_".join(operation.value.lower() for operation in trigger.operations)


def _renamed(place: TriggerTarget, trigger: PGTrigger, part: str) -> PGTrigger:
    return replace(trigger, name=place.trigger_name(part))
