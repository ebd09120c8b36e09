"""Objects have the values that triggers wrote, after the flush and without a SELECT."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    Column,
    DateTime,
    DefaultClause,
    Engine,
    FetchedValue,
    Integer,
    Table,
    Text,
    func,
    inspect,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
)

from sa_history import Insert, Touch, Trigger, Update, Versioned, attach
from tests.triggers.statements import sent
from tests.triggers.versioned_touch.helpers import THEN

InSession = Callable[[Callable[[Session], Any]], Any]


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
