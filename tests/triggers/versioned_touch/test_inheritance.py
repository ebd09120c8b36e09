"""Versioned and Touch of classes that join tables or share them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, DateTime, ForeignKey, Integer, Table, Text, literal
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_history import HistoryMixin, Touch, Versioned, attach
from tests.triggers.statements import sent
from tests.triggers.versioned_touch.helpers import THEN

InSession = Callable[[Callable[[Session], Any]], Any]


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
