"""What sa_history does on every PostgreSQL connection of the process.

The listeners are for the whole process, because a context without a target names no
engine, and because a session meets its connections by itself. Importing sa_history
registers them, so that no transaction is missed; connections to other databases are
left alone. None is one that each statement of each engine would have to pay for:
psycopg's cursors tell by themselves. The dialects of other drivers are listened to for
the first statement of a connection, and the connection from then on.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import Dialect, ExecutionContext
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

from sa_history.contexts.connection_state import Settings, wire_in
from sa_history.contexts.psycopg_connection import give_cursors
from sa_history.contexts.psycopg_cursors import must_come_first
from sa_history.exc import refusal_for
from sa_history.sql.session_settings import SETTING_NAMES


@event.listens_for(Pool, "checkout")
def _check_out(_: Any, record: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
    # Not in "begin": a Connection makes the cursor of its first statement before.
    give_cursors(record.driver_connection, record.info)


@event.listens_for(Pool, "invalidate")
@event.listens_for(Pool, "detach")
def _leave(_: Any, record: ConnectionPoolEntry, *__: Any) -> None:
    wire_in(record.info).may_lose_its_user()


@event.listens_for(Pool, "connect")
def _connect(_: Any, record: ConnectionPoolEntry) -> None:
    if not isinstance(record.driver_connection, _TELLS_BY_ITSELF):
        _listen_to_others()  # to a dialect that was not imported before


_TELLS_BY_ITSELF = (psycopg.Connection, psycopg.AsyncConnection)


def _first_statement(
    cursor: Any, statement: str, _: Any, context: ExecutionContext
) -> None:
    _tell_first(cursor, statement, context)


# Of two threads that connect at first one registers. If the second did too, a statement
# of the first could fail, as it goes through what changes.
_registering = threading.Lock()


def _listen_to_others() -> None:
    """Listen to the dialects of all drivers but psycopg."""
    with _registering:
        for dialect in _dialects_of_others(PGDialect):
            if not event.contains(dialect, "do_execute", _first_statement):
                event.listen(dialect, "do_execute", _first_statement)
                event.listen(dialect, "do_executemany", _first_statement)
                event.listen(dialect, "do_execute_no_params", _tell_first)


def _dialects_of_others(cls: type[Dialect]) -> Iterator[type[Dialect]]:
    """Yield the classes below, and none of psycopg's or that those derive from."""
    for dialect in cls.__subclasses__():
        if not issubclass(PGDialect_psycopg, dialect):
            yield dialect
        elif dialect is not PGDialect_psycopg:
            yield from _dialects_of_others(dialect)


def _tell_first(cursor: Any, statement: str, context: ExecutionContext) -> None:
    connection = context.root_connection
    if (
        connection.dialect.name != "postgresql"
        or not connection.in_transaction()  # SQLAlchemy asks what server it is
        or event.contains(connection, "before_cursor_execute", _tell)
    ):
        return
    wire = wire_in(connection.info)
    wire.belongs_to(connection)
    wire.forget()
    _tell_by_events(connection)
    _tell(connection, cursor, statement)


_listen_to_others()


def _begin(connection: Connection) -> None:
    wire_in(connection.info).begin(connection)


def _begin_twophase(connection: Connection, xid: Any) -> None:
    _begin(connection)


def _prepare(connection: Connection, xid: Any) -> None:
    _tell_before_the_end(connection)


def _commit_twophase(connection: Connection, xid: Any, is_prepared: bool) -> None:
    if not is_prepared:
        _tell_before_the_end(connection)


@event.listens_for(Session, "after_begin")
def _session_begins(
    session: Session, transaction: SessionTransaction, connection: Connection
) -> None:
    if connection.dialect.name == "postgresql":
        wire_in(connection.info).used_by(session)


@event.listens_for(Engine, "handle_error", retval=True)
def _as_refusal(error: ExceptionContext) -> BaseException | None:
    if error.dialect.name != "postgresql":
        return None
    original: Any = error.original_exception
    sqlstate = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if sqlstate and error.connection is not None and not error.is_disconnect:
        wire_in(error.connection.info).failed = True
    refusal = refusal_for(sqlstate)
    if refusal is None:
        return None
    return refusal(
        error.statement,
        error.parameters,
        original,
        hide_parameters=bool(error.engine and error.engine.hide_parameters),
    )


def _tell_by_events(connection: Connection) -> None:
    """Have a connection of another driver than psycopg tell the context.

    It costs a round trip more in each transaction that has one.
    """
    event.listen(connection, "begin", _begin)
    event.listen(connection, "begin_twophase", _begin_twophase)
    event.listen(connection, "prepare_twophase", _prepare)
    event.listen(connection, "commit_twophase", _commit_twophase)
    event.listen(connection, "before_cursor_execute", _tell)
    event.listen(connection, "commit", _tell_before_the_end)
    event.listen(connection, "after_cursor_execute", _executed)
    event.listen(connection, "rollback_savepoint", _rolled_back)


def _tell(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
    if must_come_first(statement):
        return
    wire = wire_in(connection.info)
    if _is_autocommit(connection):
        for in_force, lost in (
            (wire.in_force() is not None, "the context in force is not recorded"),
            (wire.ignores(), "triggers that are ignored run all the same"),
        ):
            if in_force:
                warnings.warn(
                    f"{lost}: in AUTOCOMMIT only the psycopg driver can send it "
                    "together with the statement",
                    stacklevel=2,
                )
        return
    in_error = wire.failed  # and only a rollback to a savepoint helps
    news = wire.news(
        TransactionStatus.INERROR if in_error else TransactionStatus.INTRANS
    )
    if news is None:
        return
    wire.telling()
    wire.told(news)  # first: the next line comes here again
    _set_config(connection, news)


def _set_config(connection: Connection, news: Settings) -> None:
    settings = zip(SETTING_NAMES, news, strict=True)
    connection.execute(
        select(*(func.set_config(name, value, True) for name, value in settings)),
        execution_options={"stream_results": False},  # or nothing would be executed
    )


def _tell_before_the_end(connection: Connection) -> None:
    """Tell what is ignored now."""
    if _is_autocommit(connection):
        return
    wire = wire_in(connection.info)
    status = TransactionStatus.INERROR if wire.failed else TransactionStatus.INTRANS
    news = wire.last_news(status)
    if news is not None:
        wire.told(news)
        _set_config(connection, news)


def _is_autocommit(connection: Connection) -> bool:
    dbapi_connection = connection.connection.dbapi_connection
    return bool(getattr(dbapi_connection, "autocommit", False))


def _executed(
    connection: Connection, cursor: Any, _: str, __: Any, context: Any, ___: bool
) -> None:
    wire = wire_in(connection.info)
    # It may have been a rollback to a savepoint, by text; not all drivers give the
    # command tag. In a failed transaction it can have been nothing else.
    by_text = context.compiled is None or context.is_text
    if wire.failed or (by_text and not cursor.description and cursor.rowcount < 0):
        wire.unsure()
    wire.failed = False


def _rolled_back(connection: Connection, name: str, _: None) -> None:
    wire_in(connection.info).unsure()
