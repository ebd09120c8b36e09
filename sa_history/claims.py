"""Which names of functions and triggers are taken.

PostgreSQL replaces a function or trigger of the same name. Two definitions that came to
the same name would silently be one, so the second is refused.
"""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import MetaData, Table

from sa_history.ddl import Function, Trigger
from sa_history.exc import DefinitionError

INFO_KEY = "sa_history.claims"

_Key: TypeAlias = tuple[str, str | None, str]


class Claims:
    """The names that the functions and triggers of one MetaData have."""

    def __init__(self) -> None:
        self._taken: dict[_Key, tuple[Table, str]] = {}

    def function(self, function: Function, table: Table, owner: str) -> None:
        """Take the name of a function.

        :param table: the table that it is for.
        :param owner: what it belongs to, for messages.
        :raises DefinitionError: something else has it.
        """
        name = function.name
        self._take(("function", name.schema, name.name), table, owner)

    def trigger(self, trigger: Trigger, table: Table, owner: str) -> None:
        """Take the name of a trigger on a table.

        :raises DefinitionError: another trigger on the table has it.
        """
        self._take(
            (f"trigger on {table.name!r}", table.schema, trigger.name), table, owner
        )

    def _take(self, key: _Key, table: Table, owner: str) -> None:
        other_table, other = self._taken.get(key, (None, ""))
        # A table that MetaData.clear() or remove() took away has no claims.
        if (
            other_table is not None
            and other != owner
            and other_table.metadata.tables.get(other_table.key) is other_table
        ):
            kind, _, name = key
            raise DefinitionError(
                f"{owner} and {other} would both have a {kind} named {name!r}; rename "
                "one of them"
            )
        self._taken[key] = table, owner


def claims_of(metadata: MetaData) -> Claims:
    """Return the claims of a MetaData."""
    claims: Claims = metadata.info.setdefault(INFO_KEY, Claims())
    return claims
