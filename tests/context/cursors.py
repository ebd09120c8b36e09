"""Cursors that are made of their class, and what they do, sync or async."""

from __future__ import annotations

import inspect
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.util.concurrency import await_only


def finished(result: Any) -> Any:
    """Return what a method of the driver returns, or what its async twin gives."""
    return await_only(result) if inspect.isawaitable(result) else result


def made_of(name: str, connection: Connection, *args: Any) -> Any:
    """Return a cursor of psycopg's class, or of its async twin."""
    driver = connection.connection.driver_connection
    is_async = isinstance(driver, psycopg.AsyncConnection)
    return getattr(psycopg, f"Async{name}" if is_async else name)(driver, *args)


def execute(cursor: Any, body: str | None) -> None:
    raw = isinstance(cursor, (psycopg.RawCursor, psycopg.AsyncRawCursor))
    sql = f"INSERT INTO note (body) VALUES ({'$1' if raw else '%s'})"
    finished(cursor.execute(sql, [body]))


def stream(
    connection: Connection, size: int, last: int, by_its_class: bool = False
) -> None:
    """Read a stream of three rows, all or until the row of a number."""
    driver: Any = connection.connection.driver_connection
    is_async = isinstance(driver, psycopg.AsyncConnection)
    plain = psycopg.AsyncCursor if is_async else psycopg.Cursor
    cursor = plain(driver) if by_its_class else driver.cursor()
    options = {} if size == 1 else {"size": size}
    rows = cursor.stream("SELECT * FROM generate_series(1, 3)", **options)

    async def read() -> None:
        async for row in rows:
            if row[0] == last:
                break
        await rows.aclose()

    if is_async:
        await_only(read())
        return
    for row in rows:
        if row[0] == last:
            break
    rows.close()
