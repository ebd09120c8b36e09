"""DuckDB as a database of SQLAlchemy, which reads the events of an archive.

It is PostgreSQL as psycopg reaches it, but for the connection: statements are
PostgreSQL's, most of which DuckDB takes, and values become those of Python as they do
there. So sessions return the same objects with the same values.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    Engine,
    StaticPool,
    types,
)
from sqlalchemy.dialects.postgresql.base import PGDDLCompiler, PGTypeCompiler
from sqlalchemy.dialects.postgresql.psycopg import (
    PGDialect_psycopg,
    PGExecutionContext_psycopg,
)
from sqlalchemy.engine import make_url

from sa_history.archiving.duckdb_compiler import ArchiveCompiler, Past, is_numeric
from sa_history.archiving.duckdb_connection import (
    DOUBLE_OID,
    NUMERIC_OID,
    Connection,
    OutOfRange,
)
from sa_history.archiving.packages import load
from sa_history.archiving.text_values import TEXT_OID, oid_of, text_reader
from sa_history.exc import ArchiveError
from sa_history.query.as_of_compiler import NoDDL, NoText
from sa_history.query.past_erasures import ErasedOr
from sa_history.sql.column_types import POSTGRESQL, postgresql_type
from sa_history.sql.readable_json import READABLE_JSON

# SQLAlchemy's compiler has no types; what it is given is passed on as it is.
# mypy: disable-error-code="override, no-untyped-call"


class _NoDDL(NoDDL, PGDDLCompiler):
    """Refuses to create anything."""


class _Context(NoText, PGExecutionContext_psycopg):
    """Reads the values of results as psycopg reads what PostgreSQL sends as text."""

    def get_result_processor(self, type_: Any, colname: str, coltype: Any) -> Any:
        """Return the function that makes a value of Python, None for as it is."""
        if isinstance(type_, ErasedOr):
            own = self.get_result_processor(type_.type_, colname, coltype)
            return type_.processor(own)
        if isinstance(type_, types.NullType):
            return None
        if isinstance(type_, type(READABLE_JSON)):
            return type_.result_processor(self.dialect, coltype)
        if coltype in (1082, 1114, 1184):
            return _in_turn(_require_time, self._processor(type_, coltype))
        if coltype == NUMERIC_OID and isinstance(postgresql_type(type_), types.Integer):
            return _in_turn(int, self._processor(type_, 20))
        if coltype == DOUBLE_OID and is_numeric(type_):
            # What was reckoned; SQLAlchemy would round it to the digits of a column.
            return _in_turn(_decimal, self._processor(type_, NUMERIC_OID))
        if coltype != TEXT_OID:
            return self._processor(type_, coltype)
        oid = _oid_of(type_)
        loader = _loader(self.dialect, oid)
        return _in_turn(loader, self._processor(type_, oid))

    def _processor(self, type_: Any, coltype: int) -> Any:
        return super().get_result_processor(type_, "", coltype)


def _decimal(value: float) -> decimal.Decimal:
    return decimal.Decimal(repr(value))


def _in_turn(
    first: Callable[[Any], Any] | None, second: Callable[[Any], Any] | None
) -> Callable[[Any], Any] | None:
    """Return two functions as one, of which the first does not see None."""
    if first is None:
        return second

    def process(value: Any) -> Any:
        found = None if value is None else first(value)
        return found if second is None else second(found)

    return process


def _require_time(value: Any) -> Any:
    if isinstance(value, OutOfRange):
        raise ArchiveError(
            f"a time is {value.text}, which Python cannot hold; select it as text"
        )
    return value


def _oid_of(type_: Any) -> int:
    """Return the number of PostgreSQL's type for one of SQLAlchemy's."""
    try:
        name = POSTGRESQL.type_compiler_instance.process(type_).lower()
    except Exception:  # a type of the application, which says what it likes
        return TEXT_OID
    plain, _, _ = name.partition("(")
    is_array = name.endswith("[]") and not plain.endswith("[]")
    return oid_of(f"{plain}[]" if is_array else plain) or TEXT_OID


def _loader(dialect: Any, oid: int) -> Callable[[Any], Any] | None:
    """Return the function that reads text of a type as psycopg does."""
    if oid == TEXT_OID:
        return None
    read_text = text_reader(oid, dialect._psycopg_adapters_map)

    def read(value: Any) -> Any:
        return read_text(value) if isinstance(value, str) else value

    return read


class _Types(PGTypeCompiler):
    """The types of a CAST: what PostgreSQL alone has is text."""

    def visit_JSON(self, type_: Any, **_: Any) -> str:
        return "VARCHAR"

    visit_JSONB = visit_UUID = visit_uuid = visit_INET = visit_CIDR = visit_JSON
    visit_CITEXT = visit_ARRAY = visit_user_defined = visit_JSON
    visit_INT4RANGE = visit_INT8RANGE = visit_NUMRANGE = visit_JSON
    visit_DATERANGE = visit_TSRANGE = visit_TSTZRANGE = visit_JSON
    visit_INT4MULTIRANGE = visit_INT8MULTIRANGE = visit_NUMMULTIRANGE = visit_JSON
    visit_DATEMULTIRANGE = visit_TSMULTIRANGE = visit_TSTZMULTIRANGE = visit_JSON
    visit_MACADDR = visit_MACADDR8 = visit_BIT = visit_HSTORE = visit_JSON

    def visit_ENUM(self, type_: Any, *_: Any, **__: Any) -> str:
        return "VARCHAR"

    visit_DOMAIN = visit_ENUM

    def visit_BYTEA(self, type_: Any, **_: Any) -> str:
        return "BLOB"

    def visit_FLOAT(self, type_: Any, **_: Any) -> str:
        return "DOUBLE"  # as PostgreSQL means it, where DuckDB has 32 bits

    def visit_NUMERIC(self, type_: Any, **kw: Any) -> str:
        # Without a precision DuckDB has three digits after the point.
        if type_.precision is None:
            return "DECIMAL(38, 10)"
        return str(super().visit_NUMERIC(type_, **kw))


Prepare: TypeAlias = Callable[[ArchiveCompiler, Sequence[Any], Any], None]
"""Makes what a statement reads."""


class DuckDBDialect(PGDialect_psycopg):
    """PostgreSQL by psycopg, with statements for DuckDB.

    :param prepare: is called before a statement is executed: with the compiled one, its
        parameters, and the statement itself.
    :param past: what a session of the past reads; None for one that reads events.
    """

    supports_statement_cache = True
    supports_server_side_cursors = False
    statement_compiler: Any = ArchiveCompiler
    execution_ctx_cls = _Context
    ddl_compiler = _NoDDL
    type_compiler_cls = _Types
    _has_native_hstore = False
    _backslash_escapes = False
    _supports_jsonb_subscripting = False
    # Of rows in a list, DuckDB would take NULL for a value like others.
    tuple_in_values = True

    def __init__(
        self,
        prepare: Prepare,
        past: Past | None,
        **options: Any,
    ) -> None:
        super().__init__(dbapi=load("psycopg"), paramstyle="qmark", **options)
        self._prepare = prepare
        self.statement_compiler = type(
            "ArchiveCompiler",
            (ArchiveCompiler,),
            {"past": past},
        )

    def do_execute(
        self, cursor: Any, statement: str, parameters: Any, context: Any = None
    ) -> None:
        """Make what a statement reads, and execute it."""
        self._prepare(context.compiled, parameters, context.invoked_statement)
        cursor.execute(statement, parameters)


def duckdb_engine(connection: Any, dialect: DuckDBDialect) -> Engine:
    """Return an engine whose only connection is one of DuckDB.

    It does not ask the database for what it is.
    """
    connected: Any = Connection(connection)
    pool = StaticPool(lambda: connected)
    pool._dialect = dialect
    return Engine(pool, dialect, make_url("postgresql+psycopg://"))
