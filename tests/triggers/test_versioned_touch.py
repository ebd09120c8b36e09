"""Columns that count the changes of a row, and that say when it was changed."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    Computed,
    Connection,
    DateTime,
    DefaultClause,
    Engine,
    FetchedValue,
    ForeignKey,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    event,
    func,
    insert,
    inspect,
    literal,
    literal_column,
    select,
    text,
    types,
    update,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
)
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.schema import CreateSchema

import sa_history as history
from sa_history import (
    AnyChange,
    Delete,
    HistoryMixin,
    Insert,
    Touch,
    Trigger,
    Update,
    UpdateOf,
    Versioned,
    attach,
    new,
    old,
)
from sa_history.exc import ConditionError, DefinitionError, ReadOnlyError

THEN = datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
"""A time that triggers of the tests set."""


@pytest.fixture(params=["sync", "async"])
def in_session(
    request: pytest.FixtureRequest, pg_engine: Engine, pg_async_engine: AsyncEngine
) -> Callable[[Callable[[Session], Any]], Any]:
    """Run a function with a session: of the sync driver, or of the async one."""

    def run_sync(function: Callable[[Session], Any]) -> Any:
        with Session(pg_engine) as session:
            return function(session)

    def run_async(function: Callable[[Session], Any]) -> Any:
        async def main() -> Any:
            async with AsyncSession(pg_async_engine) as session:
                return await session.run_sync(function)

        return asyncio.run(main())

    return run_sync if request.param == "sync" else run_async


@contextmanager
def sent(session: Session) -> Iterator[list[str]]:
    """The first word of each statement that is sent inside of the block."""
    words: list[str] = []
    connection = session.connection()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        words.append(statement.split()[0])

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield words
    finally:
        event.remove(connection, "before_cursor_execute", note)


@pytest.fixture
def page(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model with both."""

    @attach(Versioned("version"), Touch("touched_at", value=literal(THEN)))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(default="a")
        version: Mapped[int] = mapped_column(default=0)
        touched_at: Mapped[datetime.datetime | None] = mapped_column(
            DateTime(timezone=True)
        )

    create_all()
    return Page


@pytest.fixture
def pages(page: Any, pg_session: Session) -> Any:
    """The class, with two committed rows."""
    pg_session.add_all([page(id=1), page(id=2)])
    pg_session.commit()
    return page


@pytest.fixture
def stored(pg_engine: Engine) -> Callable[..., list[tuple[Any, ...]]]:
    """Return committed rows of a table, by their key."""

    def read(target: Any, *columns: str) -> list[tuple[Any, ...]]:
        table = getattr(target, "__table__", target)
        wanted = [table.c[name] for name in columns] or list(table.c)
        with pg_engine.connect() as connection:
            rows = connection.execute(select(*wanted).order_by(*table.primary_key))
            return [tuple(row) for row in rows]

    return read


Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


# What a flush returns


def test_a_flush_returns_what_the_triggers_wrote_without_a_select(
    page: Any, in_session: InSession
) -> None:
    def work(session: Session) -> None:
        one = page(id=1)
        session.add(one)
        session.flush()
        assert (one.version, one.touched_at) == (0, None)
        one.text = "b"
        with sent(session) as words:
            session.flush()
            assert (one.version, one.touched_at) == (1, THEN)
            one.text = "c"
            session.flush()
            assert (one.version, one.touched_at) == (2, THEN)
        assert words == ["UPDATE", "UPDATE"]
        assert not session.dirty

    in_session(work)


def test_an_async_program_reads_the_values_after_the_flush(
    page: Any, pg_async_engine: AsyncEngine
) -> None:
    async def main() -> None:
        async with AsyncSession(pg_async_engine) as session:
            pages = [page(id=1), page(id=2)]
            session.add_all(pages)
            await session.flush()
            for one in pages:
                one.text = "b"
            await session.flush()
            # Here a SELECT would raise MissingGreenlet.
            assert [(p.version, p.touched_at) for p in pages] == [(1, THEN), (1, THEN)]

    asyncio.run(main())


def test_each_object_of_a_flush_has_its_own_values(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(Versioned("version"), Touch("double", value=literal_column("NEW.n * 2")))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        version: Mapped[int]
        double: Mapped[int | None]

    create_all()
    pages = [Page(id=n, version=n * 10) for n in (1, 2, 3)]
    pg_session.add_all(pages)
    pg_session.flush()
    for one in pages:
        one.n = one.id
    with sent(pg_session) as words:
        pg_session.flush()
        values = [(one.version, one.double) for one in pages]
    assert values == [(11, 2), (21, 4), (31, 6)]
    assert set(words) == {"UPDATE"}


def test_a_flush_that_changes_nothing_sends_nothing(
    pages: Any, pg_session: Session
) -> None:
    one = pg_session.get_one(pages, 1)
    one.text = one.text
    with sent(pg_session) as words:
        pg_session.flush()
    assert (words, one.version, one.touched_at) == ([], 0, None)


def test_who_wants_no_eager_defaults_has_none(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(Versioned("version"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        __mapper_args__ = {"eager_defaults": False}
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(default="a")
        version: Mapped[int] = mapped_column(default=0)

    create_all()
    assert inspect(Page).eager_defaults is False
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    one.text = "b"
    with sent(pg_session) as words:
        pg_session.flush()
        assert "version" in inspect(one).unloaded
        assert one.version == 1
    assert words == ["UPDATE", "SELECT"]


def test_defaults_that_a_column_has_are_kept(base: type[DeclarativeBase]) -> None:
    kept = FetchedValue(for_update=True)

    @attach(Versioned("version"), Touch("at", operation=Insert | Update))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column(server_default="7")
        at: Mapped[datetime.datetime | None] = mapped_column(
            server_default=func.now(), server_onupdate=kept
        )

    table = Page.__table__
    assert table.c.at.server_onupdate is kept
    assert isinstance(table.c.at.server_default, DefaultClause)
    assert isinstance(table.c.version.server_default, DefaultClause)


@pytest.mark.parametrize("value", [THEN, None])
def test_a_value_that_is_set_all_the_same_is_replaced_in_the_object_too(
    page: Any, in_session: InSession, value: Any
) -> None:
    before = THEN.replace(year=1999)

    def work(session: Session) -> None:
        one = page(id=1, touched_at=before)
        session.add(one)
        session.flush()
        one.text, one.touched_at = "b", value
        session.flush()
        assert one.touched_at == THEN
        assert not session.dirty

    in_session(work)


def test_defaults_of_python_are_replaced_in_the_object_too(
    base: type[DeclarativeBase], create_all: Callable[[], None], in_session: InSession
) -> None:
    @attach(Touch("at", value=literal("trigger"), operation=Insert | Update))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        at: Mapped[str] = mapped_column(
            default=lambda: "inserted", onupdate=lambda: "updated"
        )

    create_all()

    def work(session: Session) -> None:
        one = Page(id=1)
        session.add(one)
        session.flush()
        assert one.at == "trigger"
        session.execute(text("UPDATE page SET at = 'else'"))
        one.n = 1
        session.flush()
        assert one.at == "trigger"

    in_session(work)


def test_defaults_of_a_dataclass_are_replaced_in_the_object_too(
    create_all: Callable[[], None], pg_engine: Engine, in_session: InSession
) -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    @attach(Versioned("version"), Touch("at", value=literal("x"), operation=Insert))
    class Page(Base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        at: Mapped[str] = mapped_column(default="dataclass")
        version: Mapped[int] = mapped_column(default=0, init=False)

    Base.metadata.create_all(pg_engine)

    def work(session: Session) -> None:
        one = Page(id=1)
        session.add(one)
        session.flush()
        assert (one.at, one.version) == ("x", 0)
        one.n = 1
        session.flush()
        assert (one.at, one.version) == ("x", 1)

    in_session(work)


def test_one_select_reads_what_was_replaced_in_many_objects(
    page: Any, pg_session: Session
) -> None:
    pages = [page(id=n) for n in range(1, 4)]
    pg_session.add_all(pages)
    pg_session.flush()
    for one in pages:
        one.touched_at = THEN.replace(year=1900 + one.id)
    with sent(pg_session) as words:
        pg_session.flush()
        assert {one.touched_at for one in pages} == {THEN}
    assert words == ["UPDATE", "UPDATE", "UPDATE", "SELECT"]


def test_a_value_that_is_replaced_is_read_later_by_who_wants_no_eager_defaults(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(Touch("at", value=literal("x")))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        __mapper_args__ = {"eager_defaults": False}
        id: Mapped[int] = mapped_column(primary_key=True)
        at: Mapped[str]

    create_all()
    one = Page(id=1, at="a")
    pg_session.add(one)
    pg_session.flush()
    one.at = "b"
    with sent(pg_session) as words:
        pg_session.flush()
        assert words == ["UPDATE"]
        assert one.at == "x"
    assert words == ["UPDATE", "SELECT"]


def change(session: Session, pages: list[Any]) -> None:
    """Add pages, and change what their trigger replaces."""
    session.add_all(pages)
    session.flush()
    for one in pages:
        one.at = "b"
    session.flush()


def test_keys_of_any_kind_find_what_was_replaced(
    base: type[DeclarativeBase], create_all: Callable[[], None], in_session: InSession
) -> None:
    @attach(Touch("at", value=literal("x")))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        a: Mapped[uuid.UUID] = mapped_column("the a", primary_key=True)
        b: Mapped[datetime.datetime] = mapped_column(
            'the "b"', DateTime(timezone=True), primary_key=True
        )
        at: Mapped[str] = mapped_column("the % at")

    create_all()

    def work(session: Session) -> None:
        pages = [Page(a=uuid.UUID(int=n), b=THEN, at="a") for n in (1, 2)]
        change(session, pages)
        assert [one.at for one in pages] == ["x", "x"]

    in_session(work)


def test_a_key_that_the_database_shows_in_another_way_finds_what_was_replaced(
    base: type[DeclarativeBase], create_all: Callable[[], None], in_session: InSession
) -> None:
    """It fills up what is shorter than the type."""

    @attach(Touch("at", value=literal("x")))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[str] = mapped_column(CHAR(3), primary_key=True)
        at: Mapped[str]

    create_all()

    def work(session: Session) -> None:
        pages = [Page(id=key, at="a") for key in ("b", "abc")]
        change(session, pages)
        assert [one.at for one in pages] == ["x", "x"]

    in_session(work)


def test_a_class_need_not_map_what_is_replaced(
    base: type[DeclarativeBase], create_all: Callable[[], None], in_session: InSession
) -> None:
    table = Table(
        "page",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("text", Text),
        Column("at", Text),
        Column("by", Text),
    )
    attach(Touch("at", value=literal("x")), Touch("by", value=literal("y"), name="by"))(
        table
    )

    class Page(base):  # type: ignore[misc, valid-type]
        __table__ = table
        __mapper_args__ = {"exclude_properties": ["at"]}

    create_all()

    def work(session: Session) -> None:
        one = Page(id=1, text="a", by="b")
        session.add(one)
        session.flush()
        one.text, one.by = "b", "c"
        session.flush()
        assert one.by == "y"
        assert session.execute(select(table)).one() == (1, "b", "x", "y")

    in_session(work)


# Whatever updates


def update_by_flush(session: Session, page: Any) -> None:
    for one in session.scalars(select(page)):
        one.text = "b"
    session.flush()


def update_by_orm(session: Session, page: Any) -> None:
    session.execute(update(page).values(text="b"))


def update_in_bulk(session: Session, page: Any) -> None:
    session.execute(update(page), [{"id": n, "text": "b"} for n in (1, 2)])


def update_by_bulk_mappings(session: Session, page: Any) -> None:
    session.bulk_update_mappings(page, [{"id": n, "text": "b"} for n in (1, 2)])


def update_by_core(session: Session, page: Any) -> None:
    session.connection().execute(update(page.__table__).values(text="b"))


def update_by_text(session: Session, page: Any) -> None:
    session.execute(text("UPDATE page SET text = 'b'"))


def update_many(session: Session, page: Any) -> None:
    statement = text("UPDATE page SET text = 'b' WHERE id = :id")
    session.connection().execute(statement, [{"id": 1}, {"id": 2}])


def update_from(session: Session, page: Any) -> None:
    statement = "UPDATE page SET text = t FROM (VALUES (1, 'b'), (2, 'b')) v (i, t)"
    session.execute(text(f"{statement} WHERE id = i"))


def update_on_conflict(session: Session, page: Any) -> None:
    statement = pg_insert(page.__table__).values(
        [{"id": n, "text": "b", "version": 5} for n in (1, 2)]
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_={"text": statement.excluded.text}
        )
    )


def update_by_merge(session: Session, page: Any) -> None:
    session.execute(
        text(
            "MERGE INTO page USING generate_series(1, 2) AS n ON id = n"
            " WHEN MATCHED THEN UPDATE SET text = 'b'"
        )
    )


def update_in_a_common_table_expression(session: Session, page: Any) -> None:
    session.execute(
        text(
            "WITH u AS (UPDATE page SET text = 'b' RETURNING 1) SELECT count(*) FROM u"
        )
    )


DOORS = [
    update_by_flush,
    update_by_orm,
    update_in_bulk,
    update_by_bulk_mappings,
    update_by_core,
    update_by_text,
    update_many,
    update_from,
    update_on_conflict,
    update_by_merge,
    update_in_a_common_table_expression,
]


@pytest.mark.parametrize("door", DOORS)
def test_whatever_updates_rows_counts_and_touches_them(
    pages: Any, pg_session: Session, stored: Stored, door: Callable[..., None]
) -> None:
    door(pg_session, pages)
    pg_session.commit()
    assert stored(pages) == [(1, "b", 1, THEN), (2, "b", 1, THEN)]
    # Once more nothing changes, and that is no change.
    door(pg_session, pages)
    pg_session.commit()
    assert stored(pages) == [(1, "b", 1, THEN), (2, "b", 1, THEN)]


def test_objects_of_a_session_see_a_bulk_update_when_they_are_read_again(
    pages: Any, pg_session: Session
) -> None:
    one = pg_session.get_one(pages, 1)
    pg_session.execute(update(pages).values(text="b"))
    assert inspect(one).unloaded == {"version", "touched_at"}
    assert (one.text, one.version) == ("b", 1)
    statement = update(pages).values(text="c").returning(pages)
    found = pg_session.scalars(statement, execution_options={"populate_existing": True})
    assert [p.version for p in found] == [2, 2]
    assert (one.text, one.version) == ("c", 2)


def test_returning_has_the_values(pages: Any, pg_session: Session) -> None:
    statement = (
        update(pages).values(text="b").returning(pages.version, pages.touched_at)
    )
    assert pg_session.execute(statement).all() == [(1, THEN), (1, THEN)]


def test_only_rows_that_change_count(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    pg_session.execute(text("UPDATE page SET text = 'b' WHERE id = 1"))
    pg_session.execute(text("UPDATE page SET text = 'b'"))
    pg_session.commit()
    assert stored(pages, "id", "version") == [(1, 1), (2, 1)]


def test_a_key_that_changes_takes_the_version_along(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    pg_session.execute(text("UPDATE page SET id = id + 10"))
    pg_session.commit()
    assert stored(pages, "id", "version") == [(11, 1), (12, 1)]


def test_an_insert_on_conflict_do_nothing_counts_nothing(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    statement = pg_insert(pages.__table__).values(id=1, text="b")
    pg_session.execute(statement.on_conflict_do_nothing())
    pg_session.commit()
    assert stored(pages, "id", "version") == [(1, 0), (2, 0)]


def test_a_rollback_takes_the_count_back(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    one = pg_session.get_one(pages, 1)
    with pg_session.begin_nested() as savepoint:
        one.text = "b"
        pg_session.flush()
        assert one.version == 1
        savepoint.rollback()
    assert (one.text, one.version) == ("a", 0)
    one.text = "c"
    pg_session.commit()
    assert stored(pages, "id", "version") == [(1, 1), (2, 0)]


# Versioned


def set_by_flush(session: Session, page: Any) -> None:
    session.get_one(page, 1).version = 5
    session.flush()


def set_by_text(session: Session, page: Any) -> None:
    session.execute(text("UPDATE page SET version = 5"))


def set_to_the_next(session: Session, page: Any) -> None:
    session.execute(text("UPDATE page SET text = 'b', version = version + 1"))


def set_to_null(session: Session, page: Any) -> None:
    session.execute(text("UPDATE page SET version = NULL"))


def set_on_conflict(session: Session, page: Any) -> None:
    statement = pg_insert(page.__table__).values(id=1, text="b", version=5)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_={"version": statement.excluded.version}
        )
    )


def set_by_merge(session: Session, page: Any) -> None:
    session.execute(
        text(
            "MERGE INTO page USING generate_series(1, 2) AS n ON id = n"
            " WHEN MATCHED THEN UPDATE SET version = 5"
        )
    )


@pytest.mark.parametrize(
    "door",
    [
        set_by_flush,
        set_by_text,
        set_to_the_next,
        set_to_null,
        set_on_conflict,
        set_by_merge,
    ],
)
def test_nobody_sets_the_version(
    pages: Any, pg_session: Session, stored: Stored, door: Callable[..., None]
) -> None:
    with pytest.raises(ReadOnlyError) as caught:
        door(pg_session, pages)
    error: Any = caught.value.orig
    assert error.sqlstate == "SH004"
    assert error.diag.message_primary == (
        "UPDATE of public.page is refused: version may only be read"
    )
    assert error.diag.message_hint == "It counts the changes of the row; leave it out."
    assert (error.diag.table_name, error.diag.column_name) == ("page", "version")
    assert error.diag.constraint_name == "page_versioned"
    pg_session.rollback()
    assert stored(pages, "id", "version") == [(1, 0), (2, 0)]


def test_setting_the_version_to_what_it_is_passes(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    pg_session.execute(text("UPDATE page SET version = version, text = 'b'"))
    pg_session.commit()
    assert stored(pages, "version") == [(1,), (1,)]


def test_ignored_nothing_is_counted_and_the_version_can_be_set(
    pages: Any, pg_session: Session, stored: Stored
) -> None:
    with history.ignore(pg_session, pages, "versioned"):
        pg_session.execute(text("UPDATE page SET version = 40"))
        pg_session.execute(text("UPDATE page SET text = 'b'"))
    pg_session.execute(text("UPDATE page SET text = 'c'"))
    pg_session.commit()
    assert stored(pages, "version", "touched_at") == [(41, THEN), (41, THEN)]


def test_null_counts_as_none(pg_engine: Engine, stored: Stored) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("version", Integer),
    )
    attach(Versioned("version"))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1))
        connection.execute(update(thing).values(id=2))
    assert stored(thing) == [(2, 1)]


@pytest.mark.parametrize(
    ("type_", "most"),
    [(SmallInteger, 2**15 - 1), (Integer, 2**31 - 1), (BigInteger, 2**63 - 1)],
)
def test_a_version_that_no_longer_fits_is_an_error(
    pg_engine: Engine, stored: Stored, type_: Any, most: int
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("version", type_),
    )
    attach(Versioned("version"))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1, version=most - 1))
        connection.execute(update(thing).values(id=2))
    with (
        pytest.raises(DataError, match="out of range"),
        pg_engine.begin() as connection,
    ):
        connection.execute(update(thing).values(id=3))
    assert stored(thing) == [(2, most)]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column("version", Text), "Versioned counts in an integer column"),
        (Column("version", types.Numeric), "Versioned counts in an integer column"),
        (Column("version", Integer, primary_key=True), "of the primary key"),
        (Column("version", Integer, Computed("1", persisted=True)), "is generated"),
        (Column("vers", Integer), "did you mean 'vers'"),
    ],
)
def test_versioned_needs_an_integer_column_of_its_own(
    column: Column[Any], message: str
) -> None:
    thing = Table("thing", MetaData(), Column("id", Integer, primary_key=True), column)
    with pytest.raises(DefinitionError, match=message):
        attach(Versioned("version"))(thing)


def test_versioned_takes_no_condition() -> None:
    with pytest.raises(DefinitionError, match="Versioned takes no condition"):
        Versioned("version", condition=new.id > 1)


@pytest.mark.parametrize("kind", [Versioned, Touch])
def test_there_are_none_of_statement_level(kind: Any) -> None:
    with pytest.raises(DefinitionError, match='its level is "row"'):
        kind("version", level="statement")


def test_two_versions_count_side_by_side(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(Versioned("one"), Versioned("two", name="second"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        one: Mapped[int] = mapped_column(default=0)
        two: Mapped[int] = mapped_column(default=10)

    create_all()
    pg_session.add(Page(id=1))
    pg_session.flush()
    pg_session.execute(text("UPDATE page SET id = 2"))
    pg_session.commit()
    assert stored(Page) == [(2, 1, 11)]


# Against lost updates


@pytest.fixture
def seat(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model whose version SQLAlchemy compares in its statements."""

    @attach(Versioned("version"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        id: Mapped[int] = mapped_column(primary_key=True)
        guest: Mapped[str | None]
        version: Mapped[int] = mapped_column(default=1)
        __mapper_args__ = {"version_id_col": version, "version_id_generator": False}

    create_all()
    return Seat


def test_a_version_column_of_the_mapper_finds_lost_updates(
    seat: Any, in_session: InSession, pg_engine: Engine
) -> None:
    def work(session: Session) -> None:
        one = seat(id=1)
        session.add(one)
        session.flush()
        for version, guest in ((2, "Ann"), (3, "Ben")):
            one.guest = guest
            with sent(session) as words:
                session.flush()
                assert one.version == version
            assert words == ["UPDATE"]
        session.commit()
        assert one.version == 3
        with pg_engine.begin() as connection:
            connection.execute(text("UPDATE seat SET guest = 'Cid'"))
        one.guest = "Dan"
        with pytest.raises(StaleDataError, match="0 were matched"):
            session.flush()
        session.rollback()
        assert (one.guest, one.version) == ("Cid", 4)

    in_session(work)


def test_a_version_that_sqlalchemy_would_count_as_well_is_refused(
    base: type[DeclarativeBase],
) -> None:
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "seat"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    with pytest.raises(DefinitionError, match='"version_id_generator": False'):
        attach(Versioned("version"))(Seat)


# Touch


def test_touch_says_when_the_transaction_began(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(Touch("at"), Touch("clock", value=func.clock_timestamp()))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
        clock: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    assert (one.at, one.clock) == (None, None)
    began = pg_session.scalar(select(func.now()))
    times = []
    for n in (1, 2):
        one.n = n
        pg_session.flush()
        assert one.at == began
        times.append(one.clock)
    assert began < times[0] < times[1]


@pytest.mark.parametrize(
    ("operation", "inserted"),
    [(Update, None), (Insert, THEN), (Insert | Update, THEN)],
)
def test_touch_is_for_new_rows_for_changed_ones_or_for_both(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    operation: Any,
    inserted: Any,
) -> None:
    @attach(Touch("at", value=literal(THEN), operation=operation))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()

    def work(session: Session) -> None:
        pages = [Page(id=1), Page(id=2)]
        session.add_all(pages)
        with sent(session) as words:
            session.flush()
            assert [p.at for p in pages] == [inserted, inserted]
            one = pages[0]
            one.n = 1
            session.flush()
            assert one.at == THEN or operation is Insert
        assert words == ["INSERT", "UPDATE"]
        session.execute(text("UPDATE page SET at = NULL"))
        session.refresh(one)
        assert one.at == (None if operation is Insert else THEN)

    in_session(work)


def test_on_conflict_touches_new_and_changed_rows(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    stored: Stored,
) -> None:
    @attach(
        Touch("made", value=literal(1), operation=Insert),
        Touch("changed", value=literal(1)),
    )
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column(default=0)
        made: Mapped[int | None]
        changed: Mapped[int | None]

    create_all()
    pg_session.add(Page(id=1))
    pg_session.flush()
    pg_session.execute(text("UPDATE page SET made = 0"))
    statement = pg_insert(Page.__table__).values([{"id": 1, "n": 1}, {"id": 2, "n": 1}])
    pg_session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"], set_={"n": statement.excluded.n}
        )
    )
    pg_session.commit()
    assert stored(Page) == [(1, 1, 0, 1), (2, 1, 1, None)]


@pytest.mark.parametrize(
    "condition",
    [
        AnyChange(exclude=["seen", "at"]),
        AnyChange("text"),
        old.text != new.text,
        lambda old, new: old.text.is_distinct_from(new.text),
        text("OLD.text IS DISTINCT FROM NEW.text -- and no more"),
    ],
)
def test_only_changes_that_meet_the_condition_touch(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    condition: Any,
) -> None:
    @attach(Touch("at", value=literal(THEN), condition=condition))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(default="a")
        seen: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    one.seen = 1
    pg_session.flush()
    assert one.at is None
    one.text = "b"
    pg_session.flush()
    assert one.at == THEN


def test_a_condition_on_both_fits_both() -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("at", DateTime),
    )
    with pytest.raises(ConditionError, match=r"INSERT uses old\.id"):
        attach(Touch("at", operation=Insert | Update, condition=old.id > 1))(thing)
    attach(Touch("at", operation=Insert | Update, condition=new.id > 1))(thing)


@pytest.mark.parametrize(
    ("type_", "sql"),
    [
        (types.Date(), "CURRENT_DATE"),
        (types.Time(), "LOCALTIME"),
        (types.DateTime(), "LOCALTIMESTAMP"),
        (types.DateTime(timezone=True), "now()"),
    ],
)
def test_any_column_of_a_time_is_touched(
    pg_engine: Engine, type_: Any, sql: str
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("at", type_),
    )
    attach(Touch("at"))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1))
        connection.execute(update(thing).values(id=2))
        assert connection.scalar(text(f"SELECT at = {sql} FROM thing")) is True


@pytest.mark.parametrize(
    ("arguments", "column", "message"),
    [
        ({}, Column("at", Integer), "Touch sets a time"),
        ({}, Column("at", DateTime, Computed("1", persisted=True)), "is generated"),
        ({}, Column("at", DateTime, primary_key=True), "of the primary key"),
        ({"value": literal(object())}, Column("at", DateTime), "cannot be written"),
        ({"value": THEN}, Column("at", DateTime), "value is an SQL expression"),
        ({"operation": Delete}, Column("at", DateTime), "operation is Update"),
        ({"operation": UpdateOf("id")}, Column("at", DateTime), "operation is Update"),
        ({"operation": "update"}, Column("at", DateTime), "operation is Update"),
    ],
)
def test_bad_touches_are_refused_at_once(
    arguments: dict[str, Any], column: Column[Any], message: str
) -> None:
    thing = Table("thing", MetaData(), Column("id", Integer, primary_key=True), column)
    with pytest.raises(DefinitionError, match=message):
        attach(Touch("at", **arguments))(thing)


def test_a_new_row_may_have_a_time_in_its_key(
    pg_engine: Engine, stored: Stored
) -> None:
    thing = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("at", DateTime(timezone=True), primary_key=True),
    )
    attach(Touch("at", value=literal(THEN), operation=Insert))(thing)
    thing.metadata.create_all(pg_engine)
    with pg_engine.begin() as connection:
        connection.execute(insert(thing).values(id=1))
    assert stored(thing) == [(1, THEN)]


# With others on the same table


@pytest.mark.parametrize(("first", "seen"), [("versioned", 1), ("touch", 0)])
def test_triggers_run_in_the_order_of_their_names(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_session: Session,
    first: str,
    seen: int,
) -> None:
    touch = "b" if first == "versioned" else "a"
    versioned = "a" if first == "versioned" else "b"

    @attach(
        Touch("seen", value=literal_column("NEW.version"), name=touch),
        Versioned("version", name=versioned),
    )
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(default="a")
        seen: Mapped[int | None]
        version: Mapped[int] = mapped_column(default=0)

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    one.text = "b"
    pg_session.flush()
    assert (one.version, one.seen) == (1, seen)


def test_generated_columns_and_types_without_equality_are_no_obstacle(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(Versioned("version"), Touch("at", value=literal(THEN)))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        data: Mapped[Any] = mapped_column(JSON)
        n: Mapped[int] = mapped_column(default=1)
        twice: Mapped[int] = mapped_column(Computed("n * 2", persisted=True))
        version: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()
    one = Page(id=1, data={"a": 1})
    pg_session.add(one)
    pg_session.flush()
    pg_session.execute(text("UPDATE page SET n = 1, data = data"))
    pg_session.refresh(one)
    assert (one.version, one.at) == (0, None)
    one.n = 2
    with sent(pg_session) as words:
        pg_session.flush()
        assert (one.version, one.at, one.twice) == (1, THEN, 4)
        one.data = {"a": 2}
        pg_session.flush()
        assert (one.version, one.twice) == (2, 4)
    assert words == ["UPDATE", "UPDATE"]


# A search_path of the caller's


@pytest.mark.parametrize("path", ["''", "elsewhere", "elsewhere, pg_catalog"])
def test_no_search_path_of_the_caller_changes_what_they_do(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    pg_engine: Engine,
    path: str,
) -> None:
    @attach(Versioned("version"), Touch("at"))
    class Page(base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    create_all()
    statements = (
        "INSERT INTO page (id, version) VALUES (1, 0)",
        "CREATE SCHEMA elsewhere",
        "CREATE FUNCTION elsewhere.now() RETURNS timestamptz"
        " RETURN '1999-01-01'::timestamptz",
        "CREATE FUNCTION elsewhere.lie(integer, integer) RETURNS integer RETURN 40",
        "CREATE FUNCTION elsewhere.lie_b(integer, integer) RETURNS boolean RETURN true",
        "CREATE OPERATOR elsewhere.+"
        " (FUNCTION = elsewhere.lie, LEFTARG = integer, RIGHTARG = integer)",
        "CREATE OPERATOR elsewhere.="
        " (FUNCTION = elsewhere.lie_b, LEFTARG = integer, RIGHTARG = integer)",
        f"SET LOCAL search_path = {path}",
        "UPDATE public.page SET id = 2",
    )
    with pg_engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        found = connection.execute(
            text(
                "SELECT version, at OPERATOR(pg_catalog.=) pg_catalog.now()"
                " FROM public.page"
            )
        )
        assert found.one() == (1, True)
        with pytest.raises(ReadOnlyError):
            connection.execute(text("UPDATE public.page SET version = 7"))


# Inheritance


def test_a_change_in_the_table_of_a_subclass_is_none_of_the_base(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    @attach(Versioned("version"), Touch("at", value=literal(THEN)))
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str] = mapped_column(default="a")
        version: Mapped[int] = mapped_column(default=0)
        at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    class Dog(Animal):
        __tablename__ = "dog"
        __mapper_args__ = {"polymorphic_identity": "dog"}
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        bark: Mapped[str] = mapped_column(default="wow")

    class Cat(Animal):
        __mapper_args__ = {"polymorphic_identity": "cat"}

    create_all()
    dog, cat = Dog(id=1), Cat(id=2)
    pg_session.add_all([dog, cat])
    pg_session.flush()
    with sent(pg_session) as words:
        dog.bark = "wuff"
        pg_session.flush()
        assert (dog.version, dog.at) == (0, None)
        dog.name = cat.name = "b"
        pg_session.flush()
        assert (dog.version, dog.at) == (1, THEN)
        assert (cat.version, cat.at) == (1, THEN)
    assert set(words) == {"UPDATE"}


def test_the_table_of_a_subclass_may_have_its_own(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="a")

    @attach(Versioned("version"))
    class Dog(Animal):
        __tablename__ = "dog"
        dog_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        bark: Mapped[str] = mapped_column(default="wow")
        version: Mapped[int] = mapped_column(default=0)

    create_all()
    dog = Dog(id=1)
    pg_session.add(dog)
    pg_session.flush()
    with sent(pg_session) as words:
        dog.name = "b"
        pg_session.flush()
        assert dog.version == 0
        dog.bark = "wuff"
        pg_session.flush()
        assert dog.version == 1
    assert words == ["UPDATE", "UPDATE"]


def test_a_class_that_is_mapped_to_the_table_later_sees_the_values_too(
    base: type[DeclarativeBase], create_all: Callable[[], None], in_session: InSession
) -> None:
    table = Table(
        "page",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("text", Text),
        Column("version", Integer, default=0),
    )
    attach(Versioned("version"))(table)

    class Page(base):  # type: ignore[misc, valid-type]
        __table__ = table

    create_all()

    def work(session: Session) -> None:
        one = Page(id=1)
        session.add(one)
        session.flush()
        one.text = "b"
        with sent(session) as words:
            session.flush()
            assert one.version == 1
        assert words == ["UPDATE"]

    in_session(work)


def test_two_classes_of_one_table_both_see_the_values(
    page: Any, base: type[DeclarativeBase], pg_session: Session
) -> None:
    class Draft(base):  # type: ignore[misc, valid-type]
        __table__ = page.__table__

    one = Draft(id=1, text="a", touched_at=THEN.replace(year=1999))
    pg_session.add(one)
    pg_session.flush()
    one.text, one.touched_at = "b", None
    with sent(pg_session) as words:
        pg_session.flush()
        assert (one.version, one.touched_at) == (1, THEN)
    assert words == ["UPDATE", "SELECT"]


def test_a_class_body_may_name_them(
    base: type[DeclarativeBase], create_all: Callable[[], None], pg_session: Session
) -> None:
    class Page(HistoryMixin, base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        __history__ = None
        __triggers__ = (Versioned("version"), Touch("at", value=literal("x")))
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column(default=0)
        at: Mapped[str] = mapped_column(default="a")

    create_all()
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    one.at = "b"
    with sent(pg_session) as words:
        pg_session.flush()
        assert (one.version, one.at) == (1, "x")
    assert words == ["UPDATE", "SELECT"]


# Coming and going


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


# Any trigger that writes


@pytest.fixture
def user(base: type[DeclarativeBase], create_all: Callable[[], None]) -> Any:
    """A model with a trigger that changes what is written."""

    @attach(
        Trigger(
            "lower",
            "before",
            Insert | Update,
            body="NEW.email = lower(NEW.email); NEW.domain = split_part(NEW.email,"
            " '@', 2); RETURN NEW;",
            writes=["email", "domain"],
        )
    )
    class User(base):  # type: ignore[misc, valid-type]
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str]
        domain: Mapped[str]
        name: Mapped[str | None]

    create_all()
    return User


def test_a_flush_returns_what_any_trigger_wrote(
    user: Any, in_session: InSession
) -> None:
    def work(session: Session) -> None:
        ann, ben = user(id=1, email="ANN@A.ORG"), user(id=2, email="BEN@B.ORG")
        session.add_all([ann, ben])
        session.flush()
        assert (ann.email, ann.domain) == ("ann@a.org", "a.org")
        assert (ben.email, ben.domain) == ("ben@b.org", "b.org")
        ann.email = "ANN@C.ORG"
        ben.name = "Ben"
        session.flush()
        assert (ann.email, ann.domain) == ("ann@c.org", "c.org")
        assert (ben.email, ben.domain, ben.name) == ("ben@b.org", "b.org", "Ben")
        assert not session.dirty
        session.commit()
        assert (ann.email, ann.domain) == ("ann@c.org", "c.org")

    in_session(work)


def test_an_object_of_a_flush_that_failed_keeps_what_was_set(
    user: Any, pg_session: Session
) -> None:
    pg_session.add(user(id=1, email="ANN@A.ORG"))
    pg_session.commit()
    again = user(id=1, email="ANN@A.ORG")
    pg_session.add(again)
    with pytest.raises(IntegrityError):
        pg_session.flush()
    pg_session.rollback()
    assert again.email == "ANN@A.ORG"
    again.id = 2
    pg_session.add(again)
    pg_session.commit()
    assert again.email == "ann@a.org"
