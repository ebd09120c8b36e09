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
