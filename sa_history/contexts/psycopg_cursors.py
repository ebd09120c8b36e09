"""Cursors of psycopg that send the context on the way, for no network round trip.

Where a transaction begins, psycopg sends BEGIN by itself before a statement, and the
settings go in its message. Inside of a transaction they go in one pipeline with the
statement.
https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
"""

from __future__ import annotations

import re
import warnings
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.errors import (
    ActiveSqlTransaction,
    InvalidTransactionTermination,
    error_from_result,
)
from psycopg.generators import execute
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import tuple_row

from sa_history.contexts.connection_state import Settings, Wire
from sa_history.contexts.psycopg_pipeline import closed_if_stuck, end_with_sync
from sa_history.sql.session_settings import SET_CONFIG, begin

# psycopg's methods have many forms; what they are given is passed on as it is.
# mypy: disable-error-code="override"

_CLIENT_CURSORS = (psycopg.ClientCursor, psycopg.AsyncClientCursor)

# What VACUUM, and a procedure that commits, raise in company of our statement. They
# have done nothing then, and can be executed alone.
_REFUSE_COMPANY = (ActiveSqlTransaction, InvalidTransactionTermination)


# Not SET CONSTRAINTS: it runs what was deferred.
_FIRST = re.compile(r"\s*(SET(?!\s+CONSTRAINTS)|LOCK)\b[^;]*;?\s*$", re.IGNORECASE)


def must_come_first(query: Any) -> bool:
    """Return whether a query may have to come before any other of its transaction.

    SET TRANSACTION has to, and LOCK before what sees a snapshot. Neither writes; the
    statement after it carries the context.
    """
    return isinstance(query, str) and _FIRST.match(query) is not None


class Teller:
    """What the cursors below have in common."""

    wire: Wire
    made_of: type[Any]
    """psycopg's class or the application's, named as super() takes long to find it."""
    connection: Any
    statusmessage: Any

    def _news(self, query: Any = None) -> Settings | None:
        news = self.wire.news(self.connection.pgconn.transaction_status)
        if news is None or must_come_first(query):
            return None
        self.wire.telling()
        return news

    def _noted(self, query: Any, params: Any) -> None:
        """Note what the statement may have done to the settings.

        ROLLBACK TO SAVEPOINT takes them back, as RESET ALL does; COMMIT AND CHAIN
        begins anew. Of a script and in a pipeline of the application, the command tags
        are not known.
        """
        if self.wire.was_told and (
            self.statusmessage in ("COMMIT", "ROLLBACK", "RESET")
            or self.connection.pgconn.pipeline_status
            or not self._can_share(query, params)
        ):
            self.wire.unsure()

    def _is_lone(self) -> bool:
        """Whether the next statement is a transaction of its own."""
        connection = self.connection
        if not connection.autocommit:
            return False
        return bool(connection.pgconn.transaction_status == TransactionStatus.IDLE)

    def _can_share(self, query: Any, params: Any) -> bool:
        """Whether a query can go in a pipeline, where each message is one statement."""
        # With parameters it has to be one anyway, unless they are put into its text.
        if params and not isinstance(self, _CLIENT_CURSORS):
            return True
        if isinstance(query, bytes):
            query = query.decode(errors="replace")
        return isinstance(query, str) and ";" not in query.rstrip("; \n\t")


def _warn_if_it_may_write(error: psycopg.Error) -> None:
    if isinstance(error, InvalidTransactionTermination):
        warnings.warn(
            "the context in force is not recorded, and nothing is ignored, for a "
            "procedure that commits: its COMMIT ends the transaction that has them",
            stacklevel=2,
        )


def set_config(connection: Any, news: Settings) -> None:
    """Tell a connection what it has to be told."""
    if begins(connection):
        _begin(connection, news)
        return
    # By a plain cursor: the application's own may do anything with rows.
    psycopg.Cursor(connection, row_factory=tuple_row).execute(SET_CONFIG, news)


async def set_config_async(connection: Any, news: Settings) -> None:
    """Tell an async connection what it has to be told."""
    if begins(connection):
        await _begin_async(connection, news)
        return
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute(SET_CONFIG, news)


def begins(connection: Any) -> bool:
    """Return whether psycopg would send BEGIN, and wait for it, before a statement."""
    pgconn = connection.pgconn
    return (
        pgconn.transaction_status == TransactionStatus.IDLE
        and not connection.autocommit
        and not pgconn.pipeline_status
    )


def _begin(connection: Any, news: Settings) -> None:
    with connection.lock:
        connection.wait(_begin_with(connection, news))


async def _begin_async(connection: Any, news: Settings) -> None:
    async with connection.lock:
        await connection.wait(_begin_with(connection, news))


def _begin_with(connection: Any, news: Settings) -> Generator[Any, Any, None]:
    """Send BEGIN and the settings as one message, and wait for the answers."""
    statements = begin(
        connection.isolation_level and connection.isolation_level.name,
        connection.read_only,
        connection.deferrable,
        news,
    )
    connection.pgconn.send_query(statements.encode("ascii"))
    results = yield from execute(connection.pgconn)
    if results[-1].status == ExecStatus.FATAL_ERROR:
        raise error_from_result(results[-1], connection.info.encoding)


class ContextCursor(Teller, psycopg.Cursor[Any]):
    """A cursor that tells the context first."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Execute a query, in the context in force."""
        if self.wire.is_calm():
            return self.made_of.execute(self, query, params, **options)
        news = self._news(query)
        lone = self._is_lone()
        try:
            if news is None:
                self.made_of.execute(self, query, params, **options)
            elif begins(self.connection):
                _begin(self.connection, news)
                self.wire.told(news)
                self.made_of.execute(self, query, params, **options)
            elif self._can_share(query, params) and psycopg.Pipeline.is_supported():
                self._execute_with(news, query, params, options)
            else:
                with self._told_apart(news):
                    self.made_of.execute(self, query, params, **options)
        except _REFUSE_COMPANY as error:
            if not lone or news is None:
                self.wire.unsure()
                raise
            _warn_if_it_may_write(error)
            self.made_of.execute(self, query, params, **options)
        except BaseException:
            self.wire.unsure()
            raise
        self._noted(query, params)
        return self

    def _execute_with(
        self, news: Settings, query: Any, params: Any, options: dict[str, Any]
    ) -> None:
        lone = self._is_lone()
        with closed_if_stuck(self.connection), self.connection.pipeline() as pipeline:
            end_with_sync(pipeline)
            set_config(self.connection, news)
            self.made_of.execute(self, query, params, **options)
        if not lone:
            self.wire.told(news)

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Execute a query for each set of parameters, in the context in force."""
        news = self._news()
        try:
            # psycopg makes a pipeline for executemany by itself.
            with closed_if_stuck(self.connection):
                if news is None:
                    super().executemany(query, params_seq, **options)
                elif psycopg.Pipeline.is_supported() and not self._is_lone():
                    with self.connection.pipeline():
                        set_config(self.connection, news)
                        super().executemany(query, params_seq, **options)
                    self.wire.told(news)
                else:
                    with self._told_apart(news):
                        super().executemany(query, params_seq, **options)
        except BaseException:
            self.wire.unsure()
            raise

    def stream(self, query: Any, params: Any = None, **options: Any) -> Iterator[Any]:
        """Stream the rows of a query, in the context in force."""
        with self._told_apart(self._news()):
            yield from super().stream(query, params, **options)

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **options: Any) -> Iterator[Any]:
        """Begin a COPY, in the context in force."""
        with (
            self._told_apart(self._news()),
            super().copy(statement, params, **options) as copy,
        ):
            yield copy

    @contextmanager
    def _told_apart(self, news: Settings | None) -> Iterator[None]:
        """Send the settings by themselves, and have the block in their transaction."""
        if news is None:
            yield
        elif self._is_lone():
            with self.connection.transaction():
                set_config(self.connection, news)
                yield
        else:
            set_config(self.connection, news)
            self.wire.told(news)
            yield


class ContextServerCursor(Teller, psycopg.ServerCursor[Any]):
    """A server-side cursor that tells the context first."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Declare the cursor, in the context in force."""
        news = self._news()
        if news is not None and not self._is_lone():
            set_config(self.connection, news)
            self.wire.told(news)
        return self.made_of.execute(self, query, params, **options)


class AsyncContextCursor(Teller, psycopg.AsyncCursor[Any]):
    """The async twin of :class:`ContextCursor`."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Execute a query, in the context in force."""
        if self.wire.is_calm():
            return await self.made_of.execute(self, query, params, **options)
        news = self._news(query)
        lone = self._is_lone()
        try:
            if news is None:
                await self.made_of.execute(self, query, params, **options)
            elif begins(self.connection):
                await _begin_async(self.connection, news)
                self.wire.told(news)
                await self.made_of.execute(self, query, params, **options)
            elif (
                self._can_share(query, params) and psycopg.AsyncPipeline.is_supported()
            ):
                await self._execute_with(news, query, params, options)
            else:
                async with self._told_apart(news):
                    await self.made_of.execute(self, query, params, **options)
        except _REFUSE_COMPANY as error:
            if not lone or news is None:
                self.wire.unsure()
                raise
            _warn_if_it_may_write(error)
            await self.made_of.execute(self, query, params, **options)
        except BaseException:
            self.wire.unsure()
            raise
        self._noted(query, params)
        return self

    async def _execute_with(
        self, news: Settings, query: Any, params: Any, options: dict[str, Any]
    ) -> None:
        lone = self._is_lone()
        with closed_if_stuck(self.connection):
            async with self.connection.pipeline() as pipeline:
                end_with_sync(pipeline)
                await set_config_async(self.connection, news)
                await self.made_of.execute(self, query, params, **options)
        if not lone:
            self.wire.told(news)

    async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Execute a query for each set of parameters, in the context in force."""
        news = self._news()
        try:
            with closed_if_stuck(self.connection):
                if news is None:
                    await super().executemany(query, params_seq, **options)
                elif psycopg.AsyncPipeline.is_supported() and not self._is_lone():
                    async with self.connection.pipeline():
                        await set_config_async(self.connection, news)
                        await super().executemany(query, params_seq, **options)
                    self.wire.told(news)
                else:
                    async with self._told_apart(news):
                        await super().executemany(query, params_seq, **options)
        except BaseException:
            self.wire.unsure()
            raise

    async def stream(
        self, query: Any, params: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Stream the rows of a query, in the context in force."""
        async with self._told_apart(self._news()):
            async for row in super().stream(query, params, **options):
                yield row

    @asynccontextmanager
    async def copy(
        self, statement: Any, params: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Begin a COPY, in the context in force."""
        async with (
            self._told_apart(self._news()),
            super().copy(statement, params, **options) as copy,
        ):
            yield copy

    @asynccontextmanager
    async def _told_apart(self, news: Settings | None) -> AsyncIterator[None]:
        if news is None:
            yield
        elif self._is_lone():
            async with self.connection.transaction():
                await set_config_async(self.connection, news)
                yield
        else:
            await set_config_async(self.connection, news)
            self.wire.told(news)
            yield


class AsyncContextServerCursor(Teller, psycopg.AsyncServerCursor[Any]):
    """The async twin of :class:`ContextServerCursor`."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Declare the cursor, in the context in force."""
        news = self._news()
        if news is not None and not self._is_lone():
            await set_config_async(self.connection, news)
            self.wire.told(news)
        return await self.made_of.execute(self, query, params, **options)
