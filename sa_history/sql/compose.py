"""Fragments of SQL that know how to quote themselves.

SQL is composed by adding fragments, never by formatting strings, so a name or a
value cannot become syntax::

    Raw("DROP FUNCTION ") + Qualified("audit", 'odd"name') + Raw("()")

A schema of None means the schema in which a connection creates its objects. It is
known only when the SQL is made for a connection, so rendering takes a function that
names the schema. Names in trigger bodies always have their schema, so that the bodies
work with an empty ``search_path``.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import TableClause

from sa_history.util.identifiers import unstorable

T = TypeVar("T")

SchemaNames = Callable[[str | None], str]
"""Returns the name in the database for the schema of a model, or for None."""


class Fragment(ABC):
    """A piece of SQL. Add fragments to compose them."""

    @abstractmethod
    def render(self, schemas: SchemaNames) -> str:
        """Return the SQL text, with every schema named by ``schemas``."""

    def __add__(self, other: Fragment) -> Fragment:
        return Joined((self, _checked(other)))


def _checked(part: object) -> Fragment:
    if not isinstance(part, Fragment):
        raise TypeError(f"SQL is composed of fragments, got {part!r}; wrap it in one")
    return part


@dataclass(frozen=True)
class Raw(Fragment):
    """SQL that is written in the library's own source, taken as it is."""

    text: str

    def render(self, schemas: SchemaNames) -> str:
        """Return the text itself."""
        return self.text


@dataclass(frozen=True)
class Ident(Fragment):
    """One name, always quoted: which names need no quotes depends on the server."""

    name: str

    def render(self, schemas: SchemaNames) -> str:
        """Return the name in double quotes."""
        return quote_ident(self.name)


@dataclass(frozen=True)
class Idents(Fragment):
    """Names, as a list of columns has them."""

    names: tuple[str, ...]

    def render(self, schemas: SchemaNames) -> str:
        """Return the names in double quotes, with commas between them."""
        return ", ".join(map(quote_ident, self.names))


@dataclass(frozen=True)
class RowIdents(Fragment):
    """Columns of a row that the library's own SQL names.

    :param row: the row, as the SQL names it, such as ``NEW``.
    :param names: the names of the columns.
    """

    row: str
    names: tuple[str, ...]

    def render(self, schemas: SchemaNames) -> str:
        """Return ``NEW."id", NEW."name"``."""
        return ", ".join([f"{self.row}.{quote_ident(name)}" for name in self.names])


@dataclass(frozen=True)
class Qualified(Fragment):
    """A name with its schema.

    :param schema: the schema in the model, or None for the one in which the connection
        creates its objects.
    :param name: the name in that schema.
    """

    schema: str | None
    name: str

    def render(self, schemas: SchemaNames) -> str:
        """Return ``"schema"."name"``."""
        return f"{quote_ident(schemas(self.schema))}.{quote_ident(self.name)}"

    @property
    def dotted(self) -> str:
        """The name as messages have it, without quotes."""
        return f"{self.schema}.{self.name}"

    def in_database(self, schemas: SchemaNames) -> Qualified:
        """Return the name with the name that its schema has in the database."""
        return Qualified(schemas(self.schema), self.name)

    @classmethod
    def of(cls, table: TableClause, schemas: SchemaNames) -> Qualified:
        """Return the name of a table of the models, as the database has it."""
        return cls(schemas(table.schema), table.name)


@dataclass(frozen=True)
class RegClass(Fragment):
    """The OID of a table, found by its name."""

    table: Qualified

    def render(self, schemas: SchemaNames) -> str:
        """Return ``'"schema"."name"'::regclass``."""
        return f"{quote_literal(self.table.render(schemas))}::regclass"


@dataclass(frozen=True)
class Literal(Fragment):
    """A string value."""

    value: str

    def render(self, schemas: SchemaNames) -> str:
        """Return the value as a string literal."""
        return quote_literal(self.value)


@dataclass(frozen=True)
class Rendered(Fragment):
    """The text of a fragment as a string value, for SQL that composes SQL."""

    fragment: Fragment

    def render(self, schemas: SchemaNames) -> str:
        """Return the fragment's text as a string literal."""
        return quote_literal(self.fragment.render(schemas))


@dataclass(frozen=True)
class Setting(Fragment):
    """The value of a setting as text, or NULL if the setting is not set.

    :param name: the name of the setting, such as ``"pghistory.context_id"``.
    """

    name: str

    def render(self, schemas: SchemaNames) -> str:
        """Return the call that reads the setting."""
        # A setting that was local to an earlier transaction reads '' and not NULL.
        return f"NULLIF(current_setting({quote_literal(self.name)}, true), '')"


@dataclass(frozen=True)
class Joined(Fragment):
    """Fragments one after the other.

    :param separator: SQL of the library's own that stands between them.
    """

    parts: tuple[Fragment, ...]
    separator: str = ""

    def render(self, schemas: SchemaNames) -> str:
        """Return the parts' text, joined."""
        return self.separator.join([part.render(schemas) for part in self.parts])


@dataclass(frozen=True)
class DollarQuoted(Fragment):
    """A body between dollar quotes, with a tag that the body does not contain."""

    body: Fragment

    def render(self, schemas: SchemaNames) -> str:
        """Return the quoted body."""
        text = self.body.render(schemas)
        tags = (f"$history{n or ''}$" for n in itertools.count())
        tag = next(tag for tag in tags if tag[:-1] not in text)
        return f"{tag}{text}{tag}"


def join(separator: str, parts: Iterable[Fragment]) -> Fragment:
    """Return the fragments with ``separator`` between them."""
    return Joined(tuple(map(_checked, parts)), separator)


_MAX_PAIRS = 50
"""PostgreSQL passes 100 arguments to a function at most, two to a pair."""


def pairs_by_call(pairs: Sequence[T]) -> list[Sequence[T]]:
    """Return the pairs that each call of a function such as jsonb_build_object takes.

    :param pairs: what becomes two arguments each.
    :return: the pairs in groups of 50, in order.
    """
    starts = range(0, len(pairs), _MAX_PAIRS)
    return [pairs[start : start + _MAX_PAIRS] for start in starts]


def quote_ident(name: str) -> str:
    """Return ``name`` as a quoted identifier.

    :raises ValueError: PostgreSQL cannot store the name.
    """
    wrong = unstorable(name)
    if wrong is not None:
        raise ValueError(
            f"PostgreSQL names cannot contain {wrong}, got {name!r}; rename it"
        )
    return '"' + name.replace('"', '""') + '"'


def quote_literal(value: str, without: str = "") -> str:
    r"""Return ``value`` as a string literal that no server setting can change.

    A backslash is an escape in ``'...'`` where ``standard_conforming_strings`` is
    off, so a value with one is written as ``E'...'``.

    :param without: ASCII characters to write as escapes, for a reader of the SQL to
        whom they mean something else.
    :raises ValueError: PostgreSQL cannot store the value.
    """
    wrong = unstorable(value)
    if wrong is not None:
        raise ValueError(
            f"PostgreSQL text cannot contain {wrong}, got {value!r}; remove it"
        )
    quoted = "'" + value.replace("'", "''") + "'"
    if "\\" not in value and not any(map(value.count, without)):
        return quoted
    quoted = quoted.replace("\\", "\\\\")
    for character in without:
        quoted = quoted.replace(character, rf"\x{ord(character):02x}")
    return " E" + quoted
