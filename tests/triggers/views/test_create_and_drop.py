"""Views are created and dropped with the tables that they read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    create_mock_engine,
    insert,
    inspect,
    literal,
    select,
    text,
)
from sqlalchemy.exc import InternalError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.schema import CreateSchema

from sa_history import Insert, Trigger, attach, track, view
from tests.triggers.views.helpers import THE_OBJECTS, objects


def test_it_comes_and_goes_with_the_tables(
    users: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    with pg_engine.begin() as connection:
        assert objects(connection) == THE_OBJECTS
        base.metadata.create_all(connection)
        base.metadata.create_all(connection, checkfirst=True)
        assert objects(connection) == THE_OBJECTS
        base.metadata.drop_all(connection)
        assert objects(connection) == []
        base.metadata.drop_all(connection)
        base.metadata.create_all(connection, checkfirst=False)
        assert objects(connection) == THE_OBJECTS
        base.metadata.drop_all(connection, checkfirst=False)
        assert objects(connection) == []


def test_an_async_connection_creates_and_drops_it(
    users: Any, base: type[DeclarativeBase], pg_async_engine: AsyncEngine
) -> None:
    async def main() -> None:
        async with pg_async_engine.begin() as connection:
            await connection.run_sync(base.metadata.drop_all)
            assert await connection.run_sync(objects) == []
            await connection.run_sync(base.metadata.create_all)
            assert await connection.run_sync(objects) == THE_OBJECTS

    asyncio.run(main())


@pytest.fixture
def three(pg_engine: Engine) -> tuple[MetaData, dict[str, Table]]:
    """Three tables, a view of the first, one of the second, and one of that view."""
    metadata = MetaData()
    a, b, c = (
        Table(name, metadata, Column("id", Integer, primary_key=True)) for name in "abc"
    )
    of_a = view("of_a", metadata, select(a.c.id))
    of_b = view("of_b", metadata, select(b.c.id))
    of_of_a = view("of_of_a", metadata, select(of_a.c.id, c.c.id.label("c_id")))
    tables = {t.name: t for t in (a, b, c, of_a, of_b, of_of_a)}
    return metadata, tables


def views_of(engine: Engine) -> list[str]:
    return sorted(inspect(engine).get_view_names())


def test_only_views_whose_tables_are_dropped_are_dropped(
    three: Any, pg_engine: Engine
) -> None:
    metadata, tables = three
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b", "of_of_a"]
    metadata.drop_all(pg_engine, tables=[tables["b"]])
    assert views_of(pg_engine) == ["of_a", "of_of_a"]
    metadata.drop_all(pg_engine, tables=[tables["c"]])
    assert views_of(pg_engine) == ["of_a"]
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b", "of_of_a"]
    metadata.drop_all(pg_engine, tables=[tables["a"]])
    assert views_of(pg_engine) == ["of_b"]
    metadata.drop_all(pg_engine)
    assert views_of(pg_engine) == []


def test_a_view_is_created_when_all_that_it_reads_is_there(
    three: Any, pg_engine: Engine
) -> None:
    metadata, tables = three
    metadata.create_all(pg_engine, tables=[tables["a"], tables["b"]])
    assert views_of(pg_engine) == ["of_a", "of_b"]
    tables["c"].create(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b"]
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b", "of_of_a"]


def test_a_table_cannot_be_dropped_by_itself_under_a_view(
    three: Any, pg_engine: Engine
) -> None:
    metadata, tables = three
    metadata.create_all(pg_engine)
    with pytest.raises(
        InternalError, match=r"DependentObjectsStillExist(?s:.)* of_b .* b\b"
    ):
        tables["b"].drop(pg_engine)
    assert views_of(pg_engine) == ["of_a", "of_b", "of_of_a"]


def test_a_view_that_others_depend_on_is_not_dropped_with_them(
    three: Any, pg_engine: Engine
) -> None:
    metadata, _ = three
    metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE VIEW mine AS SELECT * FROM of_b"))
    with pytest.raises(
        InternalError, match=r"DependentObjectsStillExist(?s:.)* mine .* of_b\b"
    ):
        metadata.drop_all(pg_engine)
    assert views_of(pg_engine) == ["mine", "of_a", "of_b", "of_of_a"]


def test_a_view_may_read_tables_of_another_metadata(pg_engine: Engine) -> None:
    metadata, other = MetaData(), MetaData()
    mine = Table("mine", metadata, Column("id", Integer, primary_key=True))
    theirs = Table("theirs", other, Column("id", Integer, primary_key=True))
    view(
        "both",
        metadata,
        select(mine.c.id, theirs.c.id.label("other")).join(
            theirs, theirs.c.id == mine.c.id
        ),
    )
    view("only_theirs", metadata, select(theirs.c.id))
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == []
    other.create_all(pg_engine)
    metadata.create_all(pg_engine)
    assert views_of(pg_engine) == ["both", "only_theirs"]
    metadata.drop_all(pg_engine)
    assert views_of(pg_engine) == []
    other.drop_all(pg_engine)


def test_a_view_may_read_the_events_of_a_model(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @track()
    class Note(base):  # type: ignore[misc, valid-type]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    event = Note.events.model
    changes = view(
        "changes",
        base.metadata,
        select(event.pgh_id, event.id.label("note_id"), event.pgh_op),
    )
    create_all()
    pg_session.add(Note(id=7))
    pg_session.flush()
    found = pg_session.execute(select(changes.c.note_id, changes.c.pgh_op))
    assert found.all() == [(7, "I")]
    base.metadata.drop_all(pg_session.connection())
    assert objects(pg_session.connection()) == []


def test_a_part_is_printed_with_its_own_views(three: Any) -> None:
    metadata, tables = three
    printed: list[str] = []
    engine = create_mock_engine(
        "postgresql+psycopg://",
        lambda sql, *_: printed.append(str(sql.compile(dialect=engine.dialect))),
    )
    metadata.drop_all(engine, tables=[tables["b"]], checkfirst=False)
    assert [statement.strip() for statement in printed] == [
        'DROP VIEW IF EXISTS "public"."of_b"',
        'DROP FUNCTION IF EXISTS "public"."of_b_read_only"() CASCADE',
        "DROP TABLE b",
    ]


def test_statements_are_printed_in_order(
    active: Any, user: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    attach(Trigger("no", "before", Insert, level="statement", body="RETURN NULL;"))(
        active
    )
    view("again", base.metadata, select(active.id, literal("50%").label("share")))
    printed: list[str] = []

    def print_(element: Any, *_: Any, **__: Any) -> None:
        printed.append(str(element.compile(dialect=engine.dialect)).strip())

    engine = create_mock_engine("postgresql+psycopg://", print_)
    base.metadata.create_all(engine, checkfirst=False)
    starts = [
        re.split(r" \(|\n|\(\)| FOR EACH", statement)[0]
        for statement in printed
        if not statement.startswith("COMMENT ON ")
    ]
    assert starts == [
        'CREATE TABLE "user"',
        'CREATE VIEW "public"."active_user"',
        'CREATE OR REPLACE FUNCTION "public"."active_user_read_only"',
        'CREATE OR REPLACE TRIGGER "active_user_read_only" INSTEAD OF INSERT OR UPDATE'
        ' OR DELETE ON "public"."active_user"',
        'CREATE OR REPLACE FUNCTION "public"."active_user_no"',
        'CREATE OR REPLACE TRIGGER "active_user_no" BEFORE INSERT ON'
        ' "public"."active_user"',
        'CREATE VIEW "public"."again"',
        'CREATE OR REPLACE FUNCTION "public"."again_read_only"',
        'CREATE OR REPLACE TRIGGER "again_read_only" INSTEAD OF INSERT OR UPDATE OR'
        ' DELETE ON "public"."again"',
    ]
    with pg_engine.begin() as connection:
        for statement in printed:
            connection.exec_driver_sql(statement, ())
    printed.clear()
    base.metadata.drop_all(engine, checkfirst=False)
    assert [statement.split("()")[0] for statement in printed] == [
        'DROP VIEW IF EXISTS "public"."again"',
        'DROP FUNCTION IF EXISTS "public"."again_read_only"',
        'DROP VIEW IF EXISTS "public"."active_user"',
        'DROP FUNCTION IF EXISTS "public"."active_user_read_only"',
        'DROP FUNCTION IF EXISTS "public"."active_user_no"',
        'DROP TABLE "user"',
    ]
    with pg_engine.begin() as connection:
        for statement in printed:
            connection.exec_driver_sql(statement)
        assert objects(connection) == []


def test_reflection_sees_a_view_as_one(
    users: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    inspector = inspect(pg_engine)
    assert inspector.get_table_names() == ["user"]
    assert inspector.get_view_names() == ["active_user"]
    assert list(base.metadata.tables) == ["user"]
    assert [table.name for table in base.metadata.sorted_tables] == ["user"]
    reflected = MetaData()
    reflected.reflect(pg_engine, views=True)
    assert sorted(reflected.tables) == ["active_user", "user"]
    loaded = Table("active_user", MetaData(), autoload_with=pg_engine)
    assert [c.name for c in loaded.c] == ["id", "email"]
    assert loaded.metadata.tables


def test_a_copy_of_it_in_another_metadata_is_a_plain_table(
    users: Any, active: Any, base: type[DeclarativeBase], pg_engine: Engine
) -> None:
    copy = active.__table__.to_metadata(MetaData(), schema="copies")
    users.__table__.to_metadata(copy.metadata, schema="copies")
    with pg_engine.begin() as connection:
        connection.execute(CreateSchema("copies"))
        copy.metadata.create_all(connection)
        connection.execute(insert(copy).values(id=1, email="x"))
        assert connection.execute(select(copy)).all() == [(1, "x")]
        copy.metadata.drop_all(connection)
        assert objects(connection) == THE_OBJECTS


def test_a_view_may_be_defined_before_the_models_are_complete(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class First(base):  # type: ignore[misc, valid-type]
        __tablename__ = "first"
        id: Mapped[int] = mapped_column(primary_key=True)
        second_id: Mapped[int | None] = mapped_column(ForeignKey("second.id"))
        second = relationship("Second", lazy="joined")

    # An entity, select(First), would have SQLAlchemy look for the other class.
    made = view("made", base.metadata, select(First.id, First.second_id))

    class Second(base):  # type: ignore[misc, valid-type]
        __tablename__ = "second"
        id: Mapped[int] = mapped_column(primary_key=True)

    create_all()
    pg_session.add(First(id=1))
    pg_session.flush()
    assert pg_session.execute(select(made)).all() == [(1, None)]
