"""A program with models that inherit ``HistoryMixin``."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import assert_type

import sa_history as history
from sa_history import (
    AfterUpdate,
    AggregateEvent,
    Event,
    Events,
    HistoryMixin,
    Protect,
    Snapshot,
    Update,
    new,
)


class Base(DeclarativeBase):
    pass


class Account(HistoryMixin, Base):
    __tablename__ = "account"
    __history__ = (Snapshot, AfterUpdate(new.balance < 0, label="low"))
    __history_options__ = {"append_only": True}
    __triggers__ = (Protect(Update),)

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class TrackedBase(HistoryMixin, DeclarativeBase):
    """The base of models that are all tracked."""


class Order(TrackedBase):
    __tablename__ = "order"

    id: Mapped[int] = mapped_column(primary_key=True)


class Cache(TrackedBase):
    __tablename__ = "cache"
    __history__ = None

    id: Mapped[int] = mapped_column(primary_key=True)


def events(session: Session, account: Account, order: Order) -> None:
    assert_type(Account.events, Events[Event])
    assert_type(account.events, Events[Event])
    assert_type(Account.events.model, type[Event])
    assert_type(Order.events, Events[Event])
    assert_type(session.scalars(order.events.select()).all(), Sequence[Event])
    for event in session.scalars(account.events.where(Account.events.balance < 0)):
        assert_type(event, Event)
        print(event.balance)
        print(event.pgh_label + 1)  # error
    orders: Sequence[Order] = session.scalars(order.events.select()).all()  # error
    print(orders)


def a_list(session: Session, order: Order) -> list[Order]:
    return list(session.scalars(order.events.select()))  # error: not mypy


def functions(session: Session, account: Account, order: Order) -> None:
    session.execute(AggregateEvent.select(account, order, TrackedBase))
    assert_type(history.events(account), Events[Event])
    with history.context(session, user=7), history.ignore(session, Account, "events"):
        history.undo(session, Account, TrackedBase, transaction=7)
    history.undo(session, account, transaction=7)  # error


def definitions() -> None:
    class Wrong(HistoryMixin, Base):  # pyright: ignore[reportUnusedClass]
        __tablename__ = "wrong"
        __history__ = ("Snapshot",)  # error
