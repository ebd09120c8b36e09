"""Schemas and names of views."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Enum,
    Integer,
    MetaData,
    Table,
    delete,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.schema import CreateSchema

from sa_history import view
from sa_history.exc import ReadOnlyError
from tests.triggers.views.helpers import THE_OBJECTS, Color, objects


@pytest.mark.parametrize("where", ["metadata", "view"])
def test_a_view_stands_in_a_schema(pg_engine: Engine, where: str) -> None:
    metadata = MetaData(schema="app" if where == "metadata" else None)
    color = Enum(Color, name="color", metadata=metadata, schema="app")
    thing = Table(
        "thing",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("color", color),
    )
    table = view(
        "made",
        metadata,
        select(thing.c.id, thing.c.color, literal(Color.RED, color).label("red")).where(
            thing.c.color == Color.RED
        ),
        schema=None if where == "metadata" else "app",
    )
    again = view("again", metadata, select(table.c.id), schema="other")
    assert (table.schema, again.schema) == ("app", "other")
    with pg_engine.begin() as connection:
        for schema in ("app", "other", "tenant"):
            connection.execute(CreateSchema(schema))
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(text("SET LOCAL search_path = tenant"))
        connection.execute(
            insert(
                thing
                if where == "metadata"
                else thing.to_metadata(MetaData(), schema="public")
            ),
            {"id": 1, "color": Color.RED},
        )
        assert connection.execute(select(table)).one() == (1, Color.RED, Color.RED)
        assert connection.execute(select(again)).one() == (1,)
        with pytest.raises(ReadOnlyError, match="INSERT of other.again is refused"):
            connection.execute(insert(again).values(id=2))
    metadata.drop_all(pg_engine)
    with pg_engine.connect() as connection:
        assert objects(connection) == []


def test_each_translated_schema_has_its_own(
    user: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    names = ["tenant_1", 'Tenant "2%_']
    for name in names:
        with pg_engine.begin() as connection:
            connection.execute(CreateSchema(name))
        engine = pg_engine.execution_options(schema_translate_map={None: name})
        base.metadata.create_all(engine)
        base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(user(id=1, email=name))
            session.commit()
    for name in names:
        engine = pg_engine.execution_options(schema_translate_map={None: name})
        with Session(engine) as session:
            assert session.scalars(select(active)).one().email == name
        base.metadata.drop_all(engine)
    with pg_engine.connect() as connection:
        assert objects(connection) == []


def test_it_is_made_in_the_first_schema_of_the_search_path(
    user: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    base.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("tenant"))
        connection.execute(text("SET LOCAL search_path = tenant"))
        base.metadata.create_all(connection)
        connection.execute(insert(user).values(id=1, email="a"))
        assert connection.scalar(text("SELECT email FROM tenant.active_user")) == "a"
        assert connection.scalar(text("SELECT count(*) FROM public.active_user")) == 0
        base.metadata.drop_all(connection)
        connection.execute(text("SET LOCAL search_path = public"))
        assert objects(connection) == THE_OBJECTS


@pytest.mark.parametrize(
    "odd",
    [
        "Mixed Case",
        "select",
        'dou"ble',
        "it's",
        "100% %s %(x)s %%",
        "a:b ::c",
        "back\\slash",
        "$$ $history$",
        "a.b",
        "Größe 寸",
        "x" * 60,
    ],
)
def test_odd_names_are_taken_as_they_are(pg_engine: Engine, odd: str) -> None:
    metadata = MetaData(schema=odd[:50] + "S")
    thing = Table(odd[:50] + "t", metadata, Column(odd, Integer, primary_key=True))
    table = view(
        odd,
        metadata,
        select(thing.c[odd], literal(odd).label(odd[:50] + "l")).where(
            thing.c[odd] == 1
        ),
    )
    again = view(odd[:50] + "a", metadata, select(table))
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema(odd[:50] + "S"))
        metadata.create_all(connection)
        connection.execute(insert(thing).values({odd: 1}))
        assert connection.execute(select(again)).all() == [(1, odd)]
        with (
            pytest.raises(ReadOnlyError) as caught,
            connection.begin_nested(),
        ):
            connection.execute(delete(again))
        diagnostics: Any = caught.value.orig
        assert diagnostics.diag.table_name == odd[:50] + "a"
        metadata.drop_all(connection)
        assert objects(connection) == []
