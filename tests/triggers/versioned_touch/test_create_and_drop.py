"""Versioned and Touch are created and dropped with their table."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, MetaData, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import CreateSchema

from sa_history import Versioned, attach


def objects(connection: Connection, schema: str = "public") -> list[str]:
    """The functions and triggers of a schema."""
    found = connection.scalars(
        text(
            "SELECT proname FROM pg_proc WHERE pronamespace = CAST(:s AS regnamespace)"
            " UNION ALL SELECT 'on ' || relname || ': ' || tgname FROM pg_trigger"
            " JOIN pg_class c ON tgrelid = c.oid WHERE NOT tgisinternal"
            " AND relnamespace = CAST(:s AS regnamespace) ORDER BY 1"
        ),
        {"s": schema},
    )
    return list(found)


THE_OBJECTS = [
    "on page: page_touch_touched_at",
    "on page: page_versioned",
    "page_touch_touched_at",
    "page_versioned",
]


def test_they_come_and_go_with_the_table(
    page: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        assert objects(connection) == THE_OBJECTS
        base.metadata.create_all(connection)
        assert objects(connection) == THE_OBJECTS
        base.metadata.drop_all(connection)
        assert objects(connection) == []
        page.__table__.create(connection)
        assert objects(connection) == THE_OBJECTS
        page.__table__.drop(connection)
        assert objects(connection) == []
        base.metadata.drop_all(connection)


def test_a_copy_of_the_table_in_another_metadata_is_a_plain_table(
    page: Any, pg_engine: Engine
) -> None:
    copy = page.__table__.to_metadata(MetaData(), schema="copies")
    renamed = page.__table__.to_metadata(MetaData(), name="other_page")
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("copies"))
        for table in (copy, renamed):
            table.metadata.create_all(connection)
            connection.execute(insert(table).values(id=1, text="a", version=7))
            connection.execute(update(table).values(text="b", version=3))
            found = connection.execute(select(table.c.text, table.c.version)).one()
            assert found == ("b", 3)
        assert objects(connection, "copies") == []
        assert objects(connection) == THE_OBJECTS
        copy.metadata.drop_all(connection)
        renamed.metadata.drop_all(connection)
        assert objects(connection) == THE_OBJECTS
    assert page.__table__ is page.metadata.tables["page"]


def test_a_copy_can_have_triggers_of_its_own(page: Any, pg_engine: Engine) -> None:
    copy = page.__table__.to_metadata(MetaData(), schema="copies")
    attach(Versioned("version"))(copy)
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("copies"))
        copy.metadata.create_all(connection)
        connection.execute(insert(copy).values(id=1, text="a", version=7))
        connection.execute(update(copy).values(text="b"))
        assert connection.scalar(select(copy.c.version)) == 8
        copy.metadata.drop_all(connection)
        assert objects(connection, "copies") == []
