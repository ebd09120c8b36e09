"""Sessions that see the past.

Such a session is an ordinary one, on a connection whose compiler writes, in the place
of each tracked table, a subquery of its rows as they were. So whatever SQLAlchemy makes
of a statement, of a relationship or of an aggregate sees the past. The moment stands in
a setting of the transaction: the SQL is the same for all moments, and compiled once.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, event, func, inspect, select
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDDLCompiler
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import NoInspectionAvailable, UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction

from sa_history.capture.context_table import is_context_table
from sa_history.capture.event_table import is_event_table
from sa_history.exc import PastError
from sa_history.query.as_of_rows import Moment, rows_as_of
from sa_history.sql.naming import AS_OF
from sa_history.tracking.completeness import complete_tracking, missing_operations
from sa_history.tracking.event_class import Event
from sa_history.tracking.registry import Tracking, trackings_of_table
from sa_history.util.postgresql import require_postgresql
from sa_history.util.sessions import is_async_engine, sync_side, unscoped

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

# SQLAlchemy's compiler has no types; what it is given is passed on as it is.
# mypy: disable-error-code="override, no-untyped-call"

DIALECTS = "_sa_history_past"
"""The attribute of an engine's dialect that has those for the past."""


def as_of(
    target: Any,
    when: datetime.datetime | Event | None = None,
    *,
    transaction: int | None = None,
    allow: Iterable[Any] = (),
) -> AsOf:
    """Return a block with a read-only session that sees tracked models as they were.

    In it ``get``, ``select``, joins, aggregates and relationships see the rows that
    there were: those that were deleted since are there, those that were inserted since
    are not. What is not committed is not seen. It has a connection of its own.

    :param target: a session, a connection or an engine, whose database it reads. Of an
        async one, write ``async with``.
    :param when: a time, with its time zone, or an event: how things were after it.
    :param transaction: the number of a transaction, instead: how things were after it,
        as ``pgh_xact_id`` gives it.
    :param allow: classes and tables that are not tracked in full, to be seen as they
        are now.
    :raises PastError: it is not told when, or of which database; in the block: a table
        is not tracked in full, a statement writes, or is text.

    Example::

        with history.as_of(session, yesterday) as past:
            account = past.get(Account, 7)
            total = past.scalar(select(func.sum(Account.balance)))
    """
    given = [argument for argument in (when, transaction) if argument is not None]
    if len(given) != 1:
        raise PastError(
            "as_of takes one moment: a datetime, an event or transaction=..., got "
            f"{given!r}"
        )
    moment, value = _moment(given[0], is_transaction=transaction is not None)
    return AsOf(target, moment, value, frozenset(map(_table, allow)))


def _moment(given: Any, is_transaction: bool) -> tuple[Moment, str]:
    if is_transaction and isinstance(given, int):
        return Moment.TRANSACTION, str(given)
    if isinstance(given, Event) and not is_transaction:
        return Moment.EVENT, str(given.pgh_id)
    if not isinstance(given, datetime.datetime) or is_transaction:
        raise PastError(
            "as_of takes a datetime, an event, or transaction= with a number, got "
            f"{given!r}"
        )
    if given.tzinfo is None:
        raise PastError(
            f"as_of got {given!r}, which is another moment in each time zone; give it "
            "one, such as tzinfo=datetime.timezone.utc"
        )
    return Moment.TIME, given.isoformat()


def _table(allowed: Any) -> Table:
    if isinstance(allowed, Table):
        return allowed
    try:
        table = inspect(allowed).local_table
    except (NoInspectionAvailable, AttributeError):
        table = None
    if not isinstance(table, Table):
        raise PastError(f"allow takes mapped classes and tables, got {allowed!r}")
    return table


class AsOf:
    """What :func:`as_of` returns."""

    def __init__(
        self, target: Any, moment: Moment, value: str, allowed: frozenset[Table]
    ) -> None:
        self._target = target
        self._moment = moment
        self._value = value
        self._allowed = allowed
        self._connection: Any = None
        self._session: Any = None

    def __enter__(self) -> Session:
        bind = _bind_of(self._target)
        if not isinstance(bind, Engine):
            raise PastError(f"as_of got {self._target!r}; write 'async with' for it")
        connection = self._connection = bind.connect()
        try:
            self._prepare(connection)
            session = self._session = Session(connection, autoflush=False)
        except BaseException:
            connection.close()
            raise
        event.listen(session, "after_begin", self._tell)
        return session

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._connection.close()

    async def __aenter__(self) -> AsyncSession:
        bind = _bind_of(self._target)
        if isinstance(bind, Engine):
            raise PastError(f"as_of got {self._target!r}; write 'with' for it")
        # It is loaded, since there is such a target.
        from sqlalchemy.ext.asyncio import AsyncSession

        connection = self._connection = await bind.connect()
        try:
            await connection.run_sync(self._prepare)
            session = self._session = AsyncSession(connection, autoflush=False)
        except BaseException:
            await connection.close()
            raise
        event.listen(session.sync_session, "after_begin", self._tell)
        return session

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._connection.close()

    def _prepare(self, connection: Connection) -> None:
        require_postgresql(connection, "history.as_of")
        # All statements see the same, and the database refuses to write as well.
        connection.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        connection.dialect = _dialect_for(connection, self._moment, self._allowed)

    def _tell(self, _: Session, __: SessionTransaction, connection: Connection) -> None:
        connection.execute(select(func.set_config(AS_OF, self._value, True)))


def _bind_of(target: Any) -> Any:
    """Return the engine of a target, sync or async."""
    target = unscoped(target)
    session = sync_side(target)
    if not isinstance(session, Session):
        # A connection has its engine; an engine is its own, also if it is async.
        bind = target if is_async_engine(target) else getattr(target, "engine", None)
        if bind is None:
            raise PastError(
                f"as_of takes a session, a connection or an engine, got {target!r}"
            )
        return bind
    try:
        engine = session.get_bind().engine
    except UnboundExecutionError as error:
        raise PastError(
            f"as_of cannot tell the database of {target!r}, since it has several or "
            "none; give it an engine"
        ) from error
    if session is target:
        return engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    return AsyncEngine(engine)


def _dialect_for(
    connection: Connection, moment: Moment, allowed: frozenset[Table]
) -> Dialect:
    """Return the connection's dialect, with a compiler that sees the past.

    It stays with the engine's, so that what was compiled is found again.
    """
    known = vars(connection.dialect).setdefault(DIALECTS, {})
    dialect = known.get((moment, allowed))
    if dialect is None:
        dialect = known[moment, allowed] = copy.copy(connection.dialect)
        seen = {"moment": moment, "allowed": allowed}
        compiler = dialect.statement_compiler
        dialect.statement_compiler = type("PastCompiler", (_Past, compiler), seen)
        dialect.ddl_compiler = type("PastDDL", (_NoDDL, dialect.ddl_compiler), {})
        executed: Any = dialect.execution_ctx_cls
        dialect.execution_ctx_cls = type("PastContext", (_NoText, executed), {})
    return dialect  # type: ignore[no-any-return]


class _Past(PGCompiler):
    """Writes tracked tables as the rows that they had."""

    moment: Moment
    allowed: frozenset[Table]

    def visit_table(self, table: Any, asfrom: bool = False, **kw: Any) -> str:
        """Write a table, or its rows as they were."""
        if not isinstance(table, Table):
            raise PastError(
                f"{table.name!r} is not a Table of a MetaData, so its past is not "
                "known; give the class or table that is tracked"
            )
        tracking = self._tracking(table)
        if tracking is None or not asfrom:
            written: str = super().visit_table(table, asfrom=asfrom, **kw)
            return written
        if kw.get("from_linter"):
            kw["from_linter"].froms[table] = table.fullname
        then = rows_as_of(tracking, self.moment)
        literal_binds = kw.get("literal_binds", False)
        rows = f"({self.process(then, asfrom=True, literal_binds=literal_binds)})"
        alias = kw.get("enclosing_alias")
        if alias is not None and alias.element is table:
            return rows
        return f"{rows} AS {self.preparer.quote(_name_of(table))}"

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> str:
        """Write a column; a subquery has no schema, as its table has."""
        table = column.table
        if not kw.get("include_table", True) or self._tracking(table) is None:
            written: str = super().visit_column(column, *args, **kw)
            return written
        kw["include_table"] = False
        name = super().visit_column(column, *args, **kw)
        return f"{self.preparer.quote(_name_of(table))}.{name}"

    def _tracking(self, table: Any) -> Tracking | None:
        """Return the tracking of a table, None for one that is seen as it is now.

        :raises PastError: it is not tracked in full, and not allowed.
        """
        if not isinstance(table, Table):
            return None
        # The ORM's tables are annotated copies.
        table = table.metadata.tables.get(table.key, table)
        if table in self.allowed or is_event_table(table) or is_context_table(table):
            return None
        tracking = complete_tracking(table)
        if tracking is None:
            raise PastError(_not_in_full(table))
        return tracking

    def visit_textclause(self, textclause: Any, **kw: Any) -> str:
        """Refuse a statement of text, in which no table can be told."""
        if not self.stack:
            raise _text_refused(textclause.text)
        written: str = super().visit_textclause(textclause, **kw)
        return written

    def visit_textual_select(self, taf: Any, *_: Any, **__: Any) -> str:
        """Refuse a statement of text of which the columns are told."""
        raise _text_refused(taf.element.text)

    def for_update_clause(self, *_: Any, **__: Any) -> str:
        """Refuse to lock rows, which is writing to PostgreSQL."""
        raise PastError("the past is not written: FOR UPDATE; leave the lock out")

    def visit_insert(self, *_: Any, **__: Any) -> str:
        """Refuse to write."""
        raise PastError("the past is not written: INSERT; use a session of its own")

    def visit_update(self, *_: Any, **__: Any) -> str:
        """Refuse to write."""
        raise PastError("the past is not written: UPDATE; use a session of its own")

    def visit_delete(self, *_: Any, **__: Any) -> str:
        """Refuse to write."""
        raise PastError("the past is not written: DELETE; use a session of its own")


def _name_of(table: Table) -> str:
    """Return what the rows of a table are called: tables of two schemas may meet."""
    name: str = table.fullname
    return name


def _text_refused(statement: str) -> PastError:
    return PastError(f"text sees no past: {statement!r}; write it as a select(...)")


class _NoText:
    """Refuses a statement that is given to the driver as it is."""

    @classmethod
    def _init_statement(cls, *arguments: Any) -> Any:
        # The dialect, the connections, the options, and the statement.
        raise _text_refused(arguments[4])


def _not_in_full(table: Table) -> str:
    trackings = trackings_of_table(table)
    if not trackings:
        missing = f"{table.name!r} is not tracked"
    else:
        unknown = [", ".join(missing_operations(tracking)) for tracking in trackings]
        missing = f"the events of {table.name!r} do not record {'; or '.join(unknown)}"
    return (
        f"{missing}, so its past is not known; track it with @track(), or give "
        "as_of(..., allow=[...]) to see it as it is now"
    )


class _NoDDL(PGDDLCompiler):
    """Refuses to change the schema."""

    def process(self, obj: Any, **_: Any) -> str:
        """Refuse it."""
        raise PastError(f"the past is not written: {type(obj).__name__}")
