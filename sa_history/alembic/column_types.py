"""The types of columns in a revision, which has to run without the application.

An event table has the types of its model, some of which are classes of the application
or of a package: a revision would have to import them, and to call their constructors.
What counts for the table is the type that PostgreSQL has for each.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import TypeCompiler
from sqlalchemy.types import TypeEngine, UserDefinedType

from sa_history.sql.column_types import postgresql_type
from sa_history.sql.expressions import column_type_sql

_MODULE = "sa_history.alembic"


class PGType(UserDefinedType[Any]):
    """A type of PostgreSQL, by its SQL.

    :param sql: the type as CREATE TABLE has it.

    Example::

        sa.Column("place", sa_history.alembic.PGType("geometry(POINT,4326)"))
    """

    # Alembic writes the module and the repr into the revision.
    __module__ = _MODULE
    cache_ok = True

    def __init__(self, sql: str) -> None:
        self.sql = sql


@compiles(PGType, "postgresql")
def _compile_pg_type(element: PGType, compiler: TypeCompiler, **_: object) -> str:
    # A name may have a percent sign.
    if compiler.dialect.paramstyle in ("format", "pyformat"):
        return element.sql.replace("%", "%%")
    return element.sql


def revision_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type that PostgreSQL has for one, by a class that a revision can name.

    An ENUM or a DOMAIN is named, and not created.
    """
    if _is_known(type_):
        return type_
    actual, sql = postgresql_type(type_), column_type_sql(type_)
    if not isinstance(actual, (*_NAMED, UserDefinedType)):
        for base in filter(_is_of_sqlalchemy, type(actual).__mro__):
            known: TypeEngine[Any] = actual.adapt(base)
            if _is_known(known) and column_type_sql(known) == sql:
                return known
    return PGType(sql)


_NAMED = (sqlalchemy.Enum, postgresql.DOMAIN)


def _is_known(type_: TypeEngine[Any]) -> bool:
    """Return True if a revision can write the type by its repr."""
    if isinstance(type_, sqlalchemy.ARRAY) and not _is_known(type_.item_type):
        return False
    return (
        not isinstance(type_, (*_NAMED, sqlalchemy.TypeDecorator))
        and not type_._variant_mapping
        and _is_of_sqlalchemy(type(type_))
    )


def _is_of_sqlalchemy(class_: type[Any]) -> bool:
    return issubclass(class_, TypeEngine) and any(
        getattr(module, class_.__name__, None) is class_
        for module in (sqlalchemy, postgresql)
    )


def render_without_prefix(autogen_context: AutogenContext) -> None:
    """Render :class:`PGType` with its module, also if ``user_module_prefix`` is set."""
    own = autogen_context.opts.get("render_item")

    def render_item(kind: str, item: object, context: AutogenContext) -> str | bool:
        rendered = own(kind, item, context) if own else False
        if rendered is False and isinstance(item, PGType):
            context.imports.add(f"import {_MODULE}")
            return f"{_MODULE}.{item!r}"
        return rendered

    autogen_context.opts = {**autogen_context.opts, "render_item": render_item}
