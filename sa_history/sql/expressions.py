"""SQLAlchemy expressions as SQL text that can stand in a trigger.

A trigger has no bound parameters, so every value becomes a literal, written for
any server setting and with no doubled percent sign (a driver's business, done
when the statement is sent).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Sequence,
    Table,
    select,
    text,
    types,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.base import (
    PGCompiler,
    PGDialect,
    PGIdentifierPreparer,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement, TextClause
from sqlalchemy.sql.functions import Function, FunctionElement

from sa_history.sql.column_types import (
    cast_of_literal,
    literal_sql,
    postgresql_type,
)
from sa_history.sql.compose import (
    Fragment,
    Qualified,
    Raw,
    SchemaNames,
    quote_literal,
)

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL in JSON, which PostgreSQL's jsonb cannot store."""


def _json_sql(type_: types.JSON, value: Any, name: str) -> str:
    """Return a value of JSON as a literal.

    :param name: the name of the type.
    :raises TypeError: JSON has no such value.
    :raises ValueError: PostgreSQL has no such value.
    """
    if value is None and type_.none_as_null:
        return "NULL"
    written = json.dumps(
        None if value is types.JSON.NULL else value,
        allow_nan=False,
        # A character that the database has not got is an error of its own.
        ensure_ascii=False,
    )
    if _NUL.search(written):
        raise ValueError(f"PostgreSQL's JSON cannot contain NUL, got {value!r}")
    return f"{quote_literal(written)}::{name}"


# The base is generic in SQLAlchemy 2.1, and is not in 2.0.
class _Json(postgresql.JSON):  # type: ignore[type-arg, unused-ignore]
    """JSON with literals, of which SQLAlchemy has none."""

    def literal_processor(self, dialect: Any) -> Callable[[Any], str]:
        return lambda value: _json_sql(self, value, "json")


class _Jsonb(postgresql.JSONB):  # type: ignore[type-arg, unused-ignore]
    """JSONB with literals, of which SQLAlchemy has none."""

    def literal_processor(self, dialect: Any) -> Callable[[Any], str]:
        return lambda value: _json_sql(self, value, "jsonb")


class _LiteralCompiler(PGCompiler):
    """Writes each value as a literal."""

    def render_literal_value(self, value: Any, type_: types.TypeEngine[Any]) -> str:
        own = literal_sql(type_, value)
        if own is not None:
            return own
        text: str = super().render_literal_value(value, type_)  # type: ignore[no-untyped-call]
        return text

    def render_literal_bindparam(self, bindparam: Any, *args: Any, **kw: Any) -> str:
        is_none = bindparam.value is None and bindparam.callable is None
        if is_none and isinstance(postgresql_type(bindparam.type), types.JSON):
            # A parameter may be the null of JSON, where SQLAlchemy writes NULL.
            return str(bindparam.type._cached_literal_processor(self.dialect)(None))
        compiler: Any = super()
        text: str = compiler.render_literal_bindparam(bindparam, *args, **kw)
        return text

    def visit_bindparam(self, bindparam: Any, *args: Any, **kw: Any) -> str:
        # Functions that are compiled in their own way may not pass on what they are
        # told, as func.pow() of SQLAlchemy 2.1. Of a list whose type has an expression
        # around each value, SQLAlchemy writes that expression first, with a mark.
        is_mark = bindparam.expanding and kw.get("skip_bind_expression")
        kw["literal_binds"] = not is_mark
        compiler: Any = super()
        text: str = compiler.visit_bindparam(bindparam, *args, **kw)
        return text

    def visit_now_func(self, fn: Any, **kw: Any) -> str:
        # The same, and nothing that a search_path could replace.
        return "CURRENT_TIMESTAMP"


class _QueryCompiler(_LiteralCompiler):
    """Writes a literal with its type, where it would be a text in a list of columns."""

    def render_literal_value(self, value: Any, type_: types.TypeEngine[Any]) -> str:
        text = super().render_literal_value(value, type_)
        actual = cast_of_literal(type_)
        if value is None or actual is None:
            return text
        name = self.dialect.type_compiler_instance.process(
            actual, identifier_preparer=self.preparer
        )
        return f"CAST({text} AS {name})"


class _Preparer(PGIdentifierPreparer):
    """Quotes also what is reserved in PL/pgSQL, which finds no column in NEW.begin.

    https://github.com/postgres/postgres/blob/master/src/pl/plpgsql/src/pl_reserved_kwlist.h
    """

    reserved_words = PGIdentifierPreparer.reserved_words | {
        *("begin", "by", "declare", "execute", "foreach", "if", "loop", "strict"),
        "while",
    }


class _LiteralDialect(PGDialect):
    statement_compiler = _LiteralCompiler
    preparer = _Preparer
    supports_statement_cache = False
    colspecs = PGDialect.colspecs | {
        types.JSON: _Json,
        postgresql.JSON: _Json,
        postgresql.JSONB: _Jsonb,
    }


def _dialect() -> PGDialect:
    dialect = _LiteralDialect(paramstyle="named")  # type: ignore[no-untyped-call]
    # Enum and TypeDecorator literals are written by their types, which ask the
    # dialect and not the compiler; see literal_sql.
    dialect._backslash_escapes = False
    return dialect


_PREPARER = _dialect().identifier_preparer


def quoted(name: str) -> str:
    """Return a name as it stands in expressions, quoted where it has to be."""
    return _PREPARER.quote(name)


def expression_sql(expression: ClauseElement) -> str:
    """Return the text of an expression, its values as literals.

    :raises sqlalchemy.exc.CompileError: a value has no literal form.
    """
    compiled = expression.compile(
        dialect=_dialect(), compile_kwargs={"literal_binds": True}
    )
    return str(compiled)


@dataclass(frozen=True, eq=False)
class Query(Fragment):
    """A query, its values as literals and its tables with their schemas."""

    query: Select[Any] | Insert

    def render(self, schemas: SchemaNames) -> str:
        """Return the text of the query."""
        dialect = _dialect()
        dialect.statement_compiler = _QueryCompiler
        # As under a schema_translate_map, but for a schema of None too. Aliases and
        # common table expressions have none.
        preparer: Any = dialect.identifier_preparer
        preparer.schema_for_object = lambda named: (
            schemas(named.schema)
            if isinstance(named, (Table, types.SchemaType, Sequence))
            else None
        )
        return str(
            self.query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        )


def type_sql(type_: types.TypeEngine[Any]) -> Fragment:
    """Return the name of a type, qualified where it is a user's ENUM or DOMAIN.

    A string's length is left out: a cast would cut the value, where storing it in the
    column is an error.
    """
    actual = postgresql_type(type_)
    if isinstance(actual, (postgresql.ENUM, postgresql.DOMAIN)) and actual.name:
        return Qualified(actual.schema, actual.name)
    if isinstance(actual, types.String) and not isinstance(actual, postgresql.CITEXT):
        return Raw("text")
    return Raw(actual.compile(dialect=_dialect()))


def column_type_sql(type_: types.TypeEngine[Any]) -> str:
    """Return a type as CREATE TABLE has it, with a string's length.

    The schema of an ENUM or a DOMAIN is the one that its type has, if any.
    """
    return postgresql_type(type_).compile(dialect=_dialect())


class _Call(Function[Any]):
    """A call of a function of ours, in the schema that the connection has for it."""

    inherit_cache = True


@compiles(_Call, "postgresql")
def _compile_call(element: _Call, compiler: SQLCompiler, **kw: Any) -> str:
    # func.schema.name knows no schema_translate_map, takes a last underscore for its
    # own, and doubles no percent sign; what SQLAlchemy does for a sequence is right.
    schema = element.packagenames[0] if element.packagenames else None
    name = compiler.preparer.format_sequence(Sequence(element.name, schema=schema))
    return name + compiler.function_argspec(element, **kw)


class NextValue(FunctionElement[int]):
    """The next value of a sequence, for a column's default.

    ``Sequence.next_value()`` leaves a single quote in a name as it is: always in
    SQLAlchemy 2.0.50 and older, under a ``schema_translate_map`` in newer ones.

    It is written as PostgreSQL gives it back, so that Alembic sees no difference, and
    does not ask the database to compare two numbers, which would take them. COALESCE
    does nothing; without it SQLAlchemy's reflection takes the sequence for one in the
    schema of the table, and Alembic asks about each such column.
    """

    inherit_cache = True
    type = types.BigInteger()

    def __init__(self, sequence: Sequence, plain: bool = False) -> None:
        """Make it.

        :param plain: write colons and percent signs of the name as escapes. A revision
            holds the default as ``text(...)``, which takes them for something else.
        """
        super().__init__()
        self.sequence = sequence
        self.plain = plain


@compiles(NextValue)
def _compile_next_value(element: NextValue, compiler: SQLCompiler, **kw: Any) -> str:
    name = compiler.preparer.format_sequence(element.sequence)
    if element.plain and compiler.preparer._double_percents:
        name = name.replace("%%", "%")
    literal = quote_literal(name, without=":%" if element.plain else "")
    return f"nextval(COALESCE({literal}::regclass))"


def call_once(
    name: Qualified, type_: types.TypeEngine[Any], *arguments: Any
) -> ColumnElement[Any]:
    """Return a call of a function that runs once for the statement."""
    schema = (name.schema,) if name.schema else ()
    call = _Call(name.name, *arguments, type_=type_, packagenames=schema)
    return select(call).scalar_subquery()


def overriding_system_value(
    parameters: Mapping[str, types.TypeEngine[Any] | None],
) -> TextClause:
    """Return ``OVERRIDING SYSTEM VALUE VALUES (...)``, the end of an INSERT.

    :param parameters: the names of its parameters, each with the type that it is cast
        to; None for no cast.
    """
    values = [
        f":{name}" if type_ is None else f"CAST(:{name} AS {_type_name(type_)})"
        for name, type_ in parameters.items()
    ]
    return text(f"OVERRIDING SYSTEM VALUE VALUES ({', '.join(values)})")


class OverridingSelect(Select[Any]):
    """A SELECT for an INSERT, which writes identity values that are GENERATED ALWAYS.

    https://www.postgresql.org/docs/current/sql-insert.html
    """

    inherit_cache = True


@compiles(OverridingSelect, "postgresql")
def _compile_overriding(element: OverridingSelect, compiler: Any, **kw: Any) -> str:
    query: str = compiler.visit_select(element, **kw)
    return f"OVERRIDING SYSTEM VALUE {query}"


def _type_name(type_: types.TypeEngine[Any]) -> str:
    # A colon in it would begin a parameter.
    return postgresql_type(type_).compile(dialect=_dialect()).replace(":", r"\:")
