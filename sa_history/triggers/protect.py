"""Operations that are not allowed."""

from __future__ import annotations

from dataclasses import dataclass

from sa_history._types import Level
from sa_history.definition.operations import Operations
from sa_history.exc import DefinitionError, ProtectedError
from sa_history.triggers.base import TriggerTarget
from sa_history.triggers.refusing import (
    Refusal,
    RefusingTrigger,
    check_operations,
    covered,
)


@dataclass(frozen=True, eq=False)
class Protect(RefusingTrigger):
    """Refuses operations on a table, with a :class:`~sa_history.exc.ProtectedError`.

    :param operation: what is refused: ``Insert``, ``Update``, ``Delete``,
        ``Truncate``, ``UpdateOf("name")`` or several, as ``Update | Delete``. Where
        ``Delete`` is refused, so is TRUNCATE: of a table with a row that meets the
        condition.
    :param name: of the trigger; ``"protect_delete"`` and the like if left out.
    :param condition: which rows are protected, as an expression over ``old`` and
        ``new``; all, if left out.
    :param level: ``"row"`` refuses before the row is changed; ``"statement"`` looks at
        all of the statement's rows after it.
    :param deferrable: ``"deferred"`` refuses at the end of the transaction.
    :param hint: what the error tells to do instead.
    :param ignorable: whether ``history.ignore`` turns it off.
    :param search_path: schemas in which a condition at statement level finds
        operators.
    :raises DefinitionError: the arguments cannot work together.

    Example::

        @attach(Protect(Delete, condition=old.balance != 0))
        class Account(Base): ...
    """

    operation: Operations

    error = ProtectedError

    def __post_init__(self) -> None:
        """Check the arguments, without knowing the model."""
        operation = check_operations("Protect", self.operation)
        super().__post_init__()
        if operation.columns and self.level is Level.STATEMENT:
            raise DefinitionError(
                "Protect: UpdateOf needs the level row; use Update with a condition "
                'such as AnyChange("name")'
            )

    @property
    def default_name(self) -> str:
        """The name without ``name=``."""
        names = (operation.value.lower() for operation in self.operation.members)
        return "_".join(("protect", *names))

    def update_columns(self) -> tuple[str, ...]:
        """Return the attributes of which an update has to set one, if any."""
        return self.operation.columns

    def refusals(self, place: TriggerTarget) -> list[Refusal]:
        """Return what it refuses of each operation, on a table."""
        reason = "the table" if self.condition is None else "such a row"
        return [
            Refusal(
                operation,
                self._condition_sql(place, operation, before=self.before),
                reason=f"{reason} is protected",
                hint=self.the_hint("Leave it as it is.", place),
            )
            for operation in covered(self.operation)
        ]
