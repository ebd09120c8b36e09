"""Cursors of psycopg that send the context on the way, for no network round trip.

If a transaction begins, psycopg sends BEGIN by itself before a statement, and the
settings go in its message. Inside of a transaction they go in one pipeline with the
statement.
https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


async def set_config_async(
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
        await _begin_async(connection, state, settings)
        return None
    if state.may_be_single_row and connection.pgconn.pipeline_status:
        # libpq ends the mode when it sends anything outside of a pipeline, but in
        # one only after the first answer. Let that be the answer to a Sync.
        async with connection.pipeline():
            pass
    state.may_be_single_row = False
    # By a plain cursor: the application's own may do anything with rows.
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    if state.on_citus is False:
        await cursor.execute(SET_CONFIG, settings)
        return None
    if alone:
        await cursor.execute(SET_CONFIG_UNLESS_CITUS, settings)
        return None
    asks = state.on_citus is None and connection.pgconn.pipeline_status
    if asks:
        await cursor.execute(f"SELECT {ASK_CITUS}")
    async with connection.lock:
        await connection.wait(set_within(connection, state, settings))
    return cursor if asks else None


async def _learn_async(state: ConnectionState, asked: Any) -> None:
    if asked is not None:
        (mode,) = await asked.fetchone()
        state.on_citus = bool(mode)


async def _begin_async(
    connection: Any, state: ConnectionState, settings: Settings
) -> None:
    async with connection.lock:
        await connection.wait(begin_with(connection, state, settings))


class AsyncContextCursor(ContextMixin, psycopg.AsyncCursor[Any]):
    """A cursor that sends the current settings first."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Execute a query, in the current context."""
        state = self.connection_state
        state.in_own_cursor = True
        try:
            if state.has_nothing_to_send():
                if not options:  # a call without them is faster
                    return await self.base_cursor.execute(self, query, params)
                return await self.base_cursor.execute(self, query, params, **options)
            return await self._execute_in_context(query, params, options)
        finally:
            state.in_own_cursor = False

    async def _execute_in_context(
        self, query: Any, params: Any, options: dict[str, Any]
    ) -> Any:
        alone = self._is_autocommit_statement()
        plan, settings = self._sending_plan(query, params)
        try:
            match plan:
                case Plan.PLAIN:
                    await self.base_cursor.execute(self, query, params, **options)
                case Plan.WITH_BEGIN:
                    await _begin_async(self.connection, self.connection_state, settings)
                    self.connection_state.mark_sent(settings)
                    await self.base_cursor.execute(self, query, params, **options)
                # Citus passes settings on in a transaction, not in a pipeline alone.
                case Plan.PIPELINE if not (alone and self.connection_state.on_citus):
                    await self._execute_in_pipeline(settings, query, params, options)
                case _:  # Plan.SEPARATE, or autocommit on Citus
                    async with self._separately(settings):
                        await self.base_cursor.execute(self, query, params, **options)
        except REFUSE_COMPANY as error:
            if not alone or plan is Plan.PLAIN:
                self.connection_state.invalidate()
                raise
            warn_if_it_may_write(error)
            await self.base_cursor.execute(self, query, params, **options)
        except InvalidTextRepresentation:
            if not (
                alone and plan is Plan.PIPELINE and await self._was_stopped_by_citus()
            ):
                self.connection_state.invalidate()
                raise
            async with self._separately(settings):
                await self.base_cursor.execute(self, query, params, **options)
        except BaseException:
            self.connection_state.invalidate()
            raise
        self._invalidate_after(query, params)
        return self

    async def _was_stopped_by_citus(self) -> bool:
        """Return True if SET_CONFIG_UNLESS_CITUS has failed, and nothing is done."""
        state = self.connection_state
        if state.on_citus is None:
            cursor = psycopg.AsyncCursor(self.connection, row_factory=tuple_row)
            await _learn_async(state, await cursor.execute(f"SELECT {ASK_CITUS}"))
            return bool(state.on_citus)
        return False

    async def _execute_in_pipeline(
        self, settings: Settings, query: Any, params: Any, options: dict[str, Any]
    ) -> None:
        alone = self._is_autocommit_statement()
        with close_if_in_pipeline(self.connection):
            async with self.connection.pipeline() as pipeline:
                end_with_sync(pipeline)
                asked = await set_config_async(
                    self.connection, self.connection_state, settings, alone
                )
                await self.base_cursor.execute(self, query, params, **options)
        await _learn_async(self.connection_state, asked)
        if alone:
            self.connection_state.on_citus = False
        else:
            self.connection_state.mark_sent(settings)

    async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Execute a query for each set of parameters, in the current context."""
        settings = self._pending_settings()
        self.connection_state.in_own_cursor = True
        try:
            # psycopg makes a pipeline for executemany by itself.
            with close_if_in_pipeline(self.connection):
                if settings is None:
                    await super().executemany(query, params_seq, **options)
                elif (
                    psycopg.AsyncPipeline.is_supported()
                    and not self._is_autocommit_statement()
                ):
                    async with self.connection.pipeline() as pipeline:
                        end_with_sync(pipeline)
                        asked = await set_config_async(
                            self.connection, self.connection_state, settings
                        )
                        await super().executemany(query, params_seq, **options)
                    await _learn_async(self.connection_state, asked)
                    self.connection_state.mark_sent(settings)
                else:
                    async with self._separately(settings):
                        await super().executemany(query, params_seq, **options)
        except BaseException:
            self.connection_state.invalidate()
            raise
        finally:
            self.connection_state.in_own_cursor = False

    async def stream(
        self, query: Any, params: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Stream the rows of a query, in the current context."""
        with self.connection_state.own_cursor():
            async with self._separately(self._pending_settings()):
                self.connection_state.may_be_single_row = True
                async for row in super().stream(query, params, **options):
                    yield row

    @asynccontextmanager
    async def copy(
        self, statement: Any, params: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Begin a COPY, in the current context."""
        with self.connection_state.own_cursor():
            async with (
                self._separately(self._pending_settings()),
                super().copy(statement, params, **options) as copy,
            ):
                yield copy

    @asynccontextmanager
    async def _separately(self, settings: Settings | None) -> AsyncIterator[None]:
        """Send settings as a statement of their own, in the transaction of the block.

        :param settings: None for none to send.
        """
        if settings is None:
            yield
        elif self._is_autocommit_statement():
            async with self.connection.transaction():
                await set_config_async(self.connection, self.connection_state, settings)
                yield
        else:
            await set_config_async(self.connection, self.connection_state, settings)
            self.connection_state.mark_sent(settings)
            yield


class AsyncContextServerCursor(ContextMixin, psycopg.AsyncServerCursor[Any]):
    """A server-side cursor that sends the current settings first."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Declare the cursor, in the current context."""
        settings = self._pending_settings()
        with self.connection_state.own_cursor():
            if settings is not None and not self._is_autocommit_statement():
                await set_config_async(self.connection, self.connection_state, settings)
                self.connection_state.mark_sent(settings)
            return await self.base_cursor.execute(self, query, params, **options)
