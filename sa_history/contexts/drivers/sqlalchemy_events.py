"""Drivers other than psycopg: settings are sent by events of SQLAlchemy.

None of the listeners is one that each statement of each engine would have to pay for.
The dialects of these drivers are listened to for the first statement of a connection,
and the connection from then on. Sending costs one round trip more in each transaction
that has a context, and after each rollback to a savepoint and each error in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, event, func, select
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine.interfaces import Dialect, ExecutionContext
from sqlalchemy.exc import DBAPIError

from sa_history.contexts.connection_state import (
    ConnectionState,
    Settings,
    TransactionStatus,
    existing_state,
    state_of,
)
from sa_history.contexts.drivers.base import Driver, warn_of_loss
from sa_history.contexts.drivers.statements import (
    may_take_settings_back,
    needs_no_settings,
    releases_savepoint,
)
from sa_history.sql.session_settings import (
    CITUS_MARK,
    SETTING_NAMES,
    set_local_on_citus,
)
from sa_history.util.postgresql import sqlstate_of

_SENDS_SETTINGS = "sa_history_sends_settings"
"""The execution option of the statement that sends settings."""

_IN_FAILED_TRANSACTION = "25P02"


class EventsDriver(Driver):
    """Sends settings by events of SQLAlchemy, for any driver.

    :param excluded: the dialects of drivers that have means of their own.
    """

    def __init__(self, excluded: Sequence[type[Dialect]]) -> None:
        self._excluded = tuple(excluded)
        # Of two threads that connect at first one registers. If the second did too, a
        # statement of the first could fail, as it goes through what changes.
        self._registering = threading.Lock()

    def connected(self) -> None:
        """Listen to a dialect that was not imported before."""
        self.listen()

    def checked_out(self, connection: Any, info: dict[Any, Any]) -> None:
        """Forget the last user of a connection."""
        state = existing_state(info)
        if state is not None:
            state.check_in()

    def listen(self) -> None:
        """Listen to all dialects of PostgreSQL but the excluded ones, once."""
        with self._registering:
            for dialect in self._dialects_below(PGDialect):
                if not event.contains(dialect, "do_execute", _before_statement):
                    for name, listener in _DIALECT_LISTENERS.items():
                        event.listen(dialect, name, listener)

    def _dialects_below(self, cls: type[Dialect]) -> Iterator[type[Dialect]]:
        """Yield the subclasses, without the excluded ones and their base classes."""
        for dialect in cls.__subclasses__():
            if dialect in self._excluded:
                continue
            if any(issubclass(excluded, dialect) for excluded in self._excluded):
                yield from self._dialects_below(dialect)
            else:
                yield dialect


def _before_statement(
    cursor: Any, statement: str, _: Any, context: ExecutionContext
) -> None:
    _before_bare_statement(cursor, statement, context)


def _before_bare_statement(
    cursor: Any, statement: str, context: ExecutionContext
) -> None:
    """Listen to a connection from its first statement in a transaction."""
    connection = context.root_connection
    if (
        connection.dialect.name != "postgresql"
        or not connection.in_transaction()  # SQLAlchemy asks what server it is
        or event.contains(connection, "before_cursor_execute", _before_cursor_execute)
    ):
        return
    state = state_of(connection.info)
    state.bind(connection)
    state.reset()
    for name, listener in _CONNECTION_LISTENERS.items():
        event.listen(connection, name, listener)
    _before_cursor_execute(connection, cursor, statement, None, context)


def _begin(connection: Connection) -> None:
    state_of(connection.info).begin(connection)


def _begin_twophase(connection: Connection, xid: Any) -> None:
    _begin(connection)


def _prepare_twophase(connection: Connection, xid: Any) -> None:
    _before_commit(connection)


def _commit_twophase(connection: Connection, xid: Any, is_prepared: bool) -> None:
    if not is_prepared:
        _before_commit(connection)


def _before_cursor_execute(
    connection: Connection,
    cursor: Any,
    statement: str,
    _: Any,
    context: ExecutionContext,
    *__: Any,
) -> None:
    state = state_of(connection.info)
    if (
        state.has_nothing_to_send()
        or _SENDS_SETTINGS in context.execution_options
        or needs_no_settings(statement)
    ):
        return
    if _is_autocommit(connection):
        warn_of_loss(
            state,
            "in AUTOCOMMIT only the psycopg driver can send it together with the "
            "statement",
            stacklevel=2,
        )
        return
    settings = state.pending(TransactionStatus.INTRANS)
    if settings is not None:
        _send(connection, state, settings)


def _before_commit(connection: Connection) -> None:
    if _is_autocommit(connection):
        return
    state = state_of(connection.info)
    settings = state.pending_before_commit(TransactionStatus.INTRANS)
    if settings is not None:
        _send(connection, state, settings)


def _send(connection: Connection, state: ConnectionState, settings: Settings) -> None:
    are_empty = not state.has_sent and bool(state.on_citus)
    state.mark_sending()
    try:
        if not state.on_citus:
            _set_config(connection, state, settings)
        if state.on_citus:
            for statement in set_local_on_citus(settings, are_empty):
                connection.exec_driver_sql(
                    statement, execution_options={**_OPTIONS, "no_parameters": True}
                )
    except DBAPIError as error:
        # Not all drivers know of a failed transaction. What comes next says so itself,
        # unless it is the rollback that helps.
        if sqlstate_of(error.orig) != _IN_FAILED_TRANSACTION:
            raise
    else:
        state.mark_sent(settings)


_OPTIONS = {_SENDS_SETTINGS: True, "stream_results": False}
"""Those of what sends settings; of a stream nothing would be executed."""


def _set_config(
    connection: Connection, state: ConnectionState, settings: Settings
) -> None:
    """Send settings by a SELECT, which the first time asks whether there is Citus."""
    pairs = zip(SETTING_NAMES, settings, strict=True)
    columns = [func.set_config(name, value, True) for name, value in pairs]
    if state.on_citus is None:
        columns.append(func.current_setting(CITUS_MARK, True))
    row = connection.execute(select(*columns), execution_options=_OPTIONS).one()
    if state.on_citus is None:
        state.on_citus = bool(row[-1])


def _is_autocommit(connection: Connection) -> bool:
    dbapi_connection = connection.connection.dbapi_connection
    return bool(getattr(dbapi_connection, "autocommit", False))


def _after_cursor_execute(
    connection: Connection, cursor: Any, statement: str, *_: Any
) -> None:
    # By its text, since not all drivers give the command tag; and after it, since what
    # was sent before is taken back too.
    state = state_of(connection.info)
    if state.has_sent and (
        may_take_settings_back(statement)
        or (state.on_citus and releases_savepoint(statement))
    ):
        state.invalidate()


_DIALECT_LISTENERS: dict[str, Callable[..., None]] = {
    "do_execute": _before_statement,
    "do_executemany": _before_statement,
    "do_execute_no_params": _before_bare_statement,
}

_CONNECTION_LISTENERS: dict[str, Callable[..., None]] = {
    "begin": _begin,
    "begin_twophase": _begin_twophase,
    "prepare_twophase": _prepare_twophase,
    "commit_twophase": _commit_twophase,
    "before_cursor_execute": _before_cursor_execute,
    "commit": _before_commit,
    "after_cursor_execute": _after_cursor_execute,
}
