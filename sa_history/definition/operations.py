"""The operations that fire a trigger: ``Insert``, ``Update | Delete``, ``UpdateOf``."""

from __future__ import annotations

from dataclasses import dataclass

from sa_history._types import Operation
from sa_history.exc import DefinitionError


@dataclass(frozen=True)
class Operations:
    """One operation or several; combine them with ``|``.

    :param members: the operations, in the order of SQL's documentation.
    :param columns: attribute names: only an update that sets one of them counts. Empty
        for any update.

    Example::

        Protect(Update | Delete)
    """

    members: tuple[Operation, ...]
    columns: tuple[str, ...] = ()

    def __or__(self, other: object) -> Operations:
        """Return the operations of both."""
        if not isinstance(other, Operations):
            return NotImplemented
        plain_update = any(
            Operation.UPDATE in side.members and not side.columns
            for side in (self, other)
        )
        members = {*self.members, *other.members}
        columns = dict.fromkeys((*self.columns, *other.columns))
        return Operations(
            tuple(operation for operation in Operation if operation in members),
            () if plain_update else tuple(columns),
        )

    def __repr__(self) -> str:
        return " | ".join(
            f"UpdateOf({', '.join(map(repr, self.columns))})"
            if self.columns and operation is Operation.UPDATE
            else operation.value.capitalize()
            for operation in self.members
        )


Insert = Operations((Operation.INSERT,))
"""The insertion of rows, in ``Protect(Insert)`` and the like."""

Update = Operations((Operation.UPDATE,))
"""Updates of rows, also those that change nothing."""

Delete = Operations((Operation.DELETE,))
"""Deletions of rows."""

Truncate = Operations((Operation.TRUNCATE,))
"""The deletion of all rows at once."""


def UpdateOf(*columns: str) -> Operations:
    """Updates whose SET names one of these columns, also where it changes nothing.

    :param columns: attribute names. A change that another trigger makes in one of
        them does not count: ``AnyChange(...)`` as condition sees that too.
    :raises DefinitionError: there is no name, or one is not a string.

    Example::

        Trigger("notify", "after", UpdateOf("status"), body="...")
    """
    if not columns or not all(isinstance(column, str) for column in columns):
        raise DefinitionError(
            f'UpdateOf takes attribute names, got {columns!r}; write UpdateOf("status")'
        )
    return Operations((Operation.UPDATE,), tuple(dict.fromkeys(columns)))
