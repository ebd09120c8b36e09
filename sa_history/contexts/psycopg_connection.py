"""Have a connection of psycopg tell the context, whoever makes cursors of it.

The hook is the driver's ``cursor_factory``, below SQLAlchemy, so that COPY and whatever
else is done with the driver's own connection has its context too.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import ref

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from sa_history.contexts.connection_state import INFO_KEY, Settings, Wire, wire_in
from sa_history.contexts.psycopg_cursors import (
    AsyncContextCursor,
    AsyncContextServerCursor,
    ContextCursor,
    ContextServerCursor,
    Teller,
    set_config,
    set_config_async,
)
from sa_history.sql.session_settings import SET_CONFIG


def give_cursors(connection: Any, info: dict[Any, Any]) -> None:
    """Have a psycopg connection make cursors that tell the context.

    The connection's own cursor classes, an application's too, are their bases.

    :param connection: the driver's connection; others than psycopg's stay as they are.
    :param info: what SQLAlchemy keeps with it.
    """
    if isinstance(connection, psycopg.Connection):
        client: type[Any] = ContextCursor
        server: type[Any] = ContextServerCursor
        methods: dict[str, Any] = {
            "transaction": _noting_transaction,
            "commit": _telling_commit,
            "tpc_begin": _noting_tpc_begin,
            "tpc_prepare": _telling_prepare,
            "tpc_commit": _telling_tpc_commit,
        }
    elif isinstance(connection, psycopg.AsyncConnection):
        client, server = AsyncContextCursor, AsyncContextServerCursor
        methods = {
            "transaction": _noting_async_transaction,
            "commit": _telling_async_commit,
            "tpc_begin": _noting_async_tpc_begin,
            "tpc_prepare": _telling_async_prepare,
            "tpc_commit": _telling_async_tpc_commit,
        }
    else:
        if INFO_KEY in info:
            wire_in(info).change_hands()
        return
    wire = wire_in(info)
    wire.change_hands()
    is_new = False
    for attribute, telling in (
        ("cursor_factory", client),
        ("server_cursor_factory", server),
    ):
        base = getattr(connection, attribute)
        if getattr(base, "wire", None) is not wire:
            if issubclass(base, Teller):  # of another pool, which had it before
                base = base.made_of
            own = {"wire": wire, "made_of": base}
            made = type(base.__name__, (telling, base), own)
            setattr(connection, attribute, made)
            is_new = True
    if is_new:
        # Weakly, so that the connection is not part of a cycle.
        reference = ref(connection)
        for name, method in methods.items():
            known = vars(connection).get(name)
            # What an application has put there stays.
            if known is None or getattr(known, "func", None) is method:
                setattr(connection, name, functools.partial(method, reference, wire))


@contextmanager
def _noting_transaction(
    reference: ref[psycopg.Connection[Any]], wire: Wire, *args: Any, **options: Any
) -> Iterator[Any]:
    """Do as ``Connection.transaction``, which needs no cursor, and note it."""
    connection: Any = reference()
    idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
    wire.blocks_of_driver += 1
    try:
        with type(connection).transaction(connection, *args, **options) as transaction:
            if idle:
                wire.forget()
            yield transaction
            if idle and (news := _last_news(connection, wire)):
                set_config(connection, news)
    finally:
        wire.blocks_of_driver -= 1
        wire.unsure()


@asynccontextmanager
async def _noting_async_transaction(
    reference: ref[psycopg.AsyncConnection[Any]], wire: Wire, *args: Any, **options: Any
) -> AsyncIterator[Any]:
    """The async twin of :func:`_noting_transaction`."""
    connection: Any = reference()
    idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
    own = type(connection).transaction
    wire.blocks_of_driver += 1
    try:
        async with own(connection, *args, **options) as transaction:
            if idle:
                wire.forget()
            yield transaction
            if idle and (news := _last_news(connection, wire)):
                await set_config_async(connection, news)
    finally:
        wire.blocks_of_driver -= 1
        wire.unsure()


def _last_news(connection: Any, wire: Wire) -> Settings | None:
    news = wire.last_news(connection.pgconn.transaction_status)
    if news is not None:
        wire.telling()  # psycopg may refuse to end the transaction, which then goes on
    return news


def _may_commit(connection: Any, wire: Wire) -> bool:
    """Whether psycopg lets COMMIT be sent; it raises only when it is asked to."""
    # Of a transaction of two phases psycopg tells nobody else.
    return not (wire.blocks_of_driver or getattr(connection, "_tpc", None))


def _telling_commit(reference: ref[psycopg.Connection[Any]], wire: Wire) -> None:
    """Do as ``Connection.commit``, and tell what it has to know before."""
    connection: Any = reference()
    news = _last_news(connection, wire)
    if news is not None and connection.pgconn.pipeline_status:
        set_config(connection, news)
    elif news is not None and _may_commit(connection, wire):
        # In one message, so that it costs no round trip.
        cursor = psycopg.ClientCursor(connection, row_factory=tuple_row)
        cursor.execute(f"{SET_CONFIG}; COMMIT", news)
    type(connection).commit(connection)


async def _telling_async_commit(
    reference: ref[psycopg.AsyncConnection[Any]], wire: Wire
) -> None:
    """The async twin of :func:`_telling_commit`."""
    connection: Any = reference()
    news = _last_news(connection, wire)
    if news is not None and connection.pgconn.pipeline_status:
        await set_config_async(connection, news)
    elif news is not None and _may_commit(connection, wire):
        cursor = psycopg.AsyncClientCursor(connection, row_factory=tuple_row)
        await cursor.execute(f"{SET_CONFIG}; COMMIT", news)
    await type(connection).commit(connection)


def _noting_tpc_begin(
    reference: ref[psycopg.Connection[Any]], wire: Wire, *args: Any
) -> None:
    """Do as ``Connection.tpc_begin``, which needs no cursor, and note it."""
    connection: Any = reference()
    type(connection).tpc_begin(connection, *args)
    wire.forget()


async def _noting_async_tpc_begin(
    reference: ref[psycopg.AsyncConnection[Any]], wire: Wire, *args: Any
) -> None:
    """The async twin of :func:`_noting_tpc_begin`."""
    connection: Any = reference()
    await type(connection).tpc_begin(connection, *args)
    wire.forget()


def _telling_prepare(reference: ref[psycopg.Connection[Any]], wire: Wire) -> None:
    """Do as ``Connection.tpc_prepare``, and tell what it has to know before."""
    connection: Any = reference()
    if news := _last_news(connection, wire):
        set_config(connection, news)
    type(connection).tpc_prepare(connection)


def _telling_tpc_commit(
    reference: ref[psycopg.Connection[Any]], wire: Wire, *args: Any, **options: Any
) -> None:
    """Do as ``Connection.tpc_commit``; it may be of what was not prepared."""
    connection: Any = reference()
    if news := _last_news(connection, wire):
        set_config(connection, news)
    type(connection).tpc_commit(connection, *args, **options)


async def _telling_async_prepare(
    reference: ref[psycopg.AsyncConnection[Any]], wire: Wire
) -> None:
    """The async twin of :func:`_telling_prepare`."""
    connection: Any = reference()
    if news := _last_news(connection, wire):
        await set_config_async(connection, news)
    await type(connection).tpc_prepare(connection)


async def _telling_async_tpc_commit(
    reference: ref[psycopg.AsyncConnection[Any]], wire: Wire, *args: Any, **options: Any
) -> None:
    """The async twin of :func:`_telling_tpc_commit`."""
    connection: Any = reference()
    if news := _last_news(connection, wire):
        await set_config_async(connection, news)
    await type(connection).tpc_commit(connection, *args, **options)
