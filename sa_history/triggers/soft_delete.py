"""Rows that are marked as deleted and stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, ForeignKeyConstraint, literal, not_
from sqlalchemy.exc import NoReferencedTableError

from sa_history._types import Operation
from sa_history.exc import DefinitionError
from sa_history.operations import Delete, Operations
from sa_history.sql.bodies import refuse
from sa_history.sql.comparison import stored_equals
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    join,
)
from sa_history.sql.expressions import expression_sql
from sa_history.triggers.base import Place
from sa_history.triggers.changing import ChangingTrigger
from sa_history.triggers.values import check_value

FOREIGN_KEY_VIOLATION = "23503"


@dataclass(frozen=True, eq=False)
class SoftDelete(ChangingTrigger):
    """Turns a DELETE into an update that marks the row.

    A row that is marked already stays as it is: one whose column has the value, or,
    with an SQL expression as value, one whose nullable column is not NULL. TRUNCATE
    deletes for good. Where a foreign key has ``ON DELETE CASCADE``, a row that it
    refers to cannot be deleted while marked rows do.

    :param column: the attribute name of the column.
    :param value: what marks the row, a value of the column or an SQL expression such
        as ``func.now()``.
    :param name: of the trigger; ``"soft_delete"`` if left out.
    :param condition: which rows are marked, as an expression over ``old``; the others
        are deleted. All, if left out.
    :param ignorable: whether ``history.ignore`` turns it off.
    :raises DefinitionError: the column cannot have the value.

    Example::

        @attach(SoftDelete("is_active", value=False))
        class Account(Base): ...


        @attach(SoftDelete("deleted_at", value=func.now()))
        class Page(Base): ...
    """

    column: str
    value: Any = field(default=False, kw_only=True)

    @property
    def default_name(self) -> str:
        """The name without ``name=``."""
        return "soft_delete"

    def firing(self) -> Operations:
        """Return the operations that fire it."""
        return Delete

    def code(self, place: Place) -> Fragment:
        """Return the statements of its body."""
        columns = place.columns
        column = columns.named("SoftDelete", self.column)
        if not columns.key:
            raise DefinitionError(
                f"{place.subject}: SoftDelete needs a primary key to find the row by"
            )
        if column.primary_key:
            raise DefinitionError(
                f"{place.subject}: {self.column!r} is of the primary key; mark another"
            )
        if isinstance(self.value, ColumnElement):
            value = self.value
        else:
            check_value(place.subject, column, self.value)
            value = literal(self.value, column.type)
        key = (columns.columns[name].name for name in columns.key)
        return Joined(
            (
                *self._orphaned(place),
                Raw(f"  IF {self._unmarked(place)} THEN\n    UPDATE "),
                place.relation,
                Raw(" SET "),
                Ident(column.name),
                Raw(f" = {expression_sql(value)}\n    WHERE "),
                join(" AND ", (Ident(n) + Raw(" = OLD.") + Ident(n) for n in key)),
                Raw(";\n  END IF;\n  RETURN NULL;\n"),
            )
        )

    def marks(self, place: Place) -> str | None:
        """Return which rows a DELETE marks, as SQL over ``OLD``; None for all."""
        return self._condition_sql(place, Operation.DELETE, before=True)

    def _unmarked(self, place: Place) -> str:
        column = self._scope(place, Operation.DELETE, before=True).column(
            "old", self.column
        )
        if not isinstance(self.value, ColumnElement):
            return expression_sql(not_(stored_equals(column, self.value)))
        nullable = place.columns.columns[self.column].nullable
        return expression_sql(stored_equals(column, None)) if nullable else "true"

    def _orphaned(self, place: Place) -> list[Fragment]:
        """Return what refuses that a row is left without the row it refers to.

        PostgreSQL does not look after a cascade has been turned into something else.
        https://www.postgresql.org/docs/current/trigger-definition.html
        """
        return [
            _refuse_orphan(constraint)
            for constraint in place.columns.table.foreign_key_constraints
            if (constraint.ondelete or "").upper() == "CASCADE"
            and _is_resolved(constraint)
        ]


def _is_resolved(constraint: ForeignKeyConstraint) -> bool:
    try:
        return constraint.referred_table is not None
    except NoReferencedTableError:  # as the class is made; it is looked at again
        return False


def _refuse_orphan(constraint: ForeignKeyConstraint) -> Fragment:
    referred = constraint.referred_table
    pairs = [
        (Raw("OLD.") + Ident(element.parent.name), Ident(element.column.name))
        for element in constraint.elements
    ]
    return Joined(
        (
            Raw("  IF "),
            join(" AND ", (old + Raw(" IS NOT NULL") for old, _ in pairs)),
            Raw(" AND NOT EXISTS (SELECT FROM "),
            Qualified(referred.schema, referred.name),
            Raw(" WHERE "),
            join(" AND ", (column + Raw(" = ") + old for old, column in pairs)),
            Raw(") THEN\n"),
            refuse(
                Literal("DELETE of %.% is refused: its row in % is deleted"),
                (
                    Raw("TG_TABLE_SCHEMA"),
                    Raw("TG_TABLE_NAME"),
                    Literal(referred.name),
                ),
                FOREIGN_KEY_VIOLATION,
                Literal("The row stays, marked; mark what it refers to as well."),
                indent="    ",
            ),
            Raw("  END IF;\n"),
        )
    )
