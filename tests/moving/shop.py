"""The tables of a shop, and what is done to them, for each of the libraries."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    Select,
    String,
    Table,
    Text,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


def define(base: Any, versioned: dict[str, Any]) -> tuple[Any, Any]:
    """Return the classes Product and Review of a declarative base."""
    product_tag = Table(
        "product_tag",
        base.metadata,
        Column("product_id", ForeignKey("product.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
    )

    class Tag(base):
        __tablename__ = "tag"
        vars().update(versioned)

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class Product(base):
        __tablename__ = "product"
        vars().update(versioned)

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(40))
        price: Mapped[decimal.Decimal] = mapped_column(Numeric(12, 4))
        sold_at: Mapped[datetime.datetime | None] = mapped_column(
            DateTime(timezone=True)
        )
        extra: Mapped[dict[str, Any]] = mapped_column(JSONB)
        sizes: Mapped[list[int]] = mapped_column(ARRAY(Integer))
        tags: Mapped[list[Any]] = relationship(Tag, secondary=product_tag)

    class Review(base):
        __tablename__ = "review"
        vars().update(versioned)

        # A key of two columns.
        product_id: Mapped[int] = mapped_column(
            ForeignKey("product.id"), primary_key=True
        )
        number: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(Text)

    return Product, Review


class Empty(DeclarativeBase):
    """Models that nobody has imported."""


NAMES = ["tag", "product", "review", "product_tag"]


class Shop:
    """What is done in the shop, one transaction after another."""

    def __init__(self, product: Any, review: Any) -> None:
        self.product, self.review = product, review
        self.tag = product.tags.property.mapper.class_

    def transactions(self) -> Iterator[tuple[str | None, Callable[[Session], None]]]:
        """Yield the users and what they do; the first has none."""
        yield None, self.open
        yield "7", self.sell
        yield "8", self.clear
        yield "7", self.reopen

    def open(self, session: Session) -> None:
        def product(id: int, name: str, **values: Any) -> Any:
            return self.product(
                id=id, name=name, price=decimal.Decimal("1.5"), **values
            )

        tag = self.tag(id=1, name="new")
        tea = product(1, "té", extra={"a": [1, None]}, sizes=[1, 2], tags=[tag])
        session.add_all([tea, product(2, "it's", extra={}, sizes=[])])
        session.add(product(3, "100 %", extra={"b": "\\"}, sizes=[3]))

    def sell(self, session: Session) -> None:
        tea = session.get_one(self.product, 1)
        tea.price = decimal.Decimal("123456.7891")
        tea.sold_at = datetime.datetime(
            2026, 1, 2, 3, 4, 5, 678901, datetime.timezone.utc
        )
        tea.tags = []
        session.add(self.review(product_id=1, number=1, text="good"))
        session.add(self.review(product_id=1, number=2, text="bad"))

    def clear(self, session: Session) -> None:
        session.delete(session.get_one(self.product, 2))
        session.delete(session.get_one(self.review, (1, 2)))
        session.get_one(self.product, 3).extra = {"c": 1.25}

    def reopen(self, session: Session) -> None:
        session.add(
            self.product(id=2, name="again", price=2, extra={"d": "é"}, sizes=[4])
        )
        session.get_one(self.review, (1, 1)).text = "better"


def rows(session: Session, statement: Select[Any]) -> list[str]:
    """Return what a statement returns as text, in which 1.5 and 1.5000 differ."""
    return sorted(repr(list(row)) for row in session.execute(statement))


def state(session: Session, metadata: MetaData) -> dict[str, list[str]]:
    """Return the rows of all tables."""
    return {name: rows(session, select(metadata.tables[name])) for name in NAMES}
