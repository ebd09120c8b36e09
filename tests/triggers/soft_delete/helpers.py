"""Models, values and states that tests of soft deletion share."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

from sqlalchemy import ForeignKey, Integer, TypeDecorator, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sa_history import SoftDelete, attach

THEN = datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
"""When a row was marked, long ago."""


class Cents(TypeDecorator[decimal.Decimal]):
    """Amounts that are stored in cents."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else decimal.Decimal(value) / 100

    @property
    def python_type(self) -> type[Any]:
        return decimal.Decimal


def family(
    base: type[DeclarativeBase],
    soft: str,
    ondelete: str | None,
    condition: Any = None,
) -> tuple[Any, Any]:
    """A parent and its children; one of them is ``soft``."""

    class Parent(base):  # type: ignore[misc, valid-type]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_active: Mapped[bool] = mapped_column(default=True)

    class Child(base):  # type: ignore[misc, valid-type]
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("parent.id", ondelete=ondelete)
        )
        is_active: Mapped[bool] = mapped_column(default=True)

    model = Parent if soft == "parent" else Child
    attach(SoftDelete("is_active", condition=condition))(model)
    return Parent, Child


def add_family(session: Session, parent: Any, child: Any) -> None:
    session.add_all([parent(id=1), parent(id=2)])
    session.flush()
    session.add_all([child(id=1, parent_id=1), child(id=2, parent_id=2)])
    session.add(child(id=3))
    session.commit()


def states(obj: object) -> set[str]:
    """The states of an object that hold."""
    state: Any = inspect(obj)
    names = ("transient", "pending", "persistent", "deleted", "detached")
    return {name for name in names if getattr(state, name)}


def make_family(
    base: type[DeclarativeBase],
    *soft: str,
    cascade: str = "save-update, merge",
    ondelete: str | None = None,
    back: bool = True,
) -> tuple[Any, Any]:
    """A parent and its children, where rows of the named tables are marked."""

    class Parent(base):  # type: ignore[misc, valid-type]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="a")
        is_active: Mapped[bool] = mapped_column(default=True)
        children = relationship(
            "Child",
            cascade=cascade,
            order_by="Child.id",
            back_populates="parent" if back else None,
        )

    class Child(base):  # type: ignore[misc, valid-type]
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="a")
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("parent.id", ondelete=ondelete)
        )
        is_active: Mapped[bool] = mapped_column(default=True)
        if back:
            parent = relationship("Parent", back_populates="children")

    for model in (Parent, Child):
        if model.__tablename__ in soft:
            attach(SoftDelete("is_active"))(model)
    return Parent, Child
