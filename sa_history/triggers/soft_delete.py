"""Rows that are marked as deleted and stay."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BinaryExpression,
    Column,
    ColumnElement,
    ForeignKeyConstraint,
    not_,
    types,
)
from sqlalchemy.exc import NoReferencedTableError
from sqlalchemy.sql.operators import custom_op

from sa_history._types import Level, Operation
from sa_history.ddl.elements import PGTrigger
from sa_history.definition.binding import condition_sql
from sa_history.definition.conditions import AnyChange
from sa_history.definition.operations import Delete, Operations
from sa_history.exc import DefinitionError
from sa_history.sql.column_types import equality
from sa_history.sql.comparison import stored_equals, value_of
from sa_history.sql.compose import (
    Fragment,
    Ident,
    Joined,
    Literal,
    Qualified,
    Raw,
    join,
)
from sa_history.sql.functions import refuse
from sa_history.sql.ignore_switch import switched
from sa_history.triggers.base import TriggerTarget
from sa_history.triggers.before_row import ChangingTrigger
from sa_history.triggers.column_values import check_value

FOREIGN_KEY_VIOLATION = "23503"
FEATURE_NOT_SUPPORTED = "0A000"


@dataclass(frozen=True, eq=False)
class SoftDelete(ChangingTrigger):
    """Turns a DELETE into an update that marks the row.

    A row that is marked already stays as it is: one whose column has the value, or,
    with an SQL expression as value, one whose nullable column is not NULL. TRUNCATE
    deletes for good. Where a foreign key has ``ON DELETE CASCADE``, a row that it
    refers to cannot be deleted while marked rows do. In a partitioned table, the
    columns of the partition key cannot be updated.

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

    def code(self, place: TriggerTarget) -> Fragment:
        """Return the statements of its body."""
        columns = place.columns
        column = self._written(place, self.column)
        if not columns.key:
            raise DefinitionError(
                f"{place.subject}: SoftDelete needs a primary key to find the row by"
            )
        if isinstance(self.value, ColumnElement):
            value = self.value
        else:
            check_value(place.subject, column, self.value)
            value = value_of(column.type, self.value)
        partition_key = self._partition_key(place)
        if self.column in partition_key:
            raise DefinitionError(
                f"{place.subject}: {self.column!r} is of the partition key, so a mark "
                "would move the row; mark another column"
            )
        key = (columns.by_attribute[name] for name in columns.key)
        return Joined(
            (
                *([_refuse_move()] if partition_key else ()),
                *self._orphaned(place),
                Raw(f"  IF {self._unmarked(place)} THEN\n    UPDATE "),
                place.relation,
                Raw(" SET "),
                Ident(column.name),
                Raw(f" = {self._value_sql(place, value)}\n    WHERE "),
                join(" AND ", (_equal(Ident(c.name), c) for c in key)),
                Raw(";\n  END IF;\n  RETURN NULL;\n"),
            )
        )

    def triggers_at(self, place: TriggerTarget) -> list[PGTrigger]:
        """Return the trigger, and one that keeps rows in their partitions."""
        triggers = super().triggers_at(place)
        partition_key = self._partition_key(place)
        if partition_key:
            # PostgreSQL moves a row by a DELETE, which is not to be told from others.
            scope = self._scope(place, Operation.UPDATE, before=True)
            moved = condition_sql(AnyChange(*partition_key), scope)
            triggers.append(
                PGTrigger(
                    name=place.trigger_name("move"),
                    table=place.relation,
                    function=place.function,
                    timing="BEFORE",
                    operations=(Operation.UPDATE,),
                    level=Level.ROW,
                    when=switched(Raw(moved), place.switch),
                )
            )
        return triggers

    def _partition_key(self, place: TriggerTarget) -> tuple[str, ...]:
        """Return the attributes whose columns are named in the partition key."""
        options = place.columns.table.dialect_options["postgresql"]
        key = str(options["partition_by"] or "")
        words = {
            quoted.replace('""', '"') or word.lower()
            for quoted, word in re.findall(r'"((?:[^"]|"")+)"|(\w+)', key)
        }
        columns = place.columns
        return tuple(n for n in columns.by_attribute if columns.column_name(n) in words)

    def marks(self, place: TriggerTarget) -> str | None:
        """Return which rows a DELETE marks, as SQL over ``OLD``; None for all."""
        return self._condition_sql(place, Operation.DELETE, before=True)

    def _unmarked(self, place: TriggerTarget) -> str:
        column = self._scope(place, Operation.DELETE, before=True).column(
            "old", self.column
        )
        if isinstance(self.value, ColumnElement):
            nullable = place.columns.by_attribute[self.column].nullable
            marked = stored_equals(column, None) if nullable else None
            return "true" if marked is None else self._value_sql(place, marked)
        operator = equality(column.type)
        if self.value is None or operator == "=":
            return self._value_sql(place, not_(stored_equals(column, self.value)))
        marked = BinaryExpression(
            column,
            value_of(column.type, self.value),
            custom_op(operator, is_comparison=True),
            types.Boolean(),
        )
        return f"({self._value_sql(place, marked)}) IS NOT TRUE"

    def _orphaned(self, place: TriggerTarget) -> list[Fragment]:
        """Return what refuses that a row is left without the row it refers to.

        PostgreSQL does not look after a cascade has been turned into something else.
        https://www.postgresql.org/docs/current/trigger-definition.html
        """
        return [
            _refuse_orphan(constraint)
            for constraint in sorted(
                place.columns.table.foreign_key_constraints,
                key=lambda c: [(e.parent.name, e.target_fullname) for e in c.elements],
            )
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
    return Joined(
        (
            Raw("  IF "),
            join(
                " AND ",
                (
                    Raw("OLD.") + Ident(e.parent.name) + Raw(" IS NOT NULL")
                    for e in constraint.elements
                ),
            ),
            Raw(" AND NOT EXISTS (SELECT FROM "),
            Qualified(referred.schema, referred.name),
            Raw(" WHERE "),
            join(
                " AND ",
                (_equal(Ident(e.column.name), e.parent) for e in constraint.elements),
            ),
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


def _equal(name: Fragment, column: Column[Any]) -> Fragment:
    """Return whether a column is what ``OLD`` has in another.

    In a cascade the function has the rights of the table's owner, so what the caller
    has put into the path must not run.
    """
    return name + Raw(f" {equality(column.type)} OLD.") + Ident(column.name)


def _refuse_move() -> Fragment:
    return Joined(
        (
            Raw("  IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN\n"),
            refuse(
                Literal("UPDATE of %.% is refused: it may move the row"),
                (Raw("TG_TABLE_SCHEMA"), Raw("TG_TABLE_NAME")),
                FEATURE_NOT_SUPPORTED,
                Literal(
                    "To move a row to another partition is to delete it, and that"
                    " marks it; insert another row."
                ),
                indent="    ",
            ),
            Raw("  END IF;\n"),
        )
    )
