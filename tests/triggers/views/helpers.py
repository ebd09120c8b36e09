"""What a database has of views, and the rows of one."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import Connection, Engine, Table, select, text


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


def objects(connection: Connection) -> list[str]:
    """The views, functions and triggers in the database."""
    found = connection.scalars(
        text(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'v'"
            " AND relnamespace <> ALL (ARRAY['pg_catalog', 'information_schema']"
            "::regnamespace[])"
            " UNION ALL SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace <> ALL (ARRAY['pg_catalog', 'information_schema']"
            "::regnamespace[])"
            " UNION ALL SELECT tgrelid::regclass || ': ' || tgname FROM pg_trigger"
            " WHERE NOT tgisinternal ORDER BY 1"
        )
    )
    return list(found)


THE_OBJECTS = [
    "active_user",
    "active_user: active_user_read_only",
    "active_user_read_only()",
]


def rows(engine: Engine, table: Table) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(select(table).order_by(*table.c))
        ]
