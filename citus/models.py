"""The models that several modules of tests have in common."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_history import track


class Distributed(DeclarativeBase):
    """Tables whose rows are on all nodes."""


class Sharded(DeclarativeBase):
    """Tables of a sharded schema."""


class OneTenant(DeclarativeBase):
    """Tables of a sharded schema that the oracle of sharded schemas writes to."""


class Row:
    """A row of a tenant."""

    tenant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int] = mapped_column(server_default="0")
    note: Mapped[str | None]


class RowOfOneTenant:
    """A row, whose schema says of which tenant it is."""

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]
    note: Mapped[str]


@track(context="inline", distribute="tenant")
class Account(Row, Distributed):
    __tablename__ = "account"


@track(level="row", context="inline", distribute="tenant")
class Item(Row, Distributed):
    __tablename__ = "item"


@track(distribute=True)
class Order(Row, Sharded):
    __tablename__ = "orders"


@track(level="row", distribute=True)
class Part(Row, Sharded):
    __tablename__ = "part"


@track(distribute=True)
class OwnAccount(RowOfOneTenant, OneTenant):
    __tablename__ = "account"


@track(level="row", distribute=True)
class OwnEntry(RowOfOneTenant, OneTenant):
    __tablename__ = "entry"


@track(distribute=True, context="inline")
class OwnPart(RowOfOneTenant, OneTenant):
    __tablename__ = "part"


@track(level="row", distribute=True, context="inline")
class OwnItem(RowOfOneTenant, OneTenant):
    __tablename__ = "item"
