"""Conditions: which changes a tracker records, over the rows ``old`` and ``new``.

A condition is written before the class exists, so ``new.balance < 0`` only
remembers what was asked. When the class is mapped the condition is *bound*: each
step is done again on the real column, with the column's type, operators and
literal form, and a name that does not exist is an error.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

from sqlalchemy import (
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
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import TextClause, quoted_name
from sqlalchemy.sql.operators import ColumnOperators, OperatorType

from sa_history._types import Operation, Row
from sa_history.exc import ConditionError
from sa_history.sql.comparison import image_differs, plain_differs, stored_differs
from sa_history.sql.expressions import expression_sql
from sa_history.util.identifiers import unstorable

_ROWS = "_sa_history_rows"


def _rows_of(table: Table) -> Mapping[str, FromClause]:
    """Return the old and the new row, as aliases of the table.

    They stay with the table, since an alias copies all of its columns; for a table
    that has got more columns there are new ones.
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
    """What a condition is bound to: one operation on one table.

    :param subject: the model's name, for messages.
    :param table: the tracked table.
    :param columns: its columns by attribute name.
    :param watched: the attributes that ``AnyChange()`` looks at by default.
    :param operation: what fires; an insert has no old row, a delete no new one.
    :param generated: attributes that have no value yet in the new row.
    """

    subject: str
    table: Table
    columns: Mapping[str, Column[Any]]
    watched: tuple[str, ...]
    operation: Operation
    generated: frozenset[str] = frozenset()

    @property
    def _rows(self) -> Mapping[str, FromClause]:
        return _rows_of(self.table)

    def column(self, row: Row, name: str) -> ColumnElement[Any]:
        """Return the column of an attribute in the old or the new row.

        :raises ConditionError: as for :meth:`check`.
        """
        self.check(row, name)
        found = self._rows[row].corresponding_column(self.columns[name])
        assert found is not None
        return found

    def check(self, row: Row, name: str) -> None:
        """Refuse an attribute that is not there.

        :raises ConditionError: the operation has no such row, or the model no such
            attribute; the message lists the right ones.
        """
        if not (self.operation.has_old if row == "old" else self.operation.has_new):
            raise ConditionError(
                f"{self.subject}: a condition on {self.operation.value} uses "
                f"{row}.{name}, but there is no {row} row; use "
                f"{'new' if row == 'old' else 'old'}.{name}, or a tracker of updates"
            )
        if name not in self.columns:
            raise ConditionError(
                f"{self.subject} has no column attribute {name!r} for {row}.{name}"
                f"{suggestion(name, self.columns)}"
            )
        if row == "new" and name in self.generated:
            raise ConditionError(
                f"{self.subject}: new.{name} is generated, and has no value yet when a "
                "trigger runs before the change; use the columns it is made of"
            )

    def has(self, column: Column[Any]) -> bool:
        """Return whether a column is one of the old or the new row."""
        return column.table in self._rows.values()


def suggestion(name: str, known: Mapping[str, object]) -> str:
    """Return the end of a message about an unknown name: the ones that exist."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"; {hint}it has {', '.join(known)}"


class Condition(ColumnOperators, ABC):
    """A condition, or a part of one, that is bound when the class is mapped.

    It has the operators of a SQLAlchemy column, and passes on what only some types
    have: ``new.data["status"].astext``, ``new.tags.overlap(["a"])``. Combine
    conditions with ``&``, ``|`` and ``~``.

    Example::

        AfterUpdate((new.balance < 0) & AnyChange("balance"), label="overdrawn")
    """

    # SQLAlchemy asks any argument for this; __getattr__ must not answer.
    is_clause_element = False

    @abstractmethod
    def bind(self, scope: RowScope) -> ColumnElement[Any]:
        """Return the condition as an expression over the table of ``scope``."""

    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> ColumnOperators:
        """Remember an operator, to be applied when the condition is bound."""
        return _Operation(op, (self, *other), kwargs)

    def reverse_operate(
        self, op: OperatorType, other: Any, **kwargs: Any
    ) -> ColumnOperators:
        """Remember an operator whose left side is a plain value."""
        return _Operation(op, (other, self), kwargs)

    if TYPE_CHECKING:
        # Of ColumnOperators these give what has no operators of its own.
        def __and__(self, other: Any) -> Condition: ...
        def __rand__(self, other: Any) -> Condition: ...
        def __or__(self, other: Any) -> Condition: ...
        def __ror__(self, other: Any) -> Condition: ...
        def __invert__(self) -> Condition: ...
        def __lt__(self, other: Any) -> Condition: ...
        def __le__(self, other: Any) -> Condition: ...
        def __gt__(self, other: Any) -> Condition: ...
        def __ge__(self, other: Any) -> Condition: ...
        def __eq__(self, other: Any) -> Condition: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Condition: ...  # type: ignore[override]

    def __getattr__(self, name: str) -> _Attribute:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Attribute(self, name)

    def __clause_element__(self) -> ColumnElement[Any]:
        # Lets a condition be an argument of func, case or cast.
        return _Placeholder(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a condition has no truth value in Python; combine conditions with & | ~ "
            "(not 'and', 'or', 'not', 'in' or a chained comparison)"
        )

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self!r} is not a list")


class _Placeholder(ColumnElement[Any]):
    """Stands for a condition inside a SQLAlchemy expression until it is bound."""

    inherit_cache = False
    __visit_name__ = "history_condition"

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.type = types.NULLTYPE


@dataclass(frozen=True, eq=False)
class _RowColumn(Condition):
    """``new.name`` or ``old.name``."""

    row: Row
    name: str

    def __repr__(self) -> str:
        return f"{self.row}.{self.name}"

    def bind(self, scope: RowScope) -> ColumnElement[Any]:
        return scope.column(self.row, self.name)


@dataclass(frozen=True, eq=False)
class _Operation(Condition):
    """An operator and its operands."""

    operator: OperatorType
    operands: tuple[Any, ...]
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"{self.operator.__name__}({', '.join(map(repr, self.operands))})"

    def bind(self, scope: RowScope) -> ColumnElement[Any]:
        operands = (bound(operand, scope) for operand in self.operands)
        return cast("ColumnElement[Any]", self.operator(*operands, **self.options))


@dataclass(frozen=True, eq=False)
class _Attribute(Condition):
    """An attribute that only some types have, perhaps a method."""

    owner: Condition
    name: str

    def __repr__(self) -> str:
        return f"{self.owner!r}.{self.name}"

    def bind(self, scope: RowScope) -> ColumnElement[Any]:
        return cast("ColumnElement[Any]", getattr(self.owner.bind(scope), self.name))

    def __call__(self, *args: Any, **kwargs: Any) -> _Call:
        return _Call(self, args, kwargs)


@dataclass(frozen=True, eq=False)
class _Call(Condition):
    """A call of a method that only some types have."""

    method: _Attribute
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"{self.method!r}(...)"

    def bind(self, scope: RowScope) -> ColumnElement[Any]:
        args = [bound(arg, scope) for arg in self.args]
        kwargs = {name: bound(arg, scope) for name, arg in self.kwargs.items()}
        method = cast("Callable[..., ColumnElement[Any]]", self.method.bind(scope))
        return method(*args, **kwargs)


class RowColumns:
    """The columns of a row by attribute name: ``new.balance`` or ``new["balance"]``.

    Example::

        from sa_history import new, old

        AfterUpdate(new.balance < old.balance, label="withdrawal")
    """

    def __init__(self, row: Row) -> None:
        self._row = row

    def __getattr__(self, name: str) -> _RowColumn:
        if name.startswith("__"):
            raise AttributeError(name)
        return _RowColumn(self._row, name)

    def __getitem__(self, name: str) -> _RowColumn:
        return _RowColumn(self._row, name)

    def __repr__(self) -> str:
        return self._row


old: RowColumns = RowColumns("old")
"""The row before an update or delete, in conditions."""

new: RowColumns = RowColumns("new")
"""The row after an insert or update, in conditions."""


class _Changes(Condition):
    """The common part of the conditions on which columns changed."""

    def __init__(self, *names: str, exclude: tuple[str, ...] | list[str] = ()) -> None:
        if isinstance(exclude, str):
            raise ConditionError(f"exclude is a list of names, got {exclude!r}")
        for name in (*names, *exclude):
            if not isinstance(name, str):
                raise ConditionError(
                    f"{type(self).__name__} takes attribute names, got {name!r}; write "
                    f'{type(self).__name__}("name")'
                )
        if names and exclude:
            raise ConditionError(
                f"{type(self).__name__} got both names and exclude; give one of them"
            )
        self.names = names
        self.exclude = tuple(exclude)

    def __repr__(self) -> str:
        inside = [*map(repr, self.names)]
        if self.exclude:
            inside.append(f"exclude={list(self.exclude)!r}")
        return f"{type(self).__name__}({', '.join(inside)})"

    def _changes(self, scope: RowScope) -> list[ColumnElement[bool]]:
        return [changed(scope, name) for name in self.watched(scope)]

    def watched(self, scope: RowScope) -> tuple[str, ...]:
        """Return the attributes that are looked at."""
        for name in self.exclude:
            scope.check("new", name)
        names = self.names or tuple(n for n in scope.watched if n not in self.exclude)
        if not names:
            raise ConditionError(
                f"{scope.subject}: {self!r} leaves no column to look at; name some"
            )
        return names


class AnyChange(_Changes):
    """True where at least one of the columns changed.

    :param names: attribute names; without any, those that the tracker stores.
    :param exclude: attribute names to leave out, instead of ``names``.

    A change is a difference in what is stored, so ``'a'`` to ``'A'`` counts in a
    ``citext`` column and ``1.0`` to ``1.00`` in a ``numeric`` one, where ``=`` would
    call them equal; columns whose type has no ``=``, such as ``json``, work as well.

    Example::

        AfterUpdate(AnyChange("email", "phone"), label="contact")
    """

    def bind(self, scope: RowScope) -> ColumnElement[bool]:
        """Return the condition as an expression over the table of ``scope``."""
        return or_(*self._changes(scope))

    def plain_sql(self, scope: RowScope) -> str | None:
        """Return its SQL, None where SQLAlchemy has to be asked for it.

        This is what trackers without a condition of their own look at, for every
        model; to make an expression and compile it takes a hundred times longer.
        """
        parts = []
        for name in self.watched(scope):
            for row in ("old", "new"):
                scope.check(row, name)
            differs = plain_differs(scope.columns[name])
            if differs is None:
                return None
            parts.append(differs)
        return " OR ".join(parts)


class AllChange(_Changes):
    """True where every one of the columns changed.

    :param names: attribute names; without any, those that the tracker stores.
    :param exclude: attribute names to leave out, instead of ``names``.

    Example::

        AfterUpdate(AllChange("street", "city"), label="moved")
    """

    def bind(self, scope: RowScope) -> ColumnElement[bool]:
        """Return the condition as an expression over the table of ``scope``."""
        return and_(*self._changes(scope))


class AnyDontChange(_Changes):
    """True where at least one of the columns stayed the same.

    :param names: attribute names; without any, those that the tracker stores.
    :param exclude: attribute names to leave out, instead of ``names``.

    Example::

        AfterUpdate(AnyDontChange("street", "city"), label="corrected")
    """

    def bind(self, scope: RowScope) -> ColumnElement[bool]:
        """Return the condition as an expression over the table of ``scope``."""
        return not_(and_(*self._changes(scope)))


class AllDontChange(_Changes):
    """True where every one of the columns stayed the same.

    :param names: attribute names; without any, those that the tracker stores.
    :param exclude: attribute names to leave out, instead of ``names``.

    Example::

        AfterUpdate(AllDontChange("version"), label="unversioned")
    """

    def bind(self, scope: RowScope) -> ColumnElement[bool]:
        """Return the condition as an expression over the table of ``scope``."""
        return not_(or_(*self._changes(scope)))


def changed(scope: RowScope, name: str, by_image: bool = False) -> ColumnElement[bool]:
    """Return whether an attribute differs between the old and the new row.

    :param by_image: compare without an operator that a ``search_path`` could replace.
    """
    differs = image_differs if by_image else stored_differs
    return differs(scope.column("old", name), scope.column("new", name))


ConditionArgument: TypeAlias = (
    ColumnOperators | ColumnElement[bool] | TextClause | Callable[[Any, Any], Any]
)
"""What a tracker takes as its condition."""


class _BoundColumns:
    """What a condition written as a function gets for ``old`` and ``new``."""

    def __init__(self, scope: RowScope, row: Row) -> None:
        self._scope, self._row = scope, row

    def __getattr__(self, name: str) -> ColumnElement[Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._scope.column(self._row, name)

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        return self._scope.column(self._row, name)


def bound(part: Any, scope: RowScope) -> Any:
    """Return ``part`` with every condition in it bound; other values as they are."""
    if isinstance(part, Condition):
        return part.bind(scope)
    if isinstance(part, (list, tuple)):
        return type(part)(bound(item, scope) for item in part)
    if isinstance(part, visitors.Visitable):
        return visitors.replacement_traverse(
            cast("visitors.ExternallyTraversible", part),
            {},
            lambda element, **_: (
                element.condition.bind(scope)
                if isinstance(element, _Placeholder)
                else None
            ),
        )
    return part


def _refuse_what_a_trigger_cannot_mean(
    expression: ClauseElement, scope: RowScope
) -> None:
    for element in visitors.iterate(expression):
        if isinstance(element, BindParameter) and element.required:
            # SQLAlchemy would write NULL.
            raise ValueError(f"the parameter :{element.key} has no value")
        if isinstance(element, SelectBase):
            # NEW and OLD would be tables of the subquery's own.
            raise ValueError("it has a subquery")
        if isinstance(element, Column) and not scope.has(element):
            raise ConditionError(
                f"{scope.subject}: a condition names the column {element}, which is "
                f"neither of the old nor of the new row; write new.{element.key} or "
                f"old.{element.key}"
            )


def condition_sql(condition: ConditionArgument, scope: RowScope) -> str:
    """Return a condition as SQL over ``OLD`` and ``NEW``.

    :param condition: an expression over ``old`` and ``new``, ``AnyChange`` and its
        family, ``text()``, or a function ``(old, new) -> expression``.
    :raises ConditionError: an unknown column, a row that the operation does not
        have, or a value that has no literal form.
    """
    if type(condition) is AnyChange:
        plain = condition.plain_sql(scope)
        if plain is not None:
            return plain
    expression: Any = condition
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
        _refuse_what_a_trigger_cannot_mean(expression, scope)
        sql = expression_sql(expression)
        wrong = unstorable(sql)
        if wrong is not None:
            raise ValueError(
                f"PostgreSQL text cannot contain {wrong}, got {sql!r}; remove it"
            )
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
            f"{error}; write that part with text('...')"
        ) from error
