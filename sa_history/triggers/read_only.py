"""``ReadOnly``: columns that keep the value that they were inserted with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sa_history._types import UNSET, Deferrable, Level, Operation, Unset
from sa_history.definition.binding import condition_sql, with_condition
from sa_history.definition.conditions import AnyChange, ConditionArgument
from sa_history.exc import DefinitionError, ReadOnlyError
from sa_history.sql.compose import Literal
from sa_history.triggers.base import TriggerTarget
from sa_history.triggers.refusing import Refusal, RefusingTrigger
from sa_history.util.arguments import as_names


@dataclass(frozen=True, eq=False, init=False)
class ReadOnly(RefusingTrigger):
    """Refuses updates that change a column, with a ``ReadOnlyError``.

    An update that sets the column to what it is already passes.

    :param columns: attribute names of the columns; none for all.
    :param exclude: attribute names of columns that may change, instead of ``columns``.
    :param name: the name of the trigger; if left out, ``"read_only"``.
    :param condition: the updates that it looks at, as an expression over ``old`` and
        ``new``; None for all.
    :param level: ``"row"`` or ``"statement"``; ``deferrable``, ``hint``, ``ignorable``
        and ``search_path`` too are those of :class:`Protect`.
    :raises DefinitionError: the arguments cannot work together.

    Example::

        @attach(ReadOnly("created_at", "owner_id"))
        class Account(Base): ...
    """

    columns: tuple[str, ...]
    exclude: tuple[str, ...]

    error = ReadOnlyError

    def __init__(
        self,
        *columns: str,
        exclude: Sequence[str] = (),
        name: str | Unset = UNSET,
        condition: ConditionArgument | None = None,
        level: Level | str = Level.ROW,
        deferrable: Deferrable | None = None,
        hint: str | None = None,
        ignorable: bool = True,
        search_path: Sequence[str] = (),
    ) -> None:
        # A dataclass has no *columns, so these two are set here; the base sets the
        # others, and runs __post_init__().
        object.__setattr__(self, "columns", as_names("ReadOnly: columns", columns))
        object.__setattr__(self, "exclude", as_names("ReadOnly: exclude", exclude))
        super().__init__(
            name=name,
            condition=condition,
            level=level,
            deferrable=deferrable,
            hint=hint,
            ignorable=ignorable,
            search_path=search_path,
        )

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        super().__post_init__()
        if self.columns and self.exclude:
            raise DefinitionError(
                "ReadOnly got both columns and exclude; give one of them"
            )

    @property
    def default_name(self) -> str:
        """The name if none is given."""
        return "read_only"

    def refusals(self, target: TriggerTarget) -> list[Refusal]:
        """Return the refusal of updates that change one of the columns."""
        columns = target.columns
        for name in (*self.columns, *self.exclude):
            columns.named("ReadOnly", name)
        before = self.runs_before(target, Operation.UPDATE)
        scope = self._scope(target, Operation.UPDATE, before)
        names = self.columns or tuple(
            name for name in scope.watched if name not in self.exclude
        )
        if not names:
            raise DefinitionError(
                f"{target.subject}: ReadOnly excludes every column; leave one"
            )
        changed = condition_sql(AnyChange(*names), scope)
        condition = self._condition_sql(target, Operation.UPDATE, before=before)
        changed = with_condition(condition, changed)
        read_only = ", ".join(columns.column_name(name) for name in names)
        return [
            Refusal(
                Operation.UPDATE,
                changed,
                reason="% may only be read",
                names=(Literal(read_only),),
                hint=self.error_hint("Leave the column as it is.", target),
                column=columns.column_name(names[0]) if len(names) == 1 else None,
            )
        ]
