"""The names of functions and triggers that definitions of a MetaData use.

PostgreSQL replaces a function or trigger of the same name. Two definitions with one
name would silently become one object, so the second is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import MetaData, Table

from sa_history.ddl.elements import PGFunction, PGTrigger
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Qualified

INFO_KEY = "sa_history.name_registry"

_Key: TypeAlias = tuple[str, str | None, str]


@dataclass(frozen=True)
class _Entry:
    """The definition that uses a name.

    :param table: the table that the object is for.
    :param owner: the definition, for messages.
    :param function: the function itself, or the one that the trigger runs: entries of
        one owner may differ in it only.
    """

    table: Table
    owner: str
    function: Qualified

    @property
    def is_current(self) -> bool:
        """Whether the table is in its MetaData: clear() and remove() take it out."""
        return self.table.metadata.tables.get(self.table.key) is self.table


class NameRegistry:
    """The names that functions and triggers of one MetaData use."""

    def __init__(self) -> None:
        self._entries: dict[_Key, _Entry] = {}

    def register(
        self, definition: PGFunction | PGTrigger, table: Table, owner: str
    ) -> None:
        """Register the name of a function, or of a trigger on a table.

        :param definition: the function or the trigger.
        :param table: the table that it is for.
        :param owner: the definition that it belongs to, for messages.
        :raises DefinitionError: another definition uses the name.
        """
        if isinstance(definition, PGFunction):
            self.register_function(definition.name, table, owner)
        else:
            key = (f"trigger on {table.name!r}", table.schema, definition.name)
            self._add(key, _Entry(table, owner, definition.function))

    def register_function(self, function: Qualified, table: Table, owner: str) -> None:
        """Register the name of a function that is not made yet.

        :param function: its name.
        :param table: the table that it is for.
        :param owner: the definition that it belongs to, for messages.
        :raises DefinitionError: another definition uses the name.
        """
        key = ("function", function.schema, function.name)
        self._add(key, _Entry(table, owner, function))

    def _add(self, key: _Key, entry: _Entry) -> None:
        # The same entry again is of a definition that failed later the first time.
        other = self._entries.get(key, entry)
        if other != entry and other.is_current:
            kind, _, name = key
            raise DefinitionError(
                f"{entry.owner} and {other.owner} would both have a {kind} named "
                f"{name!r}; rename one of them"
            )
        self._entries[key] = entry


def name_registry_of(metadata: MetaData) -> NameRegistry:
    """Return the registry of a MetaData, which its first use makes."""
    registry: NameRegistry = metadata.info.setdefault(INFO_KEY, NameRegistry())
    return registry
