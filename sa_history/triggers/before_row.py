"""The base class of triggers that change a row before it is written."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement
from sqlalchemy.exc import SQLAlchemyError

from sa_history._types import Level, Operation
from sa_history.ddl.elements import PGFunction, PGTrigger
from sa_history.definition.binding import condition_sql, with_condition
from sa_history.definition.conditions import AnyChange
from sa_history.definition.operations import Insert, Operations
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Fragment, Joined, Raw
from sa_history.sql.expressions import expression_sql
from sa_history.sql.ignore_switch import switched
from sa_history.triggers.base import TableTrigger, TriggerTarget


@dataclass(frozen=True, eq=False, kw_only=True)
class BeforeRowTrigger(TableTrigger):
    """The base of the triggers that run before a row is written, and change it.

    The function has the caller's rights and ``search_path``: it runs for each row, and
    a path of its own would cost about as much as all the rest. What it sets,
    the caller could set as well.
    """

    levels = (Level.ROW,)

    @abstractmethod
    def firing_operations(self) -> Operations:
        """Return the operations that fire it."""

    @abstractmethod
    def code(self, target: TriggerTarget) -> Fragment:
        """Return the statements of its body, with the RETURN.

        :param target: the table, and the names on it.
        :raises DefinitionError: it does not fit the table.
        """

    def _column_to_set(self, target: TriggerTarget, name: str) -> Column[Any]:
        """Return a column that it sets.

        :param name: the attribute name of the column.
        :raises DefinitionError: the table has no such column, or it cannot be set.
        """
        owner = type(self).__name__
        column = target.columns.named(owner, name)
        for wrong, reason in (
            (
                column.primary_key and self.firing_operations() != Insert,
                "of the primary key",
            ),
            (column.computed is not None, "generated"),
        ):
            if wrong:
                raise DefinitionError(
                    f"{target.subject}: {name!r} is {reason}; give {owner} another "
                    "column"
                )
        return column

    def _value_sql(self, target: TriggerTarget, value: ColumnElement[Any]) -> str:
        try:
            return expression_sql(value)
        except (SQLAlchemyError, TypeError, ValueError) as error:
            raise DefinitionError(
                f"{target.subject}: the value {value!r} cannot be written in a trigger"
                f": {error}; give an SQL expression"
            ) from error

    def function_at(self, target: TriggerTarget) -> PGFunction:
        """Return the function for a table."""
        if target.is_view:
            raise DefinitionError(
                f"{target.subject}: {type(self).__name__} needs a table; attach it to "
                "those of the view"
            )
        body = Joined((Raw("\nBEGIN\n"), self.code(target), Raw("END\n")))
        return PGFunction(target.function, body, definer=False, search_path=None)

    def triggers_at(self, target: TriggerTarget) -> list[PGTrigger]:
        """Return a trigger for each operation, whose conditions differ."""
        members = self.firing_operations().members
        return [
            PGTrigger(
                name=target.trigger_name(
                    operation.value.lower() if len(members) > 1 else ""
                ),
                table=target.relation,
                function=target.function,
                timing="BEFORE",
                operations=(operation,),
                level=Level.ROW,
                when=switched(self._when(target, operation), target.switch),
            )
            for operation in members
        ]

    def _when(self, target: TriggerTarget, operation: Operation) -> Fragment | None:
        condition = self._condition_sql(target, operation, before=True)
        if operation is not Operation.UPDATE:
            return Raw(condition) if condition else None
        # An update that changes nothing is none.
        changed = condition_sql(
            AnyChange(), self._scope(target, operation, before=True)
        )
        return Raw(with_condition(condition, changed))
