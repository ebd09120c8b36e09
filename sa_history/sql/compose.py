"""Fragments of SQL that know how to quote themselves.

SQL is composed by adding fragments, never by formatting strings, so a name or a
value cannot become syntax::

    Raw("DROP FUNCTION ") + Qualified("audit", 'odd"name') + Raw("()")

A schema of None means "where the connection creates its objects". That is known
only when the SQL is made for a connection, so rendering takes a function that
names the schema; trigger bodies are always qualified and work with an empty
``search_path``.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sa_history.util.identifiers import unstorable

SchemaNames = Callable[[str | None], str]
"""Gives the schema's name in the database, for a schema of the model or None."""


class Fragment(ABC):
    """A piece of SQL. Add fragments, or strings of trusted SQL, to compose them."""

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
    """One name, quoted always: quoting only where needed depends on the server."""

    name: str

    def render(self, schemas: SchemaNames) -> str:
        """Return the name in double quotes."""
        return quote_ident(self.name)


@dataclass(frozen=True)
class Qualified(Fragment):
    """A name with its schema; None is the schema that new objects are made in."""

    schema: str | None
    name: str

    def render(self, schemas: SchemaNames) -> str:
        """Return ``"schema"."name"``."""
        return f"{quote_ident(schemas(self.schema))}.{quote_ident(self.name)}"


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
class Joined(Fragment):
    """Fragments one after the other."""

    parts: tuple[Fragment, ...]

    def render(self, schemas: SchemaNames) -> str:
        """Return the parts' text, joined."""
        return "".join(part.render(schemas) for part in self.parts)


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
    joined: list[Fragment] = []
    for part in parts:
        if joined:
            joined.append(Raw(separator))
        joined.append(_checked(part))
    return Joined(tuple(joined))


def quote_ident(name: str) -> str:
    """Return ``name`` as a quoted identifier."""
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

    :param without: characters of ASCII that are written as escapes, for what would take
        them for something else.
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
