"""The comment by which an object of sa_history is recognized in a database.

It holds a fingerprint of the object's CREATE statement, for what PostgreSQL gives back
in words of its own: the condition of a trigger and the query of a view. Everything
else is compared with the catalog, since a comment stays when somebody replaces the
object by hand.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sa_history.ddl.elements import DatabaseObject
from sa_history.sql.compose import Fragment, SchemaNames, quote_literal

PREFIX = "sa_history:"
"""The beginning of every such comment."""


def fingerprint_of(definition: DatabaseObject, schemas: SchemaNames) -> str:
    """Return the comment for an object: the prefix, and a hash of its CREATE statement.

    :param definition: the object, as models define it.
    :param schemas: gives the names of the schemas in the database.
    """
    statement = definition.create().render(schemas)
    return PREFIX + hashlib.sha256(statement.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SetComment(Fragment):
    """The COMMENT ON statement that gives an object its fingerprint.

    :param definition: the object, as models define it.
    """

    definition: DatabaseObject

    def render(self, schemas: SchemaNames) -> str:
        """Return the statement, with the fingerprint."""
        comment = quote_literal(fingerprint_of(self.definition, schemas))
        return f"COMMENT ON {self.definition.target().render(schemas)} IS {comment}"
