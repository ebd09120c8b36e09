"""``Touch``: a column that has the time of the row's last change."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, func, types

from sa_history._types import Operation
from sa_history.definition.operations import Operations, Update
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Fragment, Ident, Joined, Raw
from sa_history.triggers.base import TriggerTarget
from sa_history.triggers.before_row import BeforeRowTrigger

_NOW: ColumnElement[datetime.datetime] = func.now()


@dataclass(frozen=True, eq=False)
class Touch(BeforeRowTrigger):
    """Sets a column with each update that changes the row.

    :param column: the attribute name of the column.
    :param value: an SQL expression. The default ``func.now()`` is the start of the
        transaction; ``func.clock_timestamp()`` is the time of the change.
    :param operation: ``Update``, ``Insert`` or ``Insert | Update``.
    :param name: the name of the trigger; if left out, ``"touch_"`` with the attribute
        name.
    :param condition: the changes that count, as an expression over ``old`` and ``new``
        such as ``AnyChange(exclude=["last_seen"])``; None for all.
    :param ignorable: whether ``history.ignore`` turns it off.
    :raises DefinitionError: the column does not hold a time, and there is no value.

    Example::

        @attach(Touch("updated_at"))
        class Page(Base): ...
    """

    column: str
    value: ColumnElement[Any] = field(default=_NOW, kw_only=True)
    operation: Operations = field(default=Update, kw_only=True)

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        super().__post_init__()
        if not isinstance(self.value, ColumnElement):
            raise DefinitionError(
                f"Touch: value is an SQL expression, got {self.value!r}; write "
                "func.now() or literal(...)"
            )
        allowed = {Operation.INSERT, Operation.UPDATE}
        if (
            not isinstance(self.operation, Operations)
            or self.operation.columns
            or not allowed.issuperset(self.operation.members)
        ):
            raise DefinitionError(
                "Touch: operation is Update, Insert or Insert | Update, got "
                f"{self.operation!r}"
            )

    @property
    def default_name(self) -> str:
        """The name if none is given."""
        return f"touch_{self.column}"

    def firing_operations(self) -> Operations:
        """Return the operations that fire it."""
        return self.operation

    def set_on_insert(self) -> tuple[str, ...]:
        """Return the attribute names of the columns that it sets in a new row."""
        return (self.column,) if Operation.INSERT in self.operation.members else ()

    def set_on_update(self) -> tuple[str, ...]:
        """Return the attribute names of the columns that it sets in an updated row."""
        return (self.column,) if Operation.UPDATE in self.operation.members else ()

    def code(self, target: TriggerTarget) -> Fragment:
        """Return the statements of its body."""
        column = self._column_to_set(target, self.column)
        times = (types.DateTime, types.Date, types.Time)
        if self.value is _NOW and not isinstance(column.type, times):
            raise DefinitionError(
                f"{target.subject}: Touch sets a time, and {self.column!r} is "
                f"{column.type!r}; give value=..."
            )
        return Joined(
            (
                Raw("  NEW."),
                Ident(column.name),
                Raw(f" := {self._value_sql(target, self.value)};\n  RETURN NEW;\n"),
            )
        )
