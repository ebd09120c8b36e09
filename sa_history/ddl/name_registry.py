"""Which names of functions and triggers are taken.

PostgreSQL replaces a function or trigger of the same name. Two definitions that came to
the same name would silently be one, so the second is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import MetaData, Table

from sa_history.ddl.elements import PGFunction, PGTrigger
from sa_history.exc import DefinitionError
from sa_history.sql.compose import Qualified

INFO_KEY = "sa_history.claims"

_Key: TypeAlias = tuple[str, str | None, str]


@dataclass(frozen=True)
class _Claim:
    """Who has a name.

    :param table: the table that it is for.
    :param owner: what it belongs to, for messages.
    :param function: what it is, or runs: two of one owner may differ in it only.
    """

    table: Table
    owner: str
    function: Qualified

    @property
    def is_in_force(self) -> bool:
        """Whether the table is not one that MetaData.clear() or remove() took away."""
        return self.table.metadata.tables.get(self.table.key) is self.table


class Claims:
    """The names that the functions and triggers of one MetaData have."""

    def __init__(self) -> None:
        self._taken: dict[_Key, _Claim] = {}

    def take(self, made: PGFunction | PGTrigger, table: Table, owner: str) -> None:
        """Take the name of a function, or of a trigger on a table.

        :param owner: what it belongs to, for messages.
        :raises DefinitionError: something else has it.
        """
        if isinstance(made, PGFunction):
            self.function(made, table, owner)
        else:
            self.trigger(made, table, owner)

    def function(self, function: PGFunction, table: Table, owner: str) -> None:
        """Take the name of a function.

        :param table: the table that it is for.
        :param owner: what it belongs to, for messages.
        :raises DefinitionError: something else has it.
        """
        name = function.name
        self._take(("function", name.schema, name.name), _Claim(table, owner, name))

    def trigger(self, trigger: PGTrigger, table: Table, owner: str) -> None:
        """Take the name of a trigger on a table.

        :raises DefinitionError: another trigger on the table has it.
        """
        key = (f"trigger on {table.name!r}", table.schema, trigger.name)
        self._take(key, _Claim(table, owner, trigger.function))

    def _take(self, key: _Key, claim: _Claim) -> None:
        # The same claim again is of a definition that failed later the first time.
        other = self._taken.get(key, claim)
        if other != claim and other.is_in_force:
            kind, _, name = key
            raise DefinitionError(
                f"{claim.owner} and {other.owner} would both have a {kind} named "
                f"{name!r}; rename one of them"
            )
        self._taken[key] = claim


def claims_of(metadata: MetaData) -> Claims:
    """Return the claims of a MetaData."""
    claims: Claims = metadata.info.setdefault(INFO_KEY, Claims())
    return claims
