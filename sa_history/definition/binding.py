"""Conditions as SQL over the rows of a trigger.

To *bind* a condition is to do each of its steps again on the real columns, with their
types, operators and literals. A name that does not exist is an error then.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    BinaryExpression,
    BindParameter,
    ClauseElement,
    Column,
    ColumnElement,
    FromClause,
    SelectBase,
    Table,
    and_,
    literal_column,
    not_,
    or_,
    types,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    ExpressionClauseList,
    Null,
    TextClause,
    quoted_name,
)

from sa_history._types import Operation, Row
from sa_history.definition.columns import TableColumns
from sa_history.definition.conditions import (
    AllChange,
    AnyChange,
    AnyDontChange,
    AppliedOperator,
    AttributeAccess,
    ChangeCondition,
    Condition,
    ConditionArgument,
    ConditionElement,
    MethodCall,
    RowColumn,
)
from sa_history.exc import ConditionError
from sa_history.sql.column_types import postgresql_type
from sa_history.sql.comparison import any_differs, image_differs, stored_differs
from sa_history.sql.expressions import expression_sql
from sa_history.util.identifiers import unstorable
from sa_history.util.messages import suggestion

_ROWS = "_sa_history_rows"


def _rows_of(table: Table) -> Mapping[str, FromClause]:
    """Return the old and the new row, as aliases of a table.

    The aliases are kept with the table, since an alias copies all of its columns; a
    table that has got more columns gets new ones.
    """
    rows: dict[int, Mapping[str, FromClause]] = vars(table).setdefault(_ROWS, {})
    if len(table.columns) not in rows:
        # PL/pgSQL's own names for the rows; at statement level the transition
        # tables are aliased to them, so one text serves both levels.
        rows[len(table.columns)] = {
            row: table.alias(quoted_name(row.upper(), quote=False))
            for row in ("old", "new")
        }
    return rows[len(table.columns)]


@dataclass(frozen=True, eq=False)
class RowScope:
    """The rows that a condition may name: those of one operation on one table.

    :param subject: the name of the model, perhaps with the trigger's, for messages.
    :param columns: the columns of the table.
    :param watched: the attributes that ``AnyChange()`` looks at by default.
    :param operation: the operation that fires the trigger; an insert has no old row, a
        delete no new one.
    :param generated: attributes that have no value yet in the new row.
    """

    subject: str
    columns: TableColumns
    watched: tuple[str, ...]
    operation: Operation
    generated: frozenset[str] = frozenset()

    @property
    def _rows(self) -> Mapping[str, FromClause]:
        return _rows_of(self.columns.table)

    def column(self, row: Row, name: str) -> ColumnElement[Any]:
        """Return the column of an attribute in the old or the new row.

        :raises ConditionError: as for :meth:`check`.
        """
        self.check(row, name)
        column = self.columns.by_attribute[name]
        found = self._rows[row].corresponding_column(column)
        assert found is not None
        return found

    def check(self, row: Row, name: str) -> None:
        """Refuse an attribute that a condition cannot name.

        :raises ConditionError: the operation has no such row, or the model no such
            attribute, or the attribute has no value when the trigger runs.
        """
        if not (self.operation.has_old if row == "old" else self.operation.has_new):
            raise ConditionError(
                f"{self.subject}: a condition on {self.operation.value} uses "
                f"{row}.{name}, but there is no {row} row; use "
                f"{'new' if row == 'old' else 'old'}.{name}, or a tracker of updates"
            )
        if name in self.columns.virtual:
            raise self._without_value(row, name, self.columns.virtual[name].name)
        if name not in self.columns.by_attribute:
            raise ConditionError(
                f"{self.subject} has no column attribute {name!r} for {row}.{name}"
                f"{suggestion(name, self.columns.by_attribute)}"
            )
        if row == "new" and name in self.generated:
            raise ConditionError(
                f"{self.subject}: new.{name} is generated, and has no value yet when a "
                "trigger runs before the change; use the columns it is made of"
            )

    def check_sql(self, sql: str) -> None:
        """Refuse SQL that names a generated column which the database does not store.

        :param sql: a condition; what ``text()`` names is known by its SQL only.
        :raises ConditionError: names the column.
        """
        if not self.columns.virtual:
            return
        virtual = {column.name for column in self.columns.virtual.values()}
        for found in _REFERENCE.finditer(sql):
            plain, quoted = found["plain"] or "", found["quoted"] or ""
            name = plain.lower() or quoted.replace('""', '"')
            if name in virtual:
                raise self._without_value(found["row"].lower(), name, name)

    def _without_value(self, row: str, name: str, column: str) -> ConditionError:
        return ConditionError(
            f"{self.subject}: a condition uses {row}.{name}, but the generated column "
            f"{column!r} is not stored, so it has no value in a trigger; use the "
            "columns it is made of, or have it stored: Computed(..., persisted=True)"
        )

    def has(self, column: Column[Any]) -> bool:
        """Return whether a column is one of the old or the new row."""
        return column.table in self._rows.values()


_REFERENCE = re.compile(
    r"""
    # What only looks like a name: strings, comments.
      \be'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | --[^\n]* | /\*.*?\*/
    # OLD.name, NEW."name", (NEW).name, "new".name
    | "?\b(?P<row>old|new)\b["\s)]*\.\s*(?:(?P<plain>\w+)|"(?P<quoted>(?:[^"]|"")+)")
    # Any other name, as a whole.
    | "(?:[^"]|"")+" | \w+
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
"""A column of ``OLD`` or ``NEW`` in SQL, or a token to pass over."""


def bound(part: Any, scope: RowScope) -> Any:
    """Return a condition, or a part of one, as an expression over the rows of a scope.

    :param part: a condition, a SQLAlchemy expression or a list with conditions in it;
        any other value is returned as it is.
    :raises ConditionError: the scope has no such column.
    """
    match part:
        case RowColumn():
            return scope.column(part.row, part.name)
        case AppliedOperator():
            operands = (bound(operand, scope) for operand in part.operands)
            return part.operator(*operands, **part.options)
        case AttributeAccess():
            return getattr(bound(part.owner, scope), part.name)
        case MethodCall():
            args = [bound(arg, scope) for arg in part.args]
            kwargs = {name: bound(arg, scope) for name, arg in part.kwargs.items()}
            return bound(part.method, scope)(*args, **kwargs)
        case ChangeCondition():
            return _bound_change(part, scope)
        case list() | tuple():
            return type(part)(bound(item, scope) for item in part)
        case visitors.Visitable():
            return visitors.replacement_traverse(
                cast("visitors.ExternallyTraversible", part),
                {},
                lambda element, **_: _replacement(element, scope),
            )
    return part


def _replacement(element: Any, scope: RowScope) -> Any:
    """Return what replaces an element of an expression, or None to look inside."""
    if isinstance(element, ConditionElement):
        return _bound_element(element, scope)
    summands = _unknown_summands(element)
    if summands:
        total = functools.reduce(
            operator.add, (bound(summand, scope) for summand in summands)
        )
        # || needs parentheses where + needed none.
        return total if total.operator is operator.add else total.self_group()
    return None


def _unknown_summands(element: Any) -> Sequence[ColumnElement[Any]]:
    """Return the parts of a sum of unknown types; none, if it is something else.

    It is the types that make ``||`` of ``+``, and they were not known before.
    """
    match element:
        case BinaryExpression(operator=operator.add):
            summands: Sequence[ColumnElement[Any]] = (element.left, element.right)
        case ExpressionClauseList(operator=operator.add):  # a + b + c
            summands = element.clauses
        case _:
            return ()
    is_unknown = all(isinstance(each.type, types.NullType) for each in summands)
    return summands if is_unknown else ()


def _bound_element(element: ConditionElement, scope: RowScope) -> ColumnElement[Any]:
    expression = bound(element.condition, scope)
    return functools.reduce(
        lambda grouped, against: grouped.self_group(against=against),
        element.operand_of,
        cast("ColumnElement[Any]", expression),
    )


def _bound_change(condition: ChangeCondition, scope: RowScope) -> ColumnElement[bool]:
    changes = [changed(scope, name) for name in watched_names(condition, scope)]
    match condition:
        case AnyChange():
            return or_(*changes)
        case AllChange():
            return and_(*changes)
        case AnyDontChange():
            return not_(and_(*changes))
    return not_(or_(*changes))


def watched_names(condition: ChangeCondition, scope: RowScope) -> tuple[str, ...]:
    """Return the attributes that ``AnyChange`` or one of its family looks at.

    :raises ConditionError: an excluded one does not exist, or none is left.
    """
    for name in condition.exclude:
        scope.check("new", name)
    names = condition.names or tuple(
        name for name in scope.watched if name not in condition.exclude
    )
    if not names:
        raise ConditionError(
            f"{scope.subject}: {condition!r} leaves no column to look at; name some"
        )
    return names


def changed(scope: RowScope, name: str, by_image: bool = False) -> ColumnElement[bool]:
    """Return whether an attribute differs between the old and the new row.

    :param by_image: compare without an operator that a ``search_path`` could replace.
    """
    differs = image_differs if by_image else stored_differs
    return differs(scope.column("old", name), scope.column("new", name))


def _plain_sql(condition: AnyChange, scope: RowScope) -> str:
    """Return the SQL of a change, which every model has: trackers look at it."""
    names = watched_names(condition, scope)
    for name in names:
        for row in ("old", "new"):
            scope.check(row, name)
    return any_differs([scope.columns.by_attribute[name] for name in names])


class _BoundColumns:
    """The argument ``old`` or ``new`` of a condition that is a function."""

    def __init__(self, scope: RowScope, row: Row) -> None:
        self._scope, self._row = scope, row

    def __getattr__(self, name: str) -> ColumnElement[Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._scope.column(self._row, name)

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        return self._scope.column(self._row, name)


def _check_expression(expression: ClauseElement, scope: RowScope) -> None:
    """Refuse what means something else in a trigger, or nothing."""
    for element in visitors.iterate(expression):
        if isinstance(element, BindParameter) and element.required:
            # SQLAlchemy would write NULL.
            raise ValueError(f"the parameter :{element.key} has no value")
        if isinstance(element, SelectBase):
            # NEW and OLD would be tables of the subquery's own.
            raise ValueError("it has a subquery")
        if isinstance(element, BinaryExpression):
            _check_json(element)
        if isinstance(element, Column) and not scope.has(element):
            raise ConditionError(
                f"{scope.subject}: a condition names the column {element}, which is "
                f"neither of the old nor of the new row; write new.{element.key} or "
                f"old.{element.key}"
            )


def _check_json(comparison: BinaryExpression[Any]) -> None:
    """Refuse a comparison of ``json``, for which PostgreSQL has no operators.

    :raises ValueError: it is one, and not with NULL.
    """
    sides = (comparison.left, comparison.right)
    is_compared = operators.is_comparison(comparison.operator)
    if not is_compared or any(isinstance(side, Null) for side in sides):
        return
    for side in sides:
        type_ = postgresql_type(side.type)
        if isinstance(type_, types.JSON) and not isinstance(type_, JSONB):
            raise ValueError(
                f"PostgreSQL cannot compare json, as {side} is; make the column JSONB, "
                "or compare cast(..., JSONB)"
            )


def _or(condition: object) -> str:
    """Return what else can be written in place of a function that is no condition."""
    is_function = callable(condition) and not isinstance(condition, Condition)
    return ", or a function of old and new" if is_function else ""


def with_condition(condition: str | None, sql: str) -> str:
    """Return a condition that holds where another one does as well.

    :param condition: the other one, which comes first; None for no other.
    :param sql: the condition.
    """
    return sql if condition is None else f"({condition}) AND ({sql})"


def condition_sql(condition: ConditionArgument, scope: RowScope) -> str:
    """Return a condition as SQL over ``OLD`` and ``NEW``.

    :param condition: an expression over ``old`` and ``new``, ``AnyChange`` and its
        family, ``text()``, or a function ``(old, new) -> expression``.
    :raises ConditionError: the condition has an unknown column, a row that the
        operation does not have, or a value that has no literal form.
    """
    if type(condition) is AnyChange:
        return _plain_sql(condition, scope)
    expression: Any = condition
    if isinstance(condition, bool):
        raise ConditionError(
            f"{scope.subject}: a condition is {condition}, so Python has compared by "
            "itself, as it does with 'is'; write new.column == None for NULL, or "
            "SQLAlchemy's true() or false()"
        )
    try:
        if callable(condition) and not isinstance(condition, Condition):
            expression = condition(
                _BoundColumns(scope, "old"), _BoundColumns(scope, "new")
            )
        expression = bound(expression, scope)
        if isinstance(expression, bool):
            expression = literal_column(str(expression).lower())
        if not isinstance(expression, (ColumnElement, TextClause)):
            raise ConditionError(
                f"{scope.subject}: a condition is an expression over old and new, "
                f"AnyChange(...), text('...') or a function of old and new that "
                f"returns one, got {condition!r}"
            )
        _check_expression(expression, scope)
        sql = expression_sql(expression)
        wrong = unstorable(sql)
        if wrong is not None:
            raise ValueError(
                f"PostgreSQL text cannot contain {wrong}, got {sql!r}; remove it"
            )
        scope.check_sql(sql)
        return sql
    except ConditionError:
        raise
    except (
        SQLAlchemyError,
        AttributeError,
        NotImplementedError,
        TypeError,
        ValueError,
    ) as error:
        raise ConditionError(
            f"{scope.subject}: the condition {condition!r} cannot be written as SQL: "
            f"{error}; write that part with text('...'){_or(condition)}"
        ) from error
