"""What cursors that send settings have in common, sync or async; it does no I/O."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg.errors import (
    ActiveSqlTransaction,
    InvalidTransactionTermination,
    error_from_result,
)
from psycopg.generators import execute
from psycopg.pq import ExecStatus, TransactionStatus

from sa_history.contexts.connection_state import NO_SETTINGS, ConnectionState, Settings
from sa_history.contexts.drivers.statements import is_one_statement, needs_no_settings
from sa_history.sql.session_settings import (
    ASK_CITUS,
    begin,
    set_local,
    set_local_on_citus,
)

_CLIENT_CURSORS = (psycopg.ClientCursor, psycopg.AsyncClientCursor)

REFUSE_COMPANY = (ActiveSqlTransaction, InvalidTransactionTermination)
"""The errors of VACUUM, and of a procedure that commits, in company of our statement.

They have done nothing then, and can be executed alone.
"""


class Plan(enum.Enum):
    """How a statement is executed, and the settings are sent."""

    PLAIN = "there are no settings to send"
    WITH_BEGIN = "the settings are in the message of BEGIN, which comes first"
    PIPELINE = "the settings and the statement are in one pipeline"
    SEPARATE = "the settings are a statement of their own, which comes first"


class ContextMixin:
    """The attributes of a cursor class, and what it decides before and after."""

    connection_state: ConnectionState
    base_cursor: type[Any]
    """psycopg's class or the application's, named as super() takes long to find it."""
    connection: Any
    statusmessage: Any

    def _pending_settings(self, query: Any = None) -> Settings | None:
        """Return the settings to send now, or None for none; they are being sent."""
        status = self.connection.pgconn.transaction_status
        settings = self.connection_state.pending(status)
        if settings is None or needs_no_settings(query):
            return None
        self.connection_state.mark_sending()
        return settings

    def _sending_plan(self, query: Any, params: Any) -> tuple[Plan, Settings]:
        """Return how to execute a statement, and with which settings."""
        settings = self._pending_settings(query)
        if settings is None:
            return Plan.PLAIN, NO_SETTINGS
        if sends_begin(self.connection):
            return Plan.WITH_BEGIN, settings
        if self._is_single_statement(query, params) and psycopg.Pipeline.is_supported():
            return Plan.PIPELINE, settings
        return Plan.SEPARATE, settings

    def _invalidate_after(self, query: Any, params: Any) -> None:
        """Invalidate the state if a statement may have changed the settings.

        ROLLBACK TO SAVEPOINT takes them back, as RESET ALL does; COMMIT AND CHAIN
        begins anew. Citus forgets after RELEASE what was set since the savepoint, and
        tells nodes that are reached later nothing of it. Of a script, and in a pipeline
        of the application, the command tags are not known.
        """
        if self.connection_state.has_sent and (
            self.statusmessage in ("COMMIT", "ROLLBACK", "RESET")
            or (self.statusmessage == "RELEASE" and self.connection_state.on_citus)
            or self.connection.pgconn.pipeline_status
            or not self._is_single_statement(query, params)
        ):
            self.connection_state.invalidate()

    def _is_autocommit_statement(self) -> bool:
        """Return True if the next statement is a transaction of its own."""
        connection = self.connection
        if not connection.autocommit:
            return False
        return bool(connection.pgconn.transaction_status == TransactionStatus.IDLE)

    def _is_single_statement(self, query: Any, params: Any) -> bool:
        """Return True if a query can be in a pipeline, one statement a message."""
        # With parameters it has to be one anyway, unless they are put into its text.
        if params and not isinstance(self, _CLIENT_CURSORS):
            return True
        return is_one_statement(query)


def warn_if_it_may_write(error: psycopg.Error) -> None:
    """Warn of a procedure that commits, and so loses the settings.

    :param error: one of :data:`REFUSE_COMPANY`.
    """
    if isinstance(error, InvalidTransactionTermination):
        warnings.warn(
            "the context in force is not recorded, and nothing is ignored, for a "
            "procedure that commits: its COMMIT ends the transaction that has them",
            stacklevel=2,
        )


def sends_begin(connection: Any) -> bool:
    """Return True if psycopg would send BEGIN, and wait for it, before a statement.

    :param connection: psycopg's connection, sync or async.
    """
    pgconn = connection.pgconn
    return (
        pgconn.transaction_status == TransactionStatus.IDLE
        and not connection.autocommit
        and not pgconn.pipeline_status
    )


def begin_with(
    connection: Any, state: ConnectionState, settings: Settings, asks: bool = True
) -> Generator[Any, Any, None]:
    """Send BEGIN and the settings as one message, and wait for the answers.

    The first time, the message asks whether the server has Citus, where the settings
    follow in a message of their own.

    :param connection: psycopg's connection, sync or async, which runs the generator.
    :param state: its state.
    :param asks: False if what follows may have to come before any query, as SET
        TRANSACTION has to. Unless it is known, the message has what Citus needs then.
    """
    mode = (
        connection.isolation_level and connection.isolation_level.name,
        connection.read_only,
        connection.deferrable,
    )
    if state.on_citus is False:
        yield from _execute_script(connection, begin(*mode, settings))
        return
    if state.on_citus is None and not asks:
        statements = [begin(*mode), *set_local_on_citus(settings, are_empty=True)]
        yield from _execute_script(connection, "; ".join(statements))
        return
    if state.on_citus is None:
        script = f"{begin(*mode, settings)}; SELECT {ASK_CITUS}"
        answer = yield from _execute_script(connection, script)
        state.on_citus = bool(answer.get_value(0, 0))
        if not state.on_citus:
            return
        # Nothing was done in it, and Citus would send the message with BEGIN to nodes
        # that have begun.
        yield from _execute_script(connection, "ROLLBACK")
    yield from _execute_script(connection, begin(*mode))
    yield from set_within(connection, state, settings, are_empty=True)


def set_within(
    connection: Any,
    state: ConnectionState,
    settings: Settings,
    are_empty: bool = False,
) -> Generator[Any, Any, None]:
    """Send settings in a transaction, or in its pipeline, by statements without rows.

    They may come before any statement, also before SET TRANSACTION and LOCK.

    :param connection: psycopg's connection, sync or async, which runs the generator.
    :param state: its state. Unless the server is known to have no Citus, it is sent
        what Citus needs, since a question would be a query.
    :param are_empty: whether the settings are empty, as the transaction begins.
    """
    is_plain = state.on_citus is False
    statements = (
        set_local(settings) if is_plain else set_local_on_citus(settings, are_empty)
    )
    if connection.pgconn.pipeline_status:
        for statement in statements:
            yield from connection._exec_command(statement)
    else:
        yield from _execute_script(connection, "; ".join(statements))


def _execute_script(connection: Any, script: str) -> Generator[Any, Any, Any]:
    """Execute one message, and return its last result."""
    connection.pgconn.send_query(script.encode("ascii"))
    results = yield from execute(connection.pgconn)
    if results[-1].status == ExecStatus.FATAL_ERROR:
        raise error_from_result(results[-1], connection.info.encoding)
    return results[-1]
