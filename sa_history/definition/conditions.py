"""The language of conditions: ``old``, ``new``, ``AnyChange`` and its family.

A condition is written before the class exists, so ``new.balance < 0`` only
remembers what was written. :mod:`sa_history.definition.binding` makes SQL of it when
the class is mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from sqlalchemy import ColumnElement, types
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.sql.operators import ColumnOperators, OperatorType, all_op, any_op

from sa_history._types import Row
from sa_history.exc import ConditionError


class Condition(ColumnOperators):
    """A condition, or a part of one, such as ``new.balance`` or ``new.balance < 0``.

    It has the operators of a SQLAlchemy column, and the attributes and methods that
    only some types have: ``new.data["status"].astext``, ``new.tags.overlap(["a"])``.
    Combine conditions with ``&``, ``|`` and ``~``.

    Example::

        AfterUpdate((new.balance < 0) & AnyChange("balance"), label="overdrawn")
    """

    # SQLAlchemy asks any argument for this; __getattr__ must not answer.
    is_clause_element = False

    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> ColumnOperators:
        """Remember an operator, to apply it when the condition is bound."""
        return AppliedOperator(op, (self, *other), kwargs)

    def reverse_operate(
        self, op: OperatorType, other: Any, **kwargs: Any
    ) -> ColumnOperators:
        """Remember an operator whose left side is a plain value."""
        return AppliedOperator(op, (other, self), kwargs)

    if TYPE_CHECKING:
        # The operators of ColumnOperators return ColumnOperators, which has no
        # operators of its own to combine the results with.
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

    def __getattr__(self, name: str) -> AttributeAccess:
        if name.startswith("_"):
            raise AttributeError(name)
        return AttributeAccess(self, name)

    def __clause_element__(self) -> ColumnElement[Any]:
        # By this a condition can be an argument of func, case, cast or and_.
        return ConditionElement(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a condition has no truth value in Python; combine conditions with & | ~ "
            "(not 'and', 'or', 'not', 'in' or a chained comparison)"
        )

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self!r} is not a list")


class ConditionElement(ColumnElement[Any]):
    """A condition inside a SQLAlchemy expression, until it is bound.

    SQLAlchemy decides about parentheses when an expression is built: it asks each
    operand for ``self_group(against=operator)``. What a condition becomes is known
    only when it is bound. So the element keeps the operators, and the expression that
    replaces it is asked instead.

    It decides then, too, what ``not_()`` makes of a comparison: ``>=`` of ``<``, but
    ``NOT`` if one side is ``ANY`` or ``ALL``, whose comparison has no such opposite.

    :param condition: the condition that the element stands for.
    :param operand_of: the operators that the element was asked to group itself
        against, in order.
    """

    inherit_cache = False
    __visit_name__ = "history_condition"

    def __init__(
        self, condition: Condition, operand_of: tuple[OperatorType, ...] = ()
    ) -> None:
        self.condition = condition
        self.operand_of = operand_of
        self.type = types.NULLTYPE
        self._is_collection_aggregate = isinstance(
            condition, AppliedOperator
        ) and condition.operator in (any_op, all_op)

    def self_group(self, against: OperatorType | None = None) -> ColumnElement[Any]:
        """Return an element whose replacement is grouped as an operand of an operator.

        :param against: the operator; None inside of CASE, whose keywords keep its
            parts apart.
        """
        if against is None:
            return self
        return ConditionElement(self.condition, (*self.operand_of, against))


@dataclass(frozen=True, eq=False)
class RowColumn(Condition):
    """A column of the old or the new row: ``new.name``.

    :param row: ``"old"`` or ``"new"``.
    :param name: the attribute name of the column.
    """

    row: Row
    name: str

    def __repr__(self) -> str:
        return f"{self.row}.{self.name}"


@dataclass(frozen=True, eq=False)
class AppliedOperator(Condition):
    """An operator with its operands: ``new.balance < 0``.

    :param operator: the operator, as SQLAlchemy has it.
    :param operands: conditions, SQLAlchemy expressions or plain values.
    :param options: other arguments of the operator, such as ``escape``.
    """

    operator: OperatorType
    operands: tuple[Any, ...]
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"{self.operator.__name__}({', '.join(map(repr, self.operands))})"


@dataclass(frozen=True, eq=False)
class AttributeAccess(Condition):
    """An attribute that only some types have, which may be a method: ``.astext``.

    :param owner: the condition whose attribute it is.
    :param name: the name of the attribute.
    """

    owner: Condition
    name: str

    def __repr__(self) -> str:
        return f"{self.owner!r}.{self.name}"

    def __call__(self, *args: Any, **kwargs: Any) -> MethodCall:
        """Remember a call, to make it when the condition is bound."""
        return MethodCall(self, args, kwargs)


@dataclass(frozen=True, eq=False)
class MethodCall(Condition):
    """A call of a method that only some types have: ``.overlap(["a"])``.

    :param method: the method.
    :param args: its positional arguments.
    :param kwargs: its named arguments.
    """

    method: AttributeAccess
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"{self.method!r}(...)"


class RowColumns:
    """The columns of a row by attribute name: ``new.balance`` or ``new["balance"]``.

    Example::

        from sa_history import new, old

        AfterUpdate(new.balance < old.balance, label="withdrawal")
    """

    def __init__(self, row: Row) -> None:
        self._row = row

    def __getattr__(self, name: str) -> RowColumn:
        if name.startswith("__"):
            raise AttributeError(name)
        return RowColumn(self._row, name)

    def __getitem__(self, name: str) -> RowColumn:
        return RowColumn(self._row, name)

    def __repr__(self) -> str:
        return self._row


old: RowColumns = RowColumns("old")
"""The row before an update or delete, in conditions."""

new: RowColumns = RowColumns("new")
"""The row after an insert or update, in conditions."""


class ChangeCondition(Condition):
    """The base of the conditions on which columns changed."""

    def __init__(self, *names: str, exclude: tuple[str, ...] | list[str] = ()) -> None:
        if isinstance(exclude, str):
            raise ConditionError(
                f"exclude is a list of names, got {exclude!r}; write [{exclude!r}]"
            )
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


class AnyChange(ChangeCondition):
    """True where at least one of the columns changed.

    :param names: attribute names; without any, those that the tracker stores.
    :param exclude: attribute names to leave out, instead of ``names``.
    :raises ConditionError: a name is not a string, or there are both names and
        ``exclude``.

    A change is a difference in what is stored, so ``'a'`` to ``'A'`` counts in a
    ``citext`` column and ``1.0`` to ``1.00`` in a ``numeric`` one, where ``=`` would
    call them equal; columns whose type has no ``=``, such as ``json``, work as well.

    Example::

        AfterUpdate(AnyChange("email", "phone"), label="contact")
    """


class AllChange(ChangeCondition):
    """True where every one of the columns changed.

    :param names: attribute names; without any, those that the tracker stores.
    :param exclude: attribute names to leave out, instead of ``names``.
    :raises ConditionError: a name is not a string, or there are both names and
        ``exclude``.

    Example::

        AfterUpdate(AllChange("street", "city"), label="moved")
    """


class AnyDontChange(ChangeCondition):
    """True where at least one of the columns stayed the same.

    :param names: attribute names; without any, those that the tracker stores.
    :param exclude: attribute names to leave out, instead of ``names``.
    :raises ConditionError: a name is not a string, or there are both names and
        ``exclude``.

    Example::

        AfterUpdate(AnyDontChange("street", "city"), label="corrected")
    """


class AllDontChange(ChangeCondition):
    """True where every one of the columns stayed the same.

    :param names: attribute names; without any, those that the tracker stores.
    :param exclude: attribute names to leave out, instead of ``names``.
    :raises ConditionError: a name is not a string, or there are both names and
        ``exclude``.

    Example::

        AfterUpdate(AllDontChange("version"), label="unversioned")
    """


ConditionArgument: TypeAlias = (
    ColumnOperators | ColumnElement[bool] | TextClause | Callable[[Any, Any], Any]
)
"""A condition as trackers and triggers take it."""
