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
from sa_history.sql.compose import (
    Fragment,
    Joined,
    Literal,
    Raw,
    SchemaNames,
    quote_literal,
)

PREFIX = "sa_history:"
"""The beginning of every such comment."""


def fingerprint_of(definition: DatabaseObject, schemas: SchemaNames) -> str:
    """Return the comment for an object: the prefix, and a hash of its CREATE statement.

    :param definition: the object, as models define it.
    :param schemas: gives the names of the schemas in the database.
    """
    return _fingerprint(definition.create().render(schemas))


_DIGITS = 16
"""How many hexadecimal digits of the hash are in the comment."""


def _fingerprint(statement: str) -> str:
    return PREFIX + hashlib.sha256(statement.encode()).hexdigest()[:_DIGITS]


def fingerprint_expression(created: Fragment) -> Fragment:
    """Return the expression of the comment, for an object that is known when it runs.

    :param created: the expression of the object's CREATE statement.
    """
    return Joined(
        (
            Literal(PREFIX),
            Raw(" || left(encode(sha256(convert_to("),
            created,
            Raw(f", 'UTF8')), 'hex'), {_DIGITS})"),
        )
    )


@dataclass(frozen=True)
class SetComment(Fragment):
    """The COMMENT ON statement that gives an object its fingerprint.

    :param definition: the object, as models define it.
    """

    definition: DatabaseObject

    def render(self, schemas: SchemaNames) -> str:
        """Return the statement, with the fingerprint."""
        return self.after(self.definition.create().render(schemas), schemas)

    def after(self, created: str, schemas: SchemaNames) -> str:
        """Return the statement, with the fingerprint of a CREATE statement.

        :param created: the CREATE statement of the object.
        """
        comment = quote_literal(_fingerprint(created))
        return f"COMMENT ON {self.definition.target().render(schemas)} IS {comment}"


@dataclass(frozen=True)
class CreateWithComment(Fragment):
    """Both statements that make an object, which is rendered once for both.

    :param definition: the object, as models define it.
    """

    definition: DatabaseObject

    def render(self, schemas: SchemaNames) -> str:
        """Return the CREATE statement and the COMMENT ON statement."""
        created = self.definition.create().render(schemas)
        return f"{created};\n{SetComment(self.definition).after(created, schemas)}"
