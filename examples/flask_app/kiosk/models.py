"""Users, products, tags, and orders with their items. All of it is tracked."""

from __future__ import annotations

import datetime
import os
from decimal import Decimal
from typing import Any

from flask_login import UserMixin
from sqlalchemy import Column, DateTime, ForeignKey, Numeric, Table, select
from sqlalchemy.orm import Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from kiosk.extensions import Base, db, login
from sa_history import track

STATUSES = ("new", "paid", "sent", "returned", "cancelled")

# A shop of this size needs no partitions. With "month" its history can be archived, as
# examples/archive does; a migration has to follow.
PARTITION_BY: Any = os.environ.get("KIOSK_PARTITION_BY")


# Who looked in last is no change of the user.
@track(exclude=["seen_at"], partition_by=PARTITION_BY)
class User(UserMixin, Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(default=False)
    seen_at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))

    def __str__(self) -> str:
        return self.name

    def get_id(self) -> str:
        """Return what the session cookie has, and the history as ``user``."""
        return self.name

    def set_password(self, password: str) -> None:
        self.password_hash = generate_password_hash(password)

    def has_password(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)


@login.user_loader
def load_user(name: str) -> User | None:
    return db.session.scalar(select(User).filter_by(name=name))


@track(partition_by=PARTITION_BY)
class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))

    def __str__(self) -> str:
        return self.name


# An association table is tracked like a model: who put which tag on which order.
order_tag = Table(
    "order_tag",
    Base.metadata,
    Column("order_id", ForeignKey("orders.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)
track(partition_by=PARTITION_BY)(order_tag)


@track(partition_by=PARTITION_BY)
class Tag(Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    def __str__(self) -> str:
        return self.name


@track(partition_by=PARTITION_BY)
class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    address: Mapped[str]
    status: Mapped[str] = mapped_column(default="new")
    note: Mapped[str] = mapped_column(default="", server_default="")
    items: Mapped[list[Item]] = relationship(
        back_populates="order", cascade="all, delete-orphan", order_by="Item.id"
    )
    tags: Mapped[list[Tag]] = relationship(secondary=order_tag, order_by=Tag.name)

    def __str__(self) -> str:
        return f"{self.id}, {self.customer}"

    @property
    def total(self) -> Decimal:
        return sum((item.price * item.quantity for item in self.items), Decimal())


@track(partition_by=PARTITION_BY)
class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    quantity: Mapped[int]
    # What was agreed on, whatever the product costs now.
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    order: Mapped[Order] = relationship(back_populates="items")
    product: Mapped[Product] = relationship()
