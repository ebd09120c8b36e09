"""Versioned: who sets the version, and lost updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Engine,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    insert,
    text,
    types,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import DataError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

import sa_history as history
from sa_history import Touch, Versioned, attach, new
from sa_history.exc import DefinitionError, ReadOnlyError
from tests.triggers.statements import sent
from tests.triggers.versioned_touch.helpers import THEN

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


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
    "way",
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
    pages: Any, pg_session: Session, stored: Stored, way: Callable[..., None]
) -> None:
    with pytest.raises(ReadOnlyError) as caught:
        way(pg_session, pages)
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
        pytest.raises(DataError, match="NumericValueOutOfRange"),
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
        session.connection(execution_options={"isolation_level": "READ COMMITTED"})
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
