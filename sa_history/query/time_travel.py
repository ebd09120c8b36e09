"""Sessions that read tables as of a point in time.

Such a session is an ordinary ``Session`` on a connection with a compiler of its own,
which renders each tracked table as a subquery of its rows as of then. So joins,
relationships and aggregates read these rows without being rewritten. The point in time
is a setting of the transaction, so the SQL is the same for all of them and is compiled
once.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    nullcontext,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    Text,
    event,
    exists,
    false,
    func,
    inspect,
    select,
    table,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError, NoInspectionAvailable, UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction

from sa_history.capture.partitioning import Horizon
from sa_history.definition.mapped_tables import Model
from sa_history.exc import EventsRemovedError, PastError
from sa_history.query.as_of_compiler import AsOfCompiler, NoDDL, NoText
from sa_history.query.as_of_rows import PointInTime, has_left_keys
from sa_history.query.removed_events import read_horizon
from sa_history.sql.compose import quote_literal
from sa_history.sql.naming import AS_OF
from sa_history.sql.session_settings import CITUS_MARK, CITUS_SETTING, READ_ONLY
from sa_history.tracking.databases import (
    ASKED,
    database_of,
    is_same_database,
    may_have_several,
    tables_in,
    written_by,
)
from sa_history.tracking.event_class import Event
from sa_history.tracking.registry import Tracking
from sa_history.util.arguments import is_number
from sa_history.util.postgresql import require_postgresql
from sa_history.util.sessions import (
    AsyncTarget,
    SyncTarget,
    Target,
    is_async,
    is_async_engine,
    sync_side,
    unscoped,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

TRANSLATE = "schema_translate_map"
"""The execution option that says which schemas stand for those of the tables."""

DIALECTS = "_sa_history_past"
"""The attribute of an engine's dialect that keeps the dialects made of it here."""


@overload
def as_of(
    target: SyncTarget | Engine,
    when: datetime.datetime | Event | None = ...,
    *,
    transaction: int | None = ...,
    allow: Iterable[Model] = ...,
) -> AbstractContextManager[Session]: ...


@overload
def as_of(
    target: AsyncTarget | AsyncEngine,
    when: datetime.datetime | Event | None = ...,
    *,
    transaction: int | None = ...,
    allow: Iterable[Model] = ...,
) -> AbstractAsyncContextManager[AsyncSession]: ...


def as_of(
    target: Target | Engine | AsyncEngine,
    when: datetime.datetime | Event | None = None,
    *,
    transaction: int | None = None,
    allow: Iterable[Model] = (),
) -> AsOf:
    """Return a block with a read-only session that reads tables as of a point in time.

    ``get``, ``select``, joins, aggregates and relationships return the rows of then:
    those that were deleted later are there, those that were inserted later are not.
    A value that ``history.erase`` has taken out is ``ERASED``, in objects and in
    selected columns; within SQL it is NULL.
    The session has a connection of its own, so it does not see what ``target`` has not
    committed. It reads the schemas that ``target`` reads, by its
    ``schema_translate_map`` and ``search_path``.

    :param target: a session, a connection or an engine, whose database is read; of a
        session of several databases, that of each class. With an async one, write
        ``async with``.
    :param when: a time with its time zone, or an event, whose change is the last one
        to be seen.
    :param transaction: in place of ``when``, the number of the last transaction whose
        changes are seen, as in ``pgh_xact_id``.
    :param allow: classes and tables whose events do not store every change in full, to
        be read as they are now.
    :return: a block, for ``with`` or ``async with``.
    :raises EventsRemovedError: within the block, if events of a table that is read
        were removed, and without them its rows are not known.
    :raises PastError: no point in time is given, or several, or the target's database
        is not known; within the block, if a table is not tracked in full or is in
        another database than an event or a transaction, or a statement writes or is
        text.
    :raises DialectError: on entering the block, if the database is not PostgreSQL; on
        reading, if the session has several.

    Example::

        with history.as_of(session, yesterday) as past:
            account = past.get(Account, 7)
            total = past.scalar(select(func.sum(Account.balance)))
    """
    given = [argument for argument in (when, transaction) if argument is not None]
    if len(given) != 1:
        raise PastError(
            "as_of takes one moment: a datetime, an event or transaction=..., got "
            f"{when!r} and transaction={transaction!r}; give one"
        )
    point, value = point_in_time(given[0], is_transaction=transaction is not None)
    tracking = when.pgh_tracking if isinstance(when, Event) else None
    written_in = when.pgh_xact_id if isinstance(when, Event) else None
    allowed = frozenset(map(_table, allow))
    return AsOf(target, point, value, allowed, tracking, written_in)


def point_in_time(given: Any, is_transaction: bool) -> tuple[PointInTime, str]:
    """Return a point in time, and its value as the text that the setting takes."""
    if is_transaction and is_number(given):
        return PointInTime.TRANSACTION, str(int(given))
    if isinstance(given, Event) and not is_transaction:
        return PointInTime.EVENT, str(given.pgh_id)
    if not isinstance(given, datetime.datetime) or is_transaction:
        raise PastError(
            "as_of takes a datetime, an event, or transaction= with a number, got "
            f"{given!r}, which says no point in time; make a datetime with a time zone"
        )
    if given.tzinfo is None:
        raise PastError(
            f"as_of got {given!r}, which is another moment in each time zone; give it "
            "one, such as tzinfo=datetime.timezone.utc"
        )
    return PointInTime.TIME, given.isoformat()


def _table(allowed: Any) -> Table:
    if isinstance(allowed, Table):
        return allowed
    try:
        mapped = inspect(allowed).local_table
    except (NoInspectionAvailable, AttributeError):
        mapped = None
    if not isinstance(mapped, Table):
        raise PastError(f"allow takes mapped classes and tables, got {allowed!r}")
    return mapped


class AsOf:
    """The block that :func:`as_of` returns.

    :param point: the event column that decides which events are seen.
    :param value: the point in time, as the text of the setting.
    :param allowed: the tables that are read as they are now.
    :param tracking: the tracking of the event that is the point in time, if one is.
    :param written_in: the number of the transaction that wrote this event.
    """

    def __init__(
        self,
        target: Any,
        point: PointInTime,
        value: str,
        allowed: frozenset[Table],
        tracking: Tracking | None,
        written_in: int | None,
    ) -> None:
        self.target = target
        self._point = point
        self._value = value
        self._allowed = allowed
        self._tracking = tracking
        self._written_in = written_in
        self._is_unseen = False
        self._session: Any = None
        self._known: dict[Connection, dict[Tracking, Horizon | None]] = {}

    def __enter__(self) -> Session:
        source = _source_of(self.target)
        if is_async(self.target):
            raise PastError(f"as_of got {self.target!r}; write 'async with' for it")
        session = self._session = _PastSession(block=self, source=source)
        session.open()
        return session

    def __exit__(self, *_: object) -> None:
        self._session.close_databases()

    async def __aenter__(self) -> AsyncSession:
        source = _source_of(self.target)
        if not is_async(self.target):
            raise PastError(f"as_of got {self.target!r}; write 'with' for it")
        # Imported here, as it needs greenlet. An async target has loaded it already.
        from sqlalchemy.ext.asyncio import AsyncSession

        session = self._session = AsyncSession(
            sync_session_class=_PastSession, block=self, source=source
        )
        await self._session.run_sync(_PastSession.open)
        return session

    async def __aexit__(self, *_: object) -> None:
        await self._session.run_sync(_PastSession.close_databases)

    if TYPE_CHECKING:
        pass  # to type checkers, a block has no other attributes
    else:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"as_of gives a session within its block, and has no {name!r} itself; "
                "write: with history.as_of(...) as past: past.scalars(...)"
            )

    def home_in(self, session: Session) -> Engine | None:
        """Return the only database that has the point in time, None for a time."""
        if self._point is PointInTime.TIME:
            return None
        if self._tracking is not None:
            return database_of(session, written_by(self._tracking))
        return database_of(session, {"clause": update(_ANY_TABLE)})

    def prepare(self, connection: Connection) -> None:
        """Let a connection read tables as of the point in time."""
        require_postgresql(connection, "history.as_of")
        # All statements read one snapshot.
        connection.execution_options(isolation_level="REPEATABLE READ")
        connection.dialect = self._dialect_for(connection)
        event.listen(connection, "before_cursor_execute", self._require_events)

    def _require_events(
        self, connection: Connection, *arguments: Any, **__: Any
    ) -> None:
        """Refuse a statement that reads rows whose events were removed.

        :raises EventsRemovedError: names the table, and until when.
        :raises PastError: the event that is the point in time is not committed.
        """
        if self._is_unseen:
            raise PastError(
                f"as_of got an event of transaction {self._written_in}, which has not "
                "ended, so that the session of the past would not see it; commit first"
            )
        read = getattr(arguments[3].compiled, "partitioned", ())
        if not read:
            return
        # What is known in a transaction stays so: nothing is detached that it reads.
        known = self._known[connection]
        for tracking in read:
            if tracking not in known:
                known[tracking] = read_horizon(connection, tracking)
                if not connection.scalar(has_left_keys(tracking)):
                    compiler: Any = connection.dialect.statement_compiler
                    connection.dialect = self._dialect_for(
                        connection, compiler.keys_stayed | {tracking}
                    )
            horizon = known[tracking]
            if horizon is not None and not self._is_known_after(horizon):
                raise EventsRemovedError(_removed(tracking, horizon))

    def _is_known_after(self, horizon: Horizon) -> bool:
        """Return True if the rows of the point in time are known."""
        if not horizon.keeps_last:
            return False
        if self._point is PointInTime.TIME:
            return datetime.datetime.fromisoformat(self._value) >= horizon.until
        if self._point is PointInTime.TRANSACTION:
            return int(self._value) >= horizon.transaction
        return int(self._value) >= horizon.first_id

    def _dialect_for(
        self, connection: Connection, keys_stayed: frozenset[Tracking] = frozenset()
    ) -> Dialect:
        return _dialect_for(connection, self._point, self._allowed, keys_stayed)

    def set_point(self, connection: Connection) -> None:
        """Set the point in time for the transaction of a connection."""
        # Since the one before, keys may have changed, and partitions may have gone.
        self._known[connection] = {}
        self._is_unseen = False
        connection.dialect = self._dialect_for(connection)
        set_point = select(
            func.set_config(AS_OF, self._value, True),
            func.set_config(*READ_ONLY, True),
            func.current_setting(CITUS_MARK, True),
            _is_in_progress(self._written_in),
        )
        _, _, has_citus, is_in_progress = connection.execute(set_point).one()
        self._is_unseen = is_in_progress
        if has_citus:
            # Only so Citus tells the nodes that have the rows. The compiler of the past
            # takes no text.
            for name, value in ((CITUS_SETTING, "local"), (AS_OF, self._value)):
                cursor = connection.connection.cursor()
                cursor.execute(f"SET LOCAL {name} = {quote_literal(value)}")
                cursor.close()


def _is_in_progress(transaction: int | None) -> ColumnElement[bool]:
    """Return whether a transaction of this server has not ended.

    ``pg_xact_status`` is an error for numbers that this server has not come to, as
    those of events from another one may be. A replica knows nothing of it.
    """
    if transaction is None:
        return false()
    # The lock by which others wait for its end; it has the lower 32 bits.
    locks = func.pg_lock_status().table_valued("locktype", "transactionid")
    number = sql_cast(locks.c.transactionid, Text)
    return exists().where(
        locks.c.locktype == "transactionid", number == str(transaction % (1 << 32))
    )


class _PastSession(Session):
    """The session of a block, with a connection to each database that is read.

    :param block: the block.
    :param source: the session that is asked in which database a table is.
    :param options: the arguments that ``AsyncSession`` gives.
    """

    def __init__(self, *, block: AsOf, source: Session, **options: Any) -> None:
        super().__init__(autoflush=False, info={ASKED: source}, **options)
        self._block = block
        self._source = source
        self._home: Engine | None = None
        self._opened: dict[Any, Connection] = {}
        self.schemas: dict[Any, _Schemas] = {}
        self._closing = ExitStack()
        event.listen(self, "after_begin", self._begun)

    def open(self) -> None:
        """Connect to the database, or find out whose numbers the point in time has."""
        self.schemas |= _schemas_of(sync_side(self._block.target))
        if not may_have_several(self._source):
            self.get_bind()
            return
        try:
            self._home = self._block.home_in(self)
        except UnboundExecutionError as error:
            raise self._unknown() from error

    def close_databases(self) -> None:
        """Close the session and all its connections."""
        with self._closing:
            self.close()

    def get_bind(
        self, mapper: Any = None, *, clause: Any = None, bind: Any = None, **_: Any
    ) -> Any:
        """Return the connection to the database that has the rows of a class."""
        if bind is not None:
            return bind
        asked = {"mapper": mapper, "clause": clause}
        asked = {name: value for name, value in asked.items() if value is not None}
        try:
            database = self._database_of(asked)
            if database.pool not in self._opened:
                bind = self._source.get_bind(**asked)
                self._opened[database.pool] = self._connect(bind)
        except UnboundExecutionError as error:
            raise self._unknown() from error
        return self._opened[database.pool]

    def _unknown(self) -> PastError:
        return PastError(
            f"as_of cannot tell the database of {self._block.target!r}, since it has "
            "several or none; give it an engine"
        )

    def _schemas_in(self, pool: Any) -> _Schemas:
        return self.schemas.get(pool, _Schemas(None, None))

    def _begun(
        self, _: Session, __: SessionTransaction, connection: Connection
    ) -> None:
        self._block.set_point(connection)
        path = self._schemas_in(connection.engine.pool).search_path
        if path is not None:
            set_path = func.set_config("search_path", path, True)
            connection.execute(select(set_path))

    def _database_of(self, asked: Mapping[str, Any]) -> Engine:
        if not may_have_several(self._source):
            return self._source.get_bind().engine
        read = _first_table(**asked)
        database = database_of(self, {**asked, "clause": update(read)})
        if self._home is not None and not is_same_database(database, self._home):
            raise PastError(
                f"{read.name!r} is in another database, in which events and "
                "transactions have other numbers; give as_of a datetime, or the "
                "engine of that database"
            )
        return database

    def _connect(self, bind: Engine | Connection) -> Connection:
        pool = bind.engine.pool
        if pool not in self.schemas and isinstance(bind, Connection):
            self.schemas[pool] = _schemas_on(bind)
        # SQLAlchemy 2.1 has options of sessions, which go before those of connections.
        options = getattr(self._source, "execution_options", {})
        translate = options.get(TRANSLATE) or self._schemas_in(pool).translate
        with ExitStack() as stack:
            connection = stack.enter_context(bind.engine.connect())
            self._block.prepare(connection)
            if translate is not None:
                connection.execution_options(**{TRANSLATE: translate})
            self._closing.push(stack.pop_all())
        return connection


@dataclass(frozen=True)
class _Schemas:
    """The schemas in which a connection finds tables.

    :param translate: its ``schema_translate_map``, None without one.
    :param search_path: its ``search_path``; None for that of new connections.
    """

    translate: Mapping[str | None, str | None] | None
    search_path: str | None


def _schemas_of(target: Any) -> dict[Any, _Schemas]:
    """Return the schemas of the open connections of a target, by their pool.

    :param target: a session, a connection or anything else, which has none.
    """
    if isinstance(target, _PastSession):
        return target.schemas
    if isinstance(target, Connection):
        return {target.engine.pool: _schemas_on(target)}
    transaction: Any = target.get_transaction() if isinstance(target, Session) else None
    # SQLAlchemy 2.0 keeps them under a private name only.
    entries = [] if transaction is None else transaction._connections.values()
    connections = {entry[0] for entry in entries}
    return {c.engine.pool: _schemas_on(c) for c in connections}


def _schemas_on(connection: Connection) -> _Schemas:
    """Return the schemas of a connection.

    :raises PastError: its transaction has failed, so that it cannot be asked.
    """
    translate = connection.get_execution_options().get(TRANSLATE)
    is_gone = connection.closed or connection.invalidated
    if is_gone or connection.dialect.name != "postgresql":
        return _Schemas(translate, None)
    path = select(func.current_setting("search_path"))
    try:
        with nullcontext() if connection.in_transaction() else connection.begin():
            return _Schemas(translate, connection.scalar(path))
    except DBAPIError as error:
        raise PastError(
            f"as_of cannot ask {connection!r} for its search_path; roll back first"
        ) from error


_ANY_TABLE = table("any_table")
"""A table that no session knows, to ask for the database that it has by default."""


def _first_table(mapper: Any = None, clause: Any = None) -> Any:
    """Return the table that a mapper or else a clause is about, as far as is known."""
    read = clause if mapper is None else mapper.local_table
    return next(tables_in(read), _ANY_TABLE)


def _source_of(target: Any) -> Session:
    """Return a session that knows the databases of a target."""
    target = unscoped(target)
    session = sync_side(target)
    if isinstance(session, Session):
        source: Session = session.info.get(ASKED, session)
        return source
    # An engine has the attribute, too, and is its own engine.
    engine = target if is_async_engine(target) else getattr(target, "engine", None)
    if engine is None:
        raise PastError(
            f"as_of takes a session, a connection or an engine, got {target!r}"
        )
    return Session(getattr(engine, "sync_engine", engine))


def _dialect_for(
    connection: Connection,
    point: PointInTime,
    allowed: frozenset[Table],
    keys_stayed: frozenset[Tracking],
) -> Dialect:
    """Return a copy of the engine's dialect, with a compiler of rows as of then.

    It is kept with the engine's dialect, as SQLAlchemy caches compiled statements by
    dialect.

    :param keys_stayed: the trackings of whose rows none is known to have got another
        key, as far as the transaction sees.
    """
    of_engine = connection.engine.dialect
    known = vars(of_engine).setdefault(DIALECTS, {})
    key = (point, allowed, keys_stayed)
    dialect = known.get(key)
    if dialect is None:
        dialect = known[key] = copy.copy(of_engine)
        options = {"point": point, "allowed": allowed, "keys_stayed": keys_stayed}
        compiler = dialect.statement_compiler
        dialect.statement_compiler = type(
            "AsOfCompiler", (AsOfCompiler, compiler), options
        )
        dialect.ddl_compiler = type("NoDDL", (NoDDL, dialect.ddl_compiler), {})
        context: Any = dialect.execution_ctx_cls
        dialect.execution_ctx_cls = type("NoText", (NoText, context), {})
    return dialect  # type: ignore[no-any-return]


def _removed(tracking: Tracking, horizon: Horizon) -> str:
    name = tracking.table.name
    if not horizon.keeps_last:
        return (
            f"events of {name!r} until {horizon.until} were removed, and the last ones "
            "of its rows with them, so what rows there were is not known; give "
            f"as_of(..., allow=[...]) to see it as it is now{horizon.archive_hint}"
        )
    return (
        f"the events of {name!r} until {horizon.until} (transaction "
        f"{horizon.transaction}) were removed; give as_of a later moment, or "
        f"allow=[...] to see it as it is now{horizon.archive_hint}"
    )
