"""``Protect``: refuses operations on a table."""

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
    with_truncate,
)


@dataclass(frozen=True, eq=False)
class Protect(RefusingTrigger):
    """Refuses operations on a table, with a :class:`~sa_history.exc.ProtectedError`.

    :param operation: the operations that are refused: ``Insert``, ``Update``,
        ``Delete``, ``Truncate``, ``UpdateOf("name")`` or several, as
        ``Update | Delete``. With ``Delete``, TRUNCATE is refused as well, if a row of
        the table meets the condition.
    :param name: the name of the trigger; if left out, ``"protect_delete"`` and the
        like.
    :param condition: the rows that are protected, as an expression over ``old`` and
        ``new``; None for all.
    :param level: ``"row"`` refuses before the row is changed; ``"statement"`` looks at
        all of the statement's rows after it.
    :param deferrable: ``"deferred"`` refuses at the end of the transaction,
        ``"immediate"`` too if ``SET CONSTRAINTS`` says so; None refuses at once.
    :param hint: the hint of the error, which tells what to do instead; None for a
        general one.
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
        """The name if none is given."""
        names = (operation.value.lower() for operation in self.operation.members)
        return "_".join(("protect", *names))

    def update_columns(self) -> tuple[str, ...]:
        """Return the attribute names of ``UpdateOf``; none for any update."""
        return self.operation.columns

    def refusals(self, target: TriggerTarget) -> list[Refusal]:
        """Return a refusal for each operation."""
        reason = "the table" if self.condition is None else "such a row"
        return [
            Refusal(
                operation,
                self._condition_sql(
                    target, operation, before=self.runs_before(target, operation)
                ),
                reason=f"{reason} is protected",
                hint=self.error_hint("Leave it as it is.", target),
            )
            for operation in with_truncate(self.operation)
        ]
