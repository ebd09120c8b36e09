"""Keys and kinds of mapped classes."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, Table, func
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    relationship,
)

from sa_history import SoftDelete, attach, old
from tests.triggers.soft_delete.helpers import Cents

Stored = Callable[..., list[tuple[Any, ...]]]
InSession = Callable[[Callable[[Session], Any]], Any]


def test_composite_keys_of_any_type_find_the_row(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("active", condition=old.row != "c"))
    class Seat(base):  # type: ignore[misc, valid-type]
        __tablename__ = "Seat %"
        row: Mapped[str] = mapped_column('ro"w', primary_key=True)
        price: Mapped[decimal.Decimal] = mapped_column("p 1", Cents, primary_key=True)
        active: Mapped[bool] = mapped_column("is active", default=True)

    create_all()
    half = decimal.Decimal("0.5")

    def work(session: Session) -> None:
        seats = [Seat(price=half, row=row) for row in ("a'", "b", "c")]
        session.add_all(seats)
        session.commit()
        session.delete(seats[0])
        session.delete(seats[2])
        session.commit()
        assert seats[0].active is False

    in_session(work)
    assert stored(Seat) == [("a'", half, False), ("b", half, True)]


def test_a_key_that_only_the_mapper_knows_is_no_obstacle(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    stored: Stored,
) -> None:
    @attach(SoftDelete("is_active"))
    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column()
        is_active: Mapped[bool] = mapped_column(default=True)
        __mapper_args__ = {"primary_key": [email]}

    create_all()

    def work(session: Session) -> None:
        ann = Account(id=1, email="a")
        session.add_all([ann, Account(id=2, email="b")])
        session.commit()
        session.delete(ann)
        session.commit()

    in_session(work)
    assert stored(Account) == [(1, "a", False), (2, "b", True)]


def test_dataclasses_are_marked(pg_session: Session, pg_engine: Engine) -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    @attach(SoftDelete("deleted_at", value=func.now()))
    class Page(Base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        deleted_at: Mapped[datetime.datetime | None] = mapped_column(init=False)

    Base.metadata.create_all(pg_engine)
    one = Page(id=1)
    pg_session.add(one)
    pg_session.flush()
    assert one.deleted_at is None
    pg_session.delete(one)
    pg_session.flush()
    assert isinstance(one.deleted_at, datetime.datetime)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_class_that_is_mapped_to_a_table_has_its_marks(
    base: type[DeclarativeBase],
    create_all: Callable[[], None],
    in_session: InSession,
    when: str,
) -> None:
    table = Table(
        "child",
        base.metadata,
        Column("id", Integer, primary_key=True),
        Column("is_active", Integer, default=1),
        Column("parent_id", ForeignKey("parent.id")),
    )
    if when == "before":
        attach(SoftDelete("is_active", value=0))(table)

    class Child:
        id: int
        is_active: int

    base.registry.map_imperatively(Child, table)
    if when == "after":
        attach(SoftDelete("is_active", value=0))(table)

    class Parent(base):  # type: ignore[misc, valid-type]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children = relationship(Child, cascade="all, delete-orphan")

    create_all()

    def work(session: Session) -> None:
        one = Child()
        one.id = 1
        parent = Parent(id=1, children=[one])
        session.add(parent)
        session.commit()
        session.delete(one)
        session.flush()
        assert one.is_active == 0
        one.is_active = 1
        session.commit()
        parent.children.clear()
        session.commit()
        assert one.is_active == 0

    in_session(work)
