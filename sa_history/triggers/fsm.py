"""``FSM``: a state machine, the changes that a column may go through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, false, not_, or_

from sa_history._types import Operation
from sa_history.definition.binding import RowScope, changed, with_condition
from sa_history.exc import DefinitionError, TransitionError
from sa_history.sql.comparison import stored_equals
from sa_history.sql.compose import Fragment, Ident, Joined, Literal, Raw
from sa_history.sql.expressions import expression_sql
from sa_history.triggers.base import TriggerTarget
from sa_history.triggers.column_values import check_value, value_as_text
from sa_history.triggers.refusing import Refusal, RefusingTrigger


@dataclass(frozen=True, eq=False)
class FSM(RefusingTrigger):
    """Refuses changes of a column that are no transition, with a ``TransitionError``.

    A state is a value of the column: a string, a member of an enum, an integer and so
    on, or None for NULL. An update that leaves the state as it is passes.

    :param column: the attribute name of the column.
    :param transitions: pairs of a state and a state that it may change to.
    :param initial: the states that a new row may have; None for any.
    :param name: the name of the trigger; if left out, ``"fsm_"`` with the attribute
        name.
    :param condition: the changes that it looks at, as an expression over ``new``, and
        over ``old`` too if there is no ``initial``; None for all.
    :param level: ``"row"`` or ``"statement"``; ``deferrable``, ``hint``, ``ignorable``
        and ``search_path`` too are those of :class:`Protect`.
    :raises DefinitionError: a state is not one of the column's, or the arguments
        cannot work together.

    Example::

        @attach(
            FSM(
                "status",
                transitions=[("draft", "published"), ("published", "archived")],
                initial=["draft"],
            )
        )
        class Article(Base): ...
    """

    column: str
    transitions: Sequence[tuple[Any, Any]] = field(kw_only=True)
    initial: Sequence[Any] | None = field(kw_only=True, default=None)

    error = TransitionError

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        super().__post_init__()
        if not isinstance(self.column, str):
            raise DefinitionError(
                f"FSM takes the name of an attribute, got {self.column!r}; "
                'write "status"'
            )
        given = tuple(_states("transitions", self.transitions))
        transitions = [tuple(_states("transitions", pair)) for pair in given]
        if not transitions or any(len(transition) != 2 for transition in transitions):
            raise DefinitionError(
                "FSM: transitions are pairs of states, such as "
                f'[("draft", "published")], got {given!r}'
            )
        object.__setattr__(self, "transitions", tuple(transitions))
        if self.initial is not None:
            initial = tuple(_states("initial", self.initial))
            if not initial:
                raise DefinitionError(
                    "FSM: initial is empty, so no row could be inserted; leave it out "
                    "to allow any state"
                )
            object.__setattr__(self, "initial", initial)

    @property
    def default_name(self) -> str:
        """The name if none is given."""
        return f"fsm_{self.column}"

    def refusals(self, target: TriggerTarget) -> list[Refusal]:
        """Return the refusal of updates, and with ``initial`` that of inserts."""
        column = target.columns.named("FSM", self.column)
        for state in self._all_states():
            check_value(target.subject, column, state)
        refusals = [self._refusal(target, Operation.UPDATE)]
        if self.initial is not None:
            refusals.insert(0, self._refusal(target, Operation.INSERT))
        return refusals

    def _all_states(self) -> list[Any]:
        pairs = [state for transition in self.transitions for state in transition]
        return [*pairs, *(self.initial or ())]

    def _refusal(self, target: TriggerTarget, operation: Operation) -> Refusal:
        before_write = self.runs_before(target, operation)
        scope = self._scope(target, operation, before_write)
        wrong = (
            self._wrong_beginning(scope)
            if operation is Operation.INSERT
            else self._wrong_transition(scope)
        )
        condition = self._condition_sql(target, operation, before=before_write)
        sql = with_condition(condition, expression_sql(wrong))
        column = target.columns.by_attribute[self.column]
        before, after = _as_text("OLD", column), _as_text("NEW", column)
        if operation is Operation.INSERT:
            states = ", ".join(
                value_as_text(column, state) for state in self.initial or ()
            )
            reason = "% may not begin as %"
            values: tuple[Fragment, ...] = (after,)
            hint = f"It begins as {states}."
        else:
            ways = ", ".join(
                f"{value_as_text(column, start)} to {value_as_text(column, end)}"
                for start, end in self.transitions
            )
            reason, values = "% may not go from % to %", (before, after)
            hint = f"It goes from {ways}."
        return Refusal(
            operation,
            sql,
            reason,
            names=(Literal(column.name),),
            values=values,
            hint=self.error_hint(hint, target),
            column=column.name,
        )

    def _wrong_beginning(self, scope: RowScope) -> ColumnElement[bool]:
        state = scope.column("new", self.column)
        return not_(or_(*(stored_equals(state, value) for value in self.initial or ())))

    def _wrong_transition(self, scope: RowScope) -> ColumnElement[bool]:
        before = scope.column("old", self.column)
        after = scope.column("new", self.column)
        # By start, so that each is compared once: (old = a AND (new = b OR new = c)).
        # Found by their SQL: states may be unhashable, or equal and stored otherwise.
        starts: dict[str, ColumnElement[bool]] = {}
        ends: dict[str, list[ColumnElement[bool]]] = {}
        for start, end in self.transitions:
            from_start = stored_equals(before, start)
            key = expression_sql(from_start)
            starts[key] = from_start
            ends.setdefault(key, []).append(stored_equals(after, end))
        allowed = [and_(starts[key], or_(*ends[key])) for key in starts]
        return and_(changed(scope, self.column), not_(or_(false(), *allowed)))


def _as_text(row: str, column: Column[Any]) -> Fragment:
    # With pg_catalog, as a function that reads no rows has the caller's search_path.
    value = Raw(f"{row}.") + Ident(column.name) + Raw("::pg_catalog.text")
    return Joined((Raw("COALESCE("), value, Raw(", 'NULL')")))


def _states(argument: str, states: Any) -> Iterable[Any]:
    if isinstance(states, (str, bytes, dict)) or not isinstance(states, Iterable):
        example = '["draft"]' if argument == "initial" else '[("draft", "sent"), ...]'
        raise DefinitionError(
            f"FSM: {argument} holds lists of states, got {states!r}; write a list such "
            f"as {example}"
        )
    return states
