"""How what sa_history made is told from what others made: by a comment on it.

The comment holds a fingerprint of the statement that made the object. It is for what
PostgreSQL gives back in words of its own, the condition of a trigger and the query of
a view. All else is compared with the catalog, since a comment stays when somebody
replaces the object by hand.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sa_history.ddl.elements import DatabaseObject
from sa_history.sql.compose import Fragment, SchemaNames, quote_literal

PREFIX = "sa_history:"
"""What each mark begins with."""


def mark_of(made: DatabaseObject, schemas: SchemaNames) -> str:
    """Return the comment on an object: a hash of the statement that makes it."""
    statement = made.create().render(schemas)
    return PREFIX + hashlib.sha256(statement.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Mark(Fragment):
    """The statement that marks an object as ours."""

    made: DatabaseObject

    def render(self, schemas: SchemaNames) -> str:
        """Return the statement, with the fingerprint."""
        mark = quote_literal(mark_of(self.made, schemas))
        return f"COMMENT ON {self.made.target().render(schemas)} IS {mark}"
