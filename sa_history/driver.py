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

from sa_history.cursors import (
    AsyncContextCursor,
    AsyncContextServerCursor,
    ContextCursor,
    ContextServerCursor,
    Teller,
)
from sa_history.wire import wire_in


def give_cursors(connection: Any, info: dict[Any, Any]) -> None:
    """Have a psycopg connection make cursors that tell the context.

    The connection's own cursor classes, an application's too, are their bases.

    :param connection: the driver's connection; others than psycopg's stay as they are.
    :param info: what SQLAlchemy keeps with it.
    """
    if isinstance(connection, psycopg.Connection):
        client: type[Any] = ContextCursor
        server: type[Any] = ContextServerCursor
        transaction: Any = _noting_transaction
    elif isinstance(connection, psycopg.AsyncConnection):
        client, server = AsyncContextCursor, AsyncContextServerCursor
        transaction = _noting_async_transaction
    else:
        return
    wire = wire_in(info)
    wire.change_hands()
    for attribute, telling in (
        ("cursor_factory", client),
        ("server_cursor_factory", server),
    ):
        base = getattr(connection, attribute)
        if getattr(base, "wire", None) is not wire:
            if issubclass(base, Teller):  # of another pool, which had it before
                base = base.__bases__[1]
            made = type(base.__name__, (telling, base), {"wire": wire})
            setattr(connection, attribute, made)
    if "transaction" not in vars(connection):
        # Weakly, so that the connection is not part of a cycle.
        connection.transaction = functools.partial(transaction, ref(connection))


@contextmanager
def _noting_transaction(
    reference: ref[psycopg.Connection[Any]], *args: Any, **options: Any
) -> Iterator[Any]:
    """Do as ``Connection.transaction``, which needs no cursor, and note it."""
    connection: Any = reference()
    idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
    try:
        with type(connection).transaction(connection, *args, **options) as transaction:
            if idle:
                connection.cursor_factory.wire.forget()
            yield transaction
    finally:
        connection.cursor_factory.wire.unsure()


@asynccontextmanager
async def _noting_async_transaction(
    reference: ref[psycopg.AsyncConnection[Any]], *args: Any, **options: Any
) -> AsyncIterator[Any]:
    """The async twin of :func:`_noting_transaction`."""
    connection: Any = reference()
    idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
    own = type(connection).transaction
    try:
        async with own(connection, *args, **options) as transaction:
            if idle:
                connection.cursor_factory.wire.forget()
            yield transaction
    finally:
        connection.cursor_factory.wire.unsure()


def has_cursors(connection: Any) -> bool:
    """Return whether the driver's connection makes cursors that tell the context."""
    return isinstance(getattr(connection, "cursor_factory", None), type) and issubclass(
        connection.cursor_factory, Teller
    )
