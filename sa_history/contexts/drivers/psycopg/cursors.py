# Made of cursors_async.py by tools/async_to_sync.py: change that file, and run it.
"""Cursors of psycopg that send the context on the way, for no network round trip.

If a transaction begins, psycopg sends BEGIN by itself before a statement, and the
settings go in its message. Inside of a transaction they go in one pipeline with the
statement.
https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.errors import InvalidTextRepresentation
from psycopg.rows import tuple_row

from sa_history.contexts.connection_state import ConnectionState, Settings
from sa_history.contexts.drivers.psycopg.cursors_base import (
    REFUSE_COMPANY,
    ContextMixin,
    Plan,
    begin_with,
    sends_begin,
    set_within,
    warn_if_it_may_write,
)
from sa_history.contexts.drivers.psycopg.pipeline import (
    close_if_in_pipeline,
    end_with_sync,
)
from sa_history.sql.session_settings import (
    ASK_CITUS,
    SET_CONFIG,
    SET_CONFIG_UNLESS_CITUS,
)

# psycopg's methods have many forms; what they are given is passed on as it is.
# mypy: disable-error-code="override"


def set_config(
    connection: Any, state: ConnectionState, settings: Settings, alone: bool = False
) -> Any:
    """Send settings to a connection, as a statement or with BEGIN.

    :param connection: psycopg's connection.
    :param state: its state; :meth:`ConnectionState.own_cursor` is in force.
    :param alone: whether the pipeline is a transaction by itself, which fails if it
        turns out that the server has Citus.
    :return: the cursor that will have the answer whether the server has Citus, once the
        pipeline has ended; None if that is not asked.
    """
    if sends_begin(connection):
        _begin(connection, state, settings)
        return None
    if state.may_be_single_row and connection.pgconn.pipeline_status:
        # libpq ends the mode when it sends anything outside of a pipeline, but in
        # one only after the first answer. Let that be the answer to a Sync.
        with connection.pipeline():
            pass
    state.may_be_single_row = False
    # By a plain cursor: the application's own may do anything with rows.
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    if state.on_citus is False:
        cursor.execute(SET_CONFIG, settings)
        return None
    if alone:
        cursor.execute(SET_CONFIG_UNLESS_CITUS, settings)
        return None
    asks = state.on_citus is None and connection.pgconn.pipeline_status
    if asks:
        cursor.execute(f"SELECT {ASK_CITUS}")
    with connection.lock:
        connection.wait(set_within(connection, state, settings))
    return cursor if asks else None


def _learn(state: ConnectionState, asked: Any) -> None:
    if asked is not None:
        (mode,) = asked.fetchone()
        state.on_citus = bool(mode)


def _begin(connection: Any, state: ConnectionState, settings: Settings) -> None:
    with connection.lock:
        connection.wait(begin_with(connection, state, settings))


class ContextCursor(ContextMixin, psycopg.Cursor[Any]):
    """A cursor that sends the current settings first."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Execute a query, in the current context."""
        state = self.connection_state
        state.in_own_cursor = True
        try:
            if state.has_nothing_to_send():
                if not options:  # a call without them is faster
                    return self.base_cursor.execute(self, query, params)
                return self.base_cursor.execute(self, query, params, **options)
            return self._execute_in_context(query, params, options)
        finally:
            state.in_own_cursor = False

    def _execute_in_context(
        self, query: Any, params: Any, options: dict[str, Any]
    ) -> Any:
        alone = self._is_autocommit_statement()
        plan, settings = self._sending_plan(query, params)
        try:
            match plan:
                case Plan.PLAIN:
                    self.base_cursor.execute(self, query, params, **options)
                case Plan.WITH_BEGIN:
                    _begin(self.connection, self.connection_state, settings)
                    self.connection_state.mark_sent(settings)
                    self.base_cursor.execute(self, query, params, **options)
                # Citus passes settings on in a transaction, not in a pipeline alone.
                case Plan.PIPELINE if not (alone and self.connection_state.on_citus):
                    self._execute_in_pipeline(settings, query, params, options)
                case _:  # Plan.SEPARATE, or autocommit on Citus
                    with self._separately(settings):
                        self.base_cursor.execute(self, query, params, **options)
        except REFUSE_COMPANY as error:
            if not alone or plan is Plan.PLAIN:
                self.connection_state.invalidate()
                raise
            warn_if_it_may_write(error)
            self.base_cursor.execute(self, query, params, **options)
        except InvalidTextRepresentation:
            if not (alone and plan is Plan.PIPELINE and self._was_stopped_by_citus()):
                self.connection_state.invalidate()
                raise
            with self._separately(settings):
                self.base_cursor.execute(self, query, params, **options)
        except BaseException:
            self.connection_state.invalidate()
            raise
        self._invalidate_after(query, params)
        return self

    def _was_stopped_by_citus(self) -> bool:
        """Return True if SET_CONFIG_UNLESS_CITUS has failed, and nothing is done."""
        state = self.connection_state
        if state.on_citus is None:
            cursor = psycopg.Cursor(self.connection, row_factory=tuple_row)
            _learn(state, cursor.execute(f"SELECT {ASK_CITUS}"))
            return bool(state.on_citus)
        return False

    def _execute_in_pipeline(
        self, settings: Settings, query: Any, params: Any, options: dict[str, Any]
    ) -> None:
        alone = self._is_autocommit_statement()
        with (
            close_if_in_pipeline(self.connection),
            self.connection.pipeline() as pipeline,
        ):
            end_with_sync(pipeline)
            asked = set_config(self.connection, self.connection_state, settings, alone)
            self.base_cursor.execute(self, query, params, **options)
        _learn(self.connection_state, asked)
        if alone:
            self.connection_state.on_citus = False
        else:
            self.connection_state.mark_sent(settings)

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Execute a query for each set of parameters, in the current context."""
        settings = self._pending_settings()
        self.connection_state.in_own_cursor = True
        try:
            # psycopg makes a pipeline for executemany by itself.
            with close_if_in_pipeline(self.connection):
                if settings is None:
                    super().executemany(query, params_seq, **options)
                elif (
                    psycopg.Pipeline.is_supported()
                    and not self._is_autocommit_statement()
                ):
                    with self.connection.pipeline() as pipeline:
                        end_with_sync(pipeline)
                        asked = set_config(
                            self.connection, self.connection_state, settings
                        )
                        super().executemany(query, params_seq, **options)
                    _learn(self.connection_state, asked)
                    self.connection_state.mark_sent(settings)
                else:
                    with self._separately(settings):
                        super().executemany(query, params_seq, **options)
        except BaseException:
            self.connection_state.invalidate()
            raise
        finally:
            self.connection_state.in_own_cursor = False

    def stream(self, query: Any, params: Any = None, **options: Any) -> Iterator[Any]:
        """Stream the rows of a query, in the current context."""
        with (
            self.connection_state.own_cursor(),
            self._separately(self._pending_settings()),
        ):
            self.connection_state.may_be_single_row = True
            yield from super().stream(query, params, **options)

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **options: Any) -> Iterator[Any]:
        """Begin a COPY, in the current context."""
        with (
            self.connection_state.own_cursor(),
            self._separately(self._pending_settings()),
            super().copy(statement, params, **options) as copy,
        ):
            yield copy

    @contextmanager
    def _separately(self, settings: Settings | None) -> Iterator[None]:
        """Send settings as a statement of their own, in the transaction of the block.

        :param settings: None for none to send.
        """
        if settings is None:
            yield
        elif self._is_autocommit_statement():
            with self.connection.transaction():
                set_config(self.connection, self.connection_state, settings)
                yield
        else:
            set_config(self.connection, self.connection_state, settings)
            self.connection_state.mark_sent(settings)
            yield


class ContextServerCursor(ContextMixin, psycopg.ServerCursor[Any]):
    """A server-side cursor that sends the current settings first."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Declare the cursor, in the current context."""
        settings = self._pending_settings()
        with self.connection_state.own_cursor():
            if settings is not None and not self._is_autocommit_statement():
                set_config(self.connection, self.connection_state, settings)
                self.connection_state.mark_sent(settings)
            return self.base_cursor.execute(self, query, params, **options)
