"""``SoftDelete``: rows that stay when they are deleted, and are marked."""

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
from sa_history.triggers.before_row import BeforeRowTrigger
from sa_history.triggers.column_values import check_value
from sa_history.util.postgresql import FOREIGN_KEY_VIOLATION

FEATURE_NOT_SUPPORTED = "0A000"


@dataclass(frozen=True, eq=False)
class SoftDelete(BeforeRowTrigger):
    """Turns a DELETE into an update that marks the row as deleted.

    A row that is marked already stays as it is. A row is marked if its column has the
    value, or if the value is an SQL expression and the column, which is nullable, is
    not NULL. TRUNCATE deletes for good. A row that is referenced by a foreign key with
    ``ON DELETE CASCADE`` cannot be deleted while marked rows refer to it. In a
    partitioned table, the columns of the partition key cannot be updated.

    :param column: the attribute name of the column.
    :param value: the value that the column is set to: one of its type, or an SQL
        expression such as ``func.now()``.
    :param name: the name of the trigger; if left out, ``"soft_delete"``.
    :param condition: the rows that are marked, as an expression over ``old``; the
        others are deleted. None for all.
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
        """The name if none is given."""
        return "soft_delete"

    def firing_operations(self) -> Operations:
        """Return the operations that fire it."""
        return Delete

    def code(self, target: TriggerTarget) -> Fragment:
        """Return the statements of its body."""
        columns = target.columns
        column = self._column_to_set(target, self.column)
        if not columns.key:
            raise DefinitionError(
                f"{target.subject}: SoftDelete needs a primary key to find the row by"
            )
        if isinstance(self.value, ColumnElement):
            value = self.value
        else:
            check_value(target.subject, column, self.value)
            value = value_of(column.type, self.value)
        partition_key = self._partition_key(target)
        if self.column in partition_key:
            raise DefinitionError(
                f"{target.subject}: {self.column!r} is of the partition key, so a mark "
                "would move the row; mark another column"
            )
        key = columns.columns_of_key
        return Joined(
            (
                *([_refuse_move()] if partition_key else ()),
                *self._orphaned(target),
                Raw(f"  IF {self._unmarked(target)} THEN\n    UPDATE "),
                target.relation,
                Raw(" SET "),
                Ident(column.name),
                Raw(f" = {self._value_sql(target, value)}\n    WHERE "),
                join(" AND ", (_equal(Ident(c.name), c) for c in key)),
                Raw(";\n  END IF;\n  RETURN NULL;\n"),
            )
        )

    def triggers_at(self, target: TriggerTarget) -> list[PGTrigger]:
        """Return the trigger, and one against moves in a partitioned table."""
        triggers = super().triggers_at(target)
        partition_key = self._partition_key(target)
        if partition_key:
            # PostgreSQL moves a row by a DELETE, which looks like any other.
            scope = self._scope(target, Operation.UPDATE, before=True)
            moved = condition_sql(AnyChange(*partition_key), scope)
            triggers.append(
                PGTrigger(
                    name=target.trigger_name("move"),
                    table=target.relation,
                    function=target.function,
                    timing="BEFORE",
                    operations=(Operation.UPDATE,),
                    level=Level.ROW,
                    when=switched(Raw(moved), target.switch),
                )
            )
        return triggers

    def _partition_key(self, target: TriggerTarget) -> tuple[str, ...]:
        """Return the attribute names of the columns in the partition key."""
        options = target.columns.table.dialect_options["postgresql"]
        key = str(options["partition_by"] or "")
        words = {
            quoted.replace('""', '"') or word.lower()
            for quoted, word in re.findall(r'"((?:[^"]|"")+)"|(\w+)', key)
        }
        columns = target.columns
        return tuple(n for n in columns.by_attribute if columns.column_name(n) in words)

    def soft_delete_condition(self, target: TriggerTarget) -> str | None:
        """Return the condition of marked rows, SQL over ``OLD``; None for all."""
        return self._condition_sql(target, Operation.DELETE, before=True)

    def _unmarked(self, target: TriggerTarget) -> str:
        column = self._scope(target, Operation.DELETE, before=True).column(
            "old", self.column
        )
        if isinstance(self.value, ColumnElement):
            nullable = target.columns.by_attribute[self.column].nullable
            marked = stored_equals(column, None) if nullable else None
            return "true" if marked is None else self._value_sql(target, marked)
        operator = equality(column.type)
        if self.value is None or operator == "=":
            return self._value_sql(target, not_(stored_equals(column, self.value)))
        marked = BinaryExpression(
            column,
            value_of(column.type, self.value),
            custom_op(operator, is_comparison=True),
            types.Boolean(),
        )
        return f"({self._value_sql(target, marked)}) IS NOT TRUE"

    def _orphaned(self, target: TriggerTarget) -> list[Fragment]:
        """Return the statements that refuse to leave a row with a broken foreign key.

        After the trigger has turned the DELETE of a cascade into an update, PostgreSQL
        does not check the foreign key again.
        https://www.postgresql.org/docs/current/trigger-definition.html
        """
        return [
            _refuse_orphan(constraint)
            for constraint in sorted(
                target.columns.table.foreign_key_constraints,
                key=lambda c: [(e.parent.name, e.target_fullname) for e in c.elements],
            )
            if (constraint.ondelete or "").upper() == "CASCADE"
            and _is_resolved(constraint)
        ]


def _is_resolved(constraint: ForeignKeyConstraint) -> bool:
    try:
        return constraint.referred_table is not None
    except NoReferencedTableError:  # not defined yet; asked again at installation
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
    """Return the condition that a column is equal to another of ``OLD``.

    The operator is one of ``pg_catalog``: in a cascade the function has the rights of
    the table's owner, and must not run an operator from the caller's ``search_path``.
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
