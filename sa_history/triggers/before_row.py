"""What triggers that change a row before it is written have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement
from sqlalchemy.exc import SQLAlchemyError

from sa_history._types import Level, Operation
from sa_history.ddl.elements import PGFunction, PGTrigger
from sa_history.definition.binding import condition_sql
from sa_history.definition.conditions import AnyChange
from sa_history.definition.operations import Insert, Operations
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Fragment, Joined, Raw
from sa_history.sql.expressions import expression_sql
from sa_history.sql.ignore_switch import switched
from sa_history.triggers.base import TableTrigger, TriggerTarget


@dataclass(frozen=True, eq=False, kw_only=True)
class ChangingTrigger(TableTrigger):
    """The base of the triggers that run before a row is written, and change it.

    The function has the caller's rights and path: it runs for each row, where a path
    of its own would cost about as much as the rest of it, and what it sets could be
    set by the caller as well.
    """

    levels = (Level.ROW,)

    @abstractmethod
    def firing(self) -> Operations:
        """Return the operations that fire it."""

    @abstractmethod
    def code(self, place: TriggerTarget) -> Fragment:
        """Return the statements of its body, with the RETURN.

        :raises DefinitionError: it does not fit the table.
        """

    def _written(self, place: TriggerTarget, name: str) -> Column[Any]:
        """Return a column that it sets.

        :raises DefinitionError: there is none, or it cannot be set.
        """
        owner = type(self).__name__
        column = place.columns.named(owner, name)
        for wrong, reason in (
            (column.primary_key and self.firing() != Insert, "of the primary key"),
            (column.computed is not None, "generated"),
        ):
            if wrong:
                raise DefinitionError(
                    f"{place.subject}: {name!r} is {reason}; give {owner} another "
                    "column"
                )
        return column

    def _value_sql(self, place: TriggerTarget, value: ColumnElement[Any]) -> str:
        try:
            return expression_sql(value)
        except (SQLAlchemyError, TypeError, ValueError) as error:
            raise DefinitionError(
                f"{place.subject}: the value {value!r} cannot be written in a trigger: "
                f"{error}; give an SQL expression"
            ) from error

    def function_at(self, place: TriggerTarget) -> PGFunction:
        """Return the function for a table."""
        if place.is_view:
            raise DefinitionError(
                f"{place.subject}: {type(self).__name__} needs a table; attach it to "
                "those of the view"
            )
        body = Joined((Raw("\nBEGIN\n"), self.code(place), Raw("END\n")))
        return PGFunction(place.function, body, definer=False, search_path=None)

    def triggers_at(self, place: TriggerTarget) -> list[PGTrigger]:
        """Return a trigger for each condition."""
        members = self.firing().members
        return [
            PGTrigger(
                name=place.trigger_name(
                    operation.value.lower() if len(members) > 1 else ""
                ),
                table=place.relation,
                function=place.function,
                timing="BEFORE",
                operations=(operation,),
                level=Level.ROW,
                when=switched(self._when(place, operation), place.switch),
            )
            for operation in members
        ]

    def _when(self, place: TriggerTarget, operation: Operation) -> Fragment | None:
        condition = self._condition_sql(place, operation, before=True)
        if operation is not Operation.UPDATE:
            return Raw(condition) if condition else None
        # An update that changes nothing is none.
        changed = condition_sql(AnyChange(), self._scope(place, operation, before=True))
        return Raw(f"({condition}) AND ({changed})" if condition else changed)
